//! The run: cell after cell, and in each the contenders in turn.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, process::parent_id},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    cells::{Cell, Contender, Setting, Through, cells, distances},
    congestion, ground,
    ground::{Emulator, Ground},
    pair::{DIRECT, FRONT, Pair, SERVER},
    report::{Found, Measured, Report},
    seen::Seen,
    stream::{self, Route, Stream},
    table,
};
use crate::{child::Program, cli::Options, complain, iperf3, machine::Machine, namespace, say};

/// Between two looks at a stream.
const LOOK: Duration = Duration::from_millis(50);
/// How much longer than it should a stream may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures all that was asked for, writes and prints it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    namespace::obey()?;
    let scratch = options.far.folder.as_deref();
    let scratch = scratch.context("--inside and --folder are set by this program alone")?;
    let bench = Bench::new(options, scratch)?;
    let mut machine = Machine::look()?;
    // In every namespace of the run, where it is read back.
    machine.congestion_control = namespace::CONGESTION.to_owned();
    for line in machine.lines() {
        complain(line);
    }
    let Bench { seconds, .. } = bench;
    let far = distances(&options.far.distances, options.quick);
    let all = cells(&options.far.cells, &far, options.quick);
    let report = Report {
        date: OffsetDateTime::now_utc()
            .truncate_to_second()
            .format(&Rfc3339)
            .unwrap_or_default(),
        machine,
        socket_limits: ground::socket_limits()?,
        sekisho: Program::new(&bench.sekisho, &["--version"]).first_line()?,
        load_program: iperf3::version()?,
        seconds,
        warm_up: stream::warm_up(seconds),
        cells: all.iter().map(|cell| bench.cell(cell)).collect(),
        goals: Vec::new(),
    }
    .judged();
    if let Some(out) = &options.out {
        report.write(out)?;
        complain(format_args!("written to {}", out.display()));
    }
    if options.json {
        say(format_args!("{:#}", serde_json::to_value(&report)?));
    } else {
        say(table::markdown(&report));
    }
    let failures: Vec<_> = report.failures().collect();
    for failure in &failures {
        complain(format_args!("not measured: {failure}"));
    }
    Ok(ExitCode::from(u8::from(!failures.is_empty())))
}

/// What every cell needs.
#[derive(Debug)]
struct Bench {
    /// A copy that whoever has no privileges may read as well.
    sekisho: PathBuf,
    /// Configurations, data and logs.
    folder: PathBuf,
    seconds: u32,
}

impl Bench {
    fn new(options: &Options, scratch: &Path) -> anyhow::Result<Self> {
        let sekisho = scratch.join("sekisho");
        let program = ground::find(&options.sekisho)?;
        fs::copy(&program, &sekisho).with_context(|| program.display().to_string())?;
        fs::set_permissions(&sekisho, Permissions::from_mode(0o755))?;
        let folder = options.keep.clone().unwrap_or_else(|| scratch.join("runs"));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self {
            sekisho,
            folder: folder.canonicalize()?,
            seconds: options
                .seconds
                .unwrap_or(if options.quick { 3 } else { 60 }),
        })
    }

    fn cell(&self, cell: &Cell) -> Measured {
        let mut outcomes = Vec::new();
        for (number, contender) in cell.contenders.iter().enumerate() {
            let name = format!("{}-{}", cell.folder(), number + 1);
            let outcome = self.measure(cell, contender, &self.folder.join(name));
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

fn cpu(pair: Option<&Pair>) -> anyhow::Result<Option<Duration>> {
    pair.map(Pair::cpu).transpose()
}
