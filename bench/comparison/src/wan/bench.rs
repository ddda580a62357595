//! One cell: its contenders in turn, each with everything made anew.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, process::parent_id},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::sys::stat::{Mode, umask};

use super::{
    cells::{Cell, Contender, Setting, Through},
    congestion,
    emulator::Emulator,
    ground::{self, Ground},
    pair::{DIRECT, FRONT, Pair, SERVER},
    report::{Found, Measured},
    seen::Seen,
    stream::{self, Route, Stream},
};
use crate::{cli::Options, complain, namespace};

/// Between two looks at a stream.
const LOOK: Duration = Duration::from_millis(50);
/// How much longer than it should a stream may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What every cell needs.
#[derive(Debug)]
pub(super) struct Bench {
    /// A copy that whoever has no privileges may read as well.
    pub(super) sekisho: PathBuf,
    /// Configurations, keys and logs, where they can be read without privileges too.
    folder: PathBuf,
    /// Where configurations and logs stay.
    keep: Option<PathBuf>,
    pub(super) seconds: u32,
}

impl Bench {
    pub(super) fn new(options: &Options, scratch: &Path) -> anyhow::Result<Self> {
        // What is made from here on, the user nobody reads too.
        umask(Mode::from_bits_truncate(0o022));
        let sekisho = scratch.join("sekisho");
        let program = ground::find(&options.sekisho)?;
        fs::copy(&program, &sekisho).with_context(|| program.display().to_string())?;
        fs::set_permissions(&sekisho, Permissions::from_mode(0o755))?;
        if let Some(keep) = &options.keep {
            fs::create_dir_all(keep).with_context(|| keep.display().to_string())?;
        }
        Ok(Self {
            sekisho,
            folder: scratch.join("runs"),
            keep: options.keep.clone(),
            seconds: options
                .seconds
                .unwrap_or(if options.quick { 3 } else { 60 }),
        })
    }

    /// Measures all of a cell; what fails is told in its row.
    pub(super) fn cell(&self, cell: &Cell) -> Measured {
        let mut outcomes = Vec::new();
        for (number, contender) in cell.contenders.iter().enumerate() {
            let name = format!("{}-{}", cell.folder(), number + 1);
            let folder = self.folder.join(&name);
            let outcome = self.measure(cell, contender, &folder);
            if let Some(keep) = &self.keep
                && let Err(error) = copy(&folder, &keep.join(&name))
            {
                complain(format_args!("--keep: {error:#}"));
            }
            let (cell, who) = (cell.name(), &contender.name);
            match &outcome {
                Ok(found) => complain(format_args!(
                    "{cell}: {who}: {:.3} Gb/s",
                    found.rates.steady
                )),
                Err(error) => complain(format_args!("{cell}: {who}: {error:#}")),
            }
            outcomes.push(outcome);
        }
        Measured::new(cell, outcomes)
    }

    /// Makes everything anew, sends, and takes everything down.
    fn measure(&self, cell: &Cell, contender: &Contender, folder: &Path) -> anyhow::Result<Found> {
        let load_average = ground::load_average();
        congestion::allow(contender.bbr_allowed)?;
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let (large, congestion) = match contender.through {
            Through::Direct { large, congestion } => (large, congestion),
            Through::Sekisho(_) => (false, namespace::CONGESTION),
        };
        let ground = Ground::make(ground::names(parent_id()), large)?;
        let emulator = Emulator::start(&self.sekisho, &ground, &cell.line, folder)?;
        let mut pair = self.pair(contender, &ground, folder)?;
        let (listen, target) = match &pair {
            Some(_) => (SERVER, FRONT),
            None => (DIRECT, DIRECT),
        };
        let route = Route {
            name: "stream",
            listen,
            target,
            congestion,
        };
        let mut streams = vec![Stream::listen(&ground, folder, route, self.seconds)?];
        if cell.beside {
            let mut listen = DIRECT;
            listen.set_port(DIRECT.port() + 1);
            let beside = Route {
                name: "beside",
                listen,
                target: listen,
                congestion: namespace::CONGESTION,
            };
            streams.push(Stream::listen(&ground, folder, beside, self.seconds)?);
        }
        let (proxies, line) = (cpu(pair.as_ref())?, emulator.running.cpu()?);
        let begun = Instant::now();
        let seen = self.send(&mut streams, pair.as_mut(), contender, &ground)?;
        let passed = begun.elapsed().as_secs_f64();
        let cores = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64() / passed;
        let cpu_proxies = cpu(pair.as_ref())?.zip(proxies);
        let cpu_emulator = cores(line, emulator.running.cpu()?);
        let mut rates = streams.into_iter().map(Stream::rates);
        let main = rates.next().context("no stream")??;
        let beside = rates.next().transpose().context("the stream beside it")?;
        drop(rates);
        if let Some(pair) = &mut pair {
            pair.alive()?;
        }
        drop(pair);
        let emulator = emulator.end()?;
        Ok(Found {
            rates: main,
            beside,
            cpu_proxies: cpu_proxies.map(|(to, from)| cores(from, to)),
            cpu_emulator,
            emulator,
            seen,
            load_average,
        })
    }

    fn pair(
        &self,
        contender: &Contender,
        ground: &Ground,
        folder: &Path,
    ) -> anyhow::Result<Option<Pair>> {
        let start = |setting: Setting| Pair::start(&self.sekisho, setting, ground, folder);
        match contender.through {
            Through::Direct { .. } => Ok(None),
            Through::Sekisho(setting) => start(setting).map(Some),
        }
    }

    /// Sends all streams at the same time, until the last has ended; looks at the pair each second.
    fn send(
        &self,
        streams: &mut [Stream],
        mut pair: Option<&mut Pair>,
        contender: &Contender,
        ground: &Ground,
    ) -> anyhow::Result<Vec<Seen>> {
        let begun = Instant::now();
        for stream in &mut *streams {
            stream.begin()?;
        }
        let most = Duration::from_secs(self.seconds.into()) + PATIENCE;
        let warm = stream::warm_up(self.seconds);
        let mut seen = Vec::new();
        let mut next = Duration::from_secs_f64(warm);
        loop {
            let mut is_over = true;
            for stream in &mut *streams {
                is_over &= stream.is_over()?;
            }
            if contender.is_restricted() {
                congestion::check(contender.bbr_allowed)?;
            }
            if is_over {
                return Ok(seen);
            }
            let passed = begun.elapsed();
            if passed > most {
                bail!(
                    "the stream has not ended {} s after it should",
                    PATIENCE.as_secs()
                );
            }
            // Not at the very end, when nothing may be there any more.
            if passed >= next && passed.as_secs_f64() + 0.3 < self.seconds.into() {
                if let Some(pair) = pair.as_mut() {
                    pair.alive()?;
                    seen.extend(pair.seen(ground)?);
                }
                next += Duration::from_secs(1);
            }
            thread::sleep(LOOK);
        }
    }
}

/// Copies the files of a folder, but not the keys below it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))
                .with_context(|| to.display().to_string())?;
        }
    }
    Ok(())
}

fn cpu(pair: Option<&Pair>) -> anyhow::Result<Option<Duration>> {
    pair.map(Pair::cpu).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_no_keys() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::create_dir_all(from.join("near")).unwrap();
        fs::write(from.join("near.log"), "a").unwrap();
        fs::write(from.join("near/key"), "b").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("near.log")).unwrap(), "a");
        assert!(!to.join("near").exists());
        assert!(copy(&folder.path().join("gone"), &to).is_err());
    }
}
