//! `sekisho bench wan`: a path between two network namespaces, until it is told to end.

mod args;
mod show;

use std::{
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use anyhow::Context as _;
pub(crate) use args::WanArgs;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use sekisho_wan::{Emulator, Error, ceiling};

use crate::{cli, output};

/// How long each part of the ceiling is measured.
const CEILING: Duration = Duration::from_secs(3);

/// Does what was asked.
pub(super) fn wan(args: &WanArgs) -> anyhow::Result<u8> {
    match run(args) {
        Err(error) if is_invalid(&error) => {
            output::complain(format_args!("bench wan: {error:#}"));
            Ok(cli::INVALID)
        }
        outcome => outcome,
    }
}

fn is_invalid(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(Error::Settings(_) | Error::Addresses(_) | Error::Namespace { .. })
    )
}

fn run(args: &WanArgs) -> anyhow::Result<u8> {
    // Before threads are made, so that none of them gets one; and before namespaces are, so that
    // nothing is left behind.
    let signals = signals().context("signals")?;
    if args.ceiling {
        let found = ceiling::measure(args.mtu, args.time.unwrap_or(CEILING))?;
        if args.json {
            output::line(show::ceiling_json(&found, args.mtu));
        } else {
            output::line(show::ceiling(&found, args.mtu));
        }
        return Ok(cli::OK);
    }
    let plan = args.plan();
    plan.check()?;
    let emulator = Emulator::start(&plan)?;
    if args.json {
        output::line(show::start_json(&plan, &emulator));
    } else {
        output::line(show::start(&plan, &emulator));
    }
    let begin = Instant::now();
    let outcome = watch(args, &emulator, &signals, begin);
    tell(args, &emulator, begin, true);
    let stopped = emulator.stop();
    outcome?;
    stopped?;
    Ok(cli::OK)
}

fn signals() -> nix::Result<SignalFd> {
    let signals: SigSet = [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGUSR1,
    ]
    .into_iter()
    .collect();
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Until the time is over, a signal comes, or the path ends by itself.
fn watch(
    args: &WanArgs,
    emulator: &Emulator,
    signals: &SignalFd,
    begin: Instant,
) -> anyhow::Result<()> {
    let mut next = args.interval;
    loop {
        let passed = begin.elapsed();
        if args.time.is_some_and(|time| time <= passed) {
            return Ok(());
        }
        if let Some(due) = next.filter(|due| *due <= passed) {
            tell(args, emulator, begin, false);
            // At least a millisecond, or there would be nothing but counters.
            let interval = args.interval.unwrap_or_default();
            next = Some(due + interval.max(Duration::from_millis(1)));
            continue;
        }
        let due = args.time.into_iter().chain(next).min();
        let wait = due.map(|due| due.saturating_sub(passed) + Duration::from_millis(1));
        let wait = wait.map_or(PollTimeout::NONE, |wait| {
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        });
        let mut events = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(emulator.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut events, wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting"),
        }
        let [_, ended] = events;
        if ended.revents().is_some_and(|found| !found.is_empty()) {
            // Why it has, stopping it says.
            return Ok(());
        }
        while let Some(signal) = signals.read_signal().context("signals")? {
            if signal.ssi_signo != Signal::SIGUSR1 as u32 {
                return Ok(());
            }
            tell(args, emulator, begin, false);
        }
    }
}

fn tell(args: &WanArgs, emulator: &Emulator, begin: Instant, is_end: bool) {
    let told = show::Told {
        counters: emulator.counters(),
        unread: emulator.unread(),
        is_real_time: emulator.is_real_time(),
        time: begin.elapsed(),
        is_end,
    };
    if args.json {
        output::line(told.json());
    } else {
        output::line(told.text());
    }
}
