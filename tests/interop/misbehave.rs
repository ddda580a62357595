//! A TLS peer that misbehaves, scripted on tlslite-ng: `misbehave/peer.py`, which also plays the
//! application at sekisho's other side. Each row of its table must be answered as RFC 8446 asks.
//!
//! One row alone, against a sekisho that runs already:
//! `PYTHONPATH=<packages> misbehave/peer.py --role server --tls ADDR --app ADDR --cert PEM --key PEM
//! --row NAME --text`.

use std::{net::SocketAddr, path::Path, process::Command};

use serde::Deserialize;

use crate::support::{Node, Process, World, ports, program, program::program, world::identity};

/// Who protects the records of the endpoints under test.
#[derive(Clone, Copy, Debug)]
enum Layer {
    /// sekisho.
    Own,
    /// rustls, whose known deviations stand in `misbehave/rustls.py`.
    Rustls,
}

impl Layer {
    fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Rustls => "rustls",
        }
    }

    /// The key of an endpoint that chooses it.
    fn key(self) -> &'static str {
        match self {
            Self::Own => "",
            Self::Rustls => "    record: rustls\n",
        }
    }
}

/// A row of the table, as the peer prints it.
#[derive(Debug, Deserialize)]
struct Verdict {
    name: String,
    role: String,
    sent: String,
    expected: String,
    got: String,
    ok: bool,
}

/// Fewer rows than this were run by mistake.
const AT_LEAST: usize = 200;

#[test]
fn a_misbehaving_client_is_answered_as_rfc_8446_asks() {
    every_row_is_right("server", Layer::Own);
}

#[test]
fn a_misbehaving_server_is_answered_as_rfc_8446_asks() {
    every_row_is_right("client", Layer::Own);
}

#[test]
fn rustls_answers_a_misbehaving_client_as_is_known_of_it() {
    every_row_is_right("server", Layer::Rustls);
}

#[test]
fn rustls_answers_a_misbehaving_server_as_is_known_of_it() {
    every_row_is_right("client", Layer::Rustls);
}

/// Runs the table with sekisho in one role, prints it, and fails where a row is wrong.
fn every_row_is_right(role: &str, layer: Layer) {
    let python = program!("python3");
    let Some(tlslite) = program::packages("tlslite") else {
        return;
    };
    let world = World::new();
    world.issue(&world.a, "peer");
    let addresses = Addresses::free();
    let _node = Node::start(&world, "b.example", &endpoints(&world, &addresses, layer));
    let (tls, app) = match role {
        "server" => (addresses.inbound, addresses.service),
        _ => (addresses.tls_server, addresses.outbound),
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/misbehave/peer.py");
    let mut command = Command::new(python);
    command.arg(script).env("PYTHONPATH", tlslite);
    command.args(["--role", role, "--layer", layer.name()]);
    command.args(["--tls", &tls.to_string(), "--app", &app.to_string()]);
    command.args(["--cert", &world.name("peer.pem")]);
    command.args(["--key", &world.name("peer.key")]);
    let rows = rows(&Process::start(&mut command));
    print(&rows);
    assert!(rows.len() >= AT_LEAST, "only {} rows", rows.len());
    let wrong: Vec<_> = rows.iter().filter(|row| !row.ok).collect();
    assert!(
        wrong.is_empty(),
        "{} rows are wrong: {wrong:#?}",
        wrong.len()
    );
}

/// Where sekisho listens and forwards to, one endpoint for each direction.
struct Addresses {
    inbound: SocketAddr,
    service: SocketAddr,
    outbound: SocketAddr,
    tls_server: SocketAddr,
}

impl Addresses {
    fn free() -> Self {
        Self {
            inbound: ports::free(),
            service: ports::free(),
            outbound: ports::free(),
            tls_server: ports::free(),
        }
    }
}

fn endpoints(world: &World, addresses: &Addresses, layer: Layer) -> String {
    world.issue(&world.b, "node");
    let Addresses {
        inbound,
        service,
        outbound,
        tls_server,
    } = addresses;
    let (identity, key) = (identity("node"), layer.key());
    format!(
        "  in:
    listen: mtls://{inbound}
    forward: tcp://{service}
    identity: {identity}
    accept: [spiffe://a.example/peer]
{key}  out:
    listen: tcp://{outbound}
    forward: mtls://{tls_server}
    identity: {identity}
    expect: [spiffe://a.example/peer]
{key}"
    )
}

/// What the peer prints, up to its last line.
fn rows(peer: &Process) -> Vec<Verdict> {
    let (mut rows, mut from) = (Vec::new(), 0);
    loop {
        let (row, next) = peer.line("the next row", from, |line| {
            let verdict = serde_json::from_str(line).map(Some).ok();
            verdict.or_else(|| (line == "done").then_some(None))
        });
        from = next;
        match row {
            Some(row) => rows.push(row),
            None => return rows,
        }
    }
}

/// Prints the table; `--nocapture` shows it where all is right.
fn print(rows: &[Verdict]) {
    println!("| name | sekisho is | sent | expected | got | |\n|---|---|---|---|---|---|");
    for row in rows {
        let mark = if row.ok { "ok" } else { "WRONG" };
        let Verdict {
            name,
            role,
            sent,
            expected,
            got,
            ..
        } = row;
        println!("| {name} | {role} | {sent} | {expected} | {got} | {mark} |");
    }
}
