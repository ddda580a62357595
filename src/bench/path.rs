//! `sekisho bench path`: what limits a stream to some host, and what lifts it.

mod args;
mod chart;
mod live;
mod show;

use std::{
    fs,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    path::Path,
};

use anyhow::Context as _;
pub(crate) use args::PathArgs;
use sekisho_bench::path::{
    Error, Measured, Plan, Sysctls, plot,
    verdict::{Limit, judge},
    watch::Watch,
};
use serde_json::json;

use crate::{cli, output};

/// Does what was asked.
pub(super) fn path(args: &PathArgs) -> anyhow::Result<u8> {
    let outcome = if args.watch {
        watch(args)
    } else {
        measure(args)
    };
    let error = match outcome {
        Ok(code) => return Ok(code),
        Err(error) => error,
    };
    let reason = error.downcast_ref().map_or("failed", Error::reason);
    if args.json {
        output::json(&json!({
            "mode": if args.watch { "watch" } else { "path" },
            "error": format!("{error:#}"),
            "reason": reason,
        }));
    } else {
        output::complain(format_args!("bench path: {error:#}"));
        let stands = "port 5201 of a host, or a gate that leads to it";
        if matches!(reason, "unreachable" | "not_a_server") {
            output::complain(format_args!(
                "there: sekisho bench server --listen ADDRESS:5201, or iperf3 -s; here: {stands}"
            ));
        }
    }
    Ok(cli::FAILED)
}

fn measure(args: &PathArgs) -> anyhow::Result<u8> {
    let address = super::resolve(&args.server)?;
    let plan = args.plan(address);
    let live = live::Live::new(plan.sender_is());
    if !args.json {
        output::line(live::Live::head());
    }
    let measured = plan.run(&|sample| {
        if let Some(line) = live.line(sample).filter(|_| !args.json) {
            output::line(line);
        }
    })?;
    let observed = measured.observed(&plan);
    let verdict = judge(&observed);
    let (end, samples) = measured.shown(&observed);
    let all = plot::series(samples, end, measured.sender_is);
    if args.json {
        output::json(&show::measured_json(&plan, &measured, &verdict));
    } else {
        output::line(show::measured(&plan, &measured, &verdict));
        if args.wants_chart() {
            output::line(chart::chart(&all));
        }
    }
    if let Some(file) = &args.plot {
        picture(file, &measured, &plan, &show::limit(&verdict), &all)?;
    }
    Ok(code(verdict.limit))
}

fn watch(args: &PathArgs) -> anyhow::Result<u8> {
    let found = args
        .server
        .to_socket_addrs()
        .with_context(|| format!("{}: expected HOST:PORT", args.server))?;
    let found: Vec<SocketAddr> = found.collect();
    let port = found.first().map_or(0, SocketAddr::port);
    let addresses: Vec<IpAddr> = found.iter().map(|one| one.ip().to_canonical()).collect();
    anyhow::ensure!(
        port != 0 && !addresses.is_empty(),
        "{}: nothing there",
        args.server
    );
    let plan = Watch {
        addresses,
        port,
        time: args.duration,
    };
    let live = live::Watching::default();
    let found = plan.run(|passed, count| {
        if let Some(line) = live.line(passed, count).filter(|_| !args.json) {
            output::line(line);
        }
    })?;
    let sysctls = Sysctls::read();
    let judged = found
        .iter()
        .map(|one| (one, judge(&one.observed(&sysctls))));
    let judged: Vec<_> = judged.take(args.most.into()).collect();
    if args.json {
        output::json(&show::watched_json(&judged, found.len()));
    } else {
        output::line(show::watched(&judged, found.len()));
    }
    let Some((first, verdict)) = judged.first() else {
        return Ok(cli::FAILED);
    };
    let observed = first.observed(&sysctls);
    let (end, samples) = if observed.sender.is_empty() {
        (first.sender_is.other(), observed.receiver)
    } else {
        (first.sender_is, observed.sender)
    };
    let all = plot::series(samples, end, first.sender_is);
    if args.wants_chart() && !args.json {
        output::line(chart::chart(&all));
    }
    if let Some(file) = &args.plot {
        let title = format!("{} to {}", first.local, first.remote);
        save(file, &plot::svg(&title, &show::limit(verdict), &all))?;
    }
    Ok(code(verdict.limit))
}

/// Named: done. Not named: there is no answer.
fn code(limit: Limit) -> u8 {
    if limit == Limit::Undecided {
        cli::FAILED
    } else {
        cli::OK
    }
}

fn picture(
    file: &Path,
    measured: &Measured,
    plan: &Plan,
    limit: &str,
    all: &[plot::Series],
) -> anyhow::Result<()> {
    let way = if plan.is_reverse { "from" } else { "to" };
    let title = format!("One stream {way} {}", measured.remote);
    save(file, &plot::svg(&title, &format!("limit: {limit}"), all))
}

fn save(file: &Path, picture: &str) -> anyhow::Result<()> {
    fs::write(file, picture).with_context(|| format!("writing {}", file.display()))
}
