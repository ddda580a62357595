//! The run: loads one after the other, and for each the peers in turn, again and again, so that
//! what disturbs the machine disturbs all of them.

use std::{
    fs,
    io::{IsTerminal as _, Write as _},
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use sekisho_bench::{connections::probe, server};

use crate::{
    certificates::Certificates,
    child::Running,
    cli::{LoadProgram, Options},
    complain, iperf3,
    load::{Load, Metric, Proxies, Sample, Server},
    machine::Machine,
    peer::{BACK, FRONT, Peer, Place, SERVER, Setting},
    readme,
    report::{Cell, Party, Report},
    say, table,
};

/// How long a pair may take to relay one byte.
const PATIENCE: Duration = Duration::from_secs(2);
/// Until a pair that has started counts as empty.
const SETTLE: Duration = Duration::from_millis(500);

/// Measures all that was asked for, writes and prints it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    files()?;
    let machine = Machine::look()?;
    machine.announce();
    let temporary = tempfile::Builder::new()
        .prefix("sekisho-compare-")
        .tempdir()?;
    let folder = options.keep.as_deref().unwrap_or_else(|| temporary.path());
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let place = Place {
        folder: folder.canonicalize()?,
        certificates: Certificates::make(&folder.canonicalize()?)?,
    };
    let peers = Peer::of(options)?;
    let mut parties = Vec::new();
    for peer in &peers {
        let version = peer.version().with_context(|| {
            format!(
                "{}: is it installed? bench/install fetches it, --help says how to name it",
                peer.name
            )
        })?;
        parties.push(Party {
            name: peer.name.clone(),
            version,
            mtls: peer.is_mtls(),
        });
    }
    let load_program = match options.load_program {
        LoadProgram::Sekisho => concat!("sekisho bench ", env!("CARGO_PKG_VERSION")).to_owned(),
        LoadProgram::Iperf3 => iperf3::version()?,
    };
    let cells = measure(options, &peers, &place)?;
    let report = Report::new(options, machine, parties, load_program, cells);
    if let Some(out) = &options.out {
        report.write(out)?;
        complain(format_args!("written to {}", out.display()));
        if let Some(readme) = &options.readme {
            readme::fill(readme, out, &report)?;
            complain(format_args!("filled in {}", readme.display()));
        }
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

/// Open files that every peer has enough with.
const FILES: u64 = 100_000;

/// Allows so many open files, or as many as the host does, to this process and the proxies.
fn files() -> anyhow::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let enough = hard.max(FILES);
    setrlimit(Resource::RLIMIT_NOFILE, enough, enough)
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))
        .context("raising the limit of open files")
}

fn measure(options: &Options, peers: &[Peer], place: &Place) -> anyhow::Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for load in &options.loads {
        for workers in load.workers(options) {
            let setting = Setting {
                workers,
                resumption: *load == Load::Resume,
            };
            let takes = peers.iter().filter(|peer| peer.takes(*load));
            let mut row: Vec<_> = takes
                .map(|peer| (peer, Cell::new(*load, workers, &peer.name)))
                .collect();
            for repetition in 1..=options.repetitions() {
                for (peer, cell) in &mut row {
                    progress(&format!(
                        "{} {}/{}, {}, {workers} worker(s)",
                        load.name(),
                        repetition,
                        options.repetitions(),
                        peer.name
                    ));
                    match once(peer, *load, setting, place, options) {
                        Ok((sample, negotiated)) => cell.add(&sample, negotiated),
                        Err(error) => cell.fail(&format!("{error:#}")),
                    }
                }
            }
            cells.extend(row.into_iter().map(|(_, cell)| cell));
        }
    }
    progress("");
    Ok(cells)
}

/// What goes on, on a terminal only.
fn progress(text: &str) {
    let mut error = std::io::stderr();
    if error.is_terminal() {
        let _ = write!(error, "\r\u{1b}[K{text}");
        let _ = error.flush();
    }
}

/// Starts a pair, sends the load through it, ends it.
fn once(
    peer: &Peer,
    load: Load,
    setting: Setting,
    place: &Place,
    options: &Options,
) -> anyhow::Result<(Sample, String)> {
    let mut own = Some(server::Server::start(SERVER)?);
    let begun = Instant::now();
    let mut proxies = start(peer, setting, place)?;
    let started = begun.elapsed();
    let target = if peer.is_direct() { SERVER } else { FRONT };
    let by_iperf3 = options.load_program == LoadProgram::Iperf3 && load.is_stream();
    let server = if by_iperf3 {
        // It listens at the same address.
        own = None;
        Server::Iperf3(&place.folder)
    } else {
        Server::Own
    };
    let mut sample = load.run(target, proxies.as_ref(), options, server)?;
    let mut negotiated = String::new();
    if let Some(pair) = &mut proxies {
        if load == Load::Startup {
            thread::sleep(SETTLE);
            let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let (front, back) = (pair.front.memory()?, pair.back.memory()?);
            sample.insert(Metric::EmptyFront, mebibytes(front.resident));
            sample.insert(Metric::EmptyBack, mebibytes(back.resident));
            sample.insert(Metric::StartUp, started.as_secs_f64() * 1e3);
        }
        pair.front.alive().context("the front proxy")?;
        pair.back.alive().context("the back proxy")?;
        negotiated = peer.negotiated(&pair.back.log());
    }
    drop(proxies);
    drop(own);
    Ok((sample, negotiated))
}

/// Starts both proxies, and waits until a byte has gone through both.
fn start(peer: &Peer, setting: Setting, place: &Place) -> anyhow::Result<Option<Proxies>> {
    let Some(pair) = peer.pair(place, setting)? else {
        return Ok(None);
    };
    let log = |end: &str| place.folder.join(log_name(&peer.name, end));
    let run = |program, log: &Path| Running::start(program, log);
    let mut proxies = Proxies {
        back: run(&pair.back, &log("back"))?,
        front: run(&pair.front, &log("front"))?,
    };
    proxies.back.listens(BACK).context("the back proxy")?;
    proxies.front.listens(FRONT).context("the front proxy")?;
    let Proxies { front, back } = &mut proxies;
    let passed = front.until("a first byte through both proxies", |_| {
        probe(FRONT, PATIENCE).is_ok()
    });
    back.alive().context("the back proxy")?;
    passed.context("the front proxy")?;
    Ok(Some(proxies))
}

fn log_name(peer: &str, end: &str) -> String {
    let letter = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '-'
        }
    };
    let name: String = peer.chars().map(letter).collect();
    format!("{name}-{end}.log")
}
