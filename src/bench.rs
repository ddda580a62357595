//! `sekisho bench`: load in the manner of iperf3, and a long path for it.

mod args;
mod path;
mod quantity;
mod show;
mod wan;

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    time::UNIX_EPOCH,
};

use anyhow::Context as _;
pub(crate) use args::BenchCommand;
use args::{ClientArgs, ServerArgs};
use sekisho_bench::{
    connections::Connections, idle::Idle, iperf, requests::Requests, server::Server,
    throughput::Throughput,
};
use sekisho_certs::{Clock as _, SystemClock};

use crate::{cli, output};

/// Does what was asked.
pub(crate) fn bench(command: &BenchCommand) -> u8 {
    let outcome = match command {
        BenchCommand::Server(args) => server(args),
        BenchCommand::Client(args) => client(args),
        BenchCommand::Path(args) => path::path(args),
        BenchCommand::Wan(args) => wan::wan(args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            output::complain(format_args!("bench: {error:#}"));
            cli::FAILED
        }
    }
}

fn server(args: &ServerArgs) -> anyhow::Result<u8> {
    files()?;
    let server = Server::start(args.listen).context("listening")?;
    output::line(format_args!("listening at {}", server.address()));
    server.serve()?;
    Ok(cli::OK)
}

fn client(args: &ClientArgs) -> anyhow::Result<u8> {
    files()?;
    let address = resolve(&args.server)?;
    if args.requests {
        requests(args, address)
    } else if args.connects {
        connects(args, address)
    } else if let Some(connections) = args.idle {
        idle(args, address, connections)
    } else {
        throughput(args, address)
    }
}

/// As many open files as the host allows: thousands of connections are one each.
fn files() -> anyhow::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")
}

fn resolve(server: &str) -> anyhow::Result<SocketAddr> {
    let mut addresses = server
        .to_socket_addrs()
        .with_context(|| format!("{server}: expected HOST:PORT"))?;
    addresses
        .next()
        .with_context(|| format!("{server} has no address"))
}

fn throughput(args: &ClientArgs, address: SocketAddr) -> anyhow::Result<u8> {
    let plan = Throughput {
        streams: args.parallel.unwrap_or(1),
        time: args.time,
        bytes: args.bytes,
        direction: args.direction(),
        block: args.block,
        rate: args.rate,
        interval: args.interval,
        verify: args.verify,
        congestion: args.congestion.clone(),
        ..Throughput::new(address)
    };
    let now = SystemClock.now();
    if !args.json {
        output::line(show::interval_head());
    }
    let outcome = plan.run(|interval| {
        if !args.json {
            output::line(show::interval(&plan, interval));
        }
    })?;
    if args.json {
        let uname = nix::sys::utsname::uname()?;
        let system = [uname.sysname(), uname.nodename(), uname.release()]
            .map(|part| part.to_string_lossy())
            .join(" ");
        let start = iperf::Start {
            host: args
                .server
                .rsplit_once(':')
                .map_or(args.server.as_str(), |(host, _)| host),
            version: concat!("sekisho ", env!("CARGO_PKG_VERSION")),
            system: &system,
            timestamp: now.duration_since(UNIX_EPOCH)?.as_secs(),
        };
        output::json(&iperf::document(&plan, &outcome, &start));
    } else {
        output::line(show::streams(&plan, &outcome));
    }
    Ok(cli::OK)
}

fn requests(args: &ClientArgs, address: SocketAddr) -> anyhow::Result<u8> {
    let plan = Requests {
        connections: args.parallel.unwrap_or(16),
        time: args.time,
        request: args.request_size,
        response: args.response_size,
        ..Requests::new(address)
    };
    let outcome = plan.run()?;
    if args.json {
        output::json(&show::requests_json(&plan, &outcome));
    } else {
        output::line(format_args!(
            "{:.0} requests/s on {} connections, {} in {:.2} s",
            outcome.per_second(),
            plan.connections,
            outcome.latency.count(),
            outcome.time.as_secs_f64()
        ));
        output::line(show::latency(&outcome.latency));
    }
    Ok(cli::OK)
}

fn connects(args: &ClientArgs, address: SocketAddr) -> anyhow::Result<u8> {
    let plan = Connections {
        concurrency: args.parallel.unwrap_or(16),
        time: args.time,
        response: args.response_size,
        ..Connections::new(address)
    };
    let outcome = plan.run()?;
    if args.json {
        output::json(&show::connections_json(&plan, &outcome));
    } else {
        output::line(format_args!(
            "{:.0} connections/s, {} at a time, {} in {:.2} s, {} failed",
            outcome.per_second(),
            plan.concurrency,
            outcome.latency.count(),
            outcome.time.as_secs_f64(),
            outcome.failed
        ));
        output::line(show::latency(&outcome.latency));
    }
    if let Some(failure) = &outcome.failure {
        output::complain(format_args!("the first that failed: {failure}"));
        return Ok(cli::FAILED);
    }
    Ok(cli::OK)
}

fn idle(args: &ClientArgs, address: SocketAddr, connections: u32) -> anyhow::Result<u8> {
    let plan = Idle {
        connections,
        concurrency: args.parallel.unwrap_or(16),
        carry: args.carry,
        hold: args.hold,
        processes: args.pid.clone(),
        ..Idle::new(address)
    };
    let outcome = plan.run()?;
    if args.json {
        output::json(&show::idle_json(&outcome));
    } else {
        output::line(show::idle(&outcome));
    }
    let all = outcome.opened == connections && outcome.answered == connections;
    Ok(if all { cli::OK } else { cli::FAILED })
}
