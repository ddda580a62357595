//! One stream over several lanes, on a path that loses, reorders and breaks: every byte is compared.

use serde_json::Value;

use super::{
    path::needs,
    sides::{PLAIN, Sites, WITHOUT},
};
use crate::support::{Process, World, node::SEKISHO, wait::until};

/// What the sending side's stream has been through.
fn lanes(sites: &Sites<'_>) -> Value {
    let (_, text) = sites.sending.get("/connections");
    let all: Value = serde_json::from_str(&text).unwrap();
    let all = all["connections"].as_array().unwrap();
    let found = all.iter().map(|one| one["lanes"].clone());
    let mut found = found.filter(|lanes| !lanes.is_null());
    found.next().unwrap_or_default()
}

fn compared(sites: &Sites<'_>, size: &str) -> Process {
    let words = [
        SEKISHO, "bench", "client", PLAIN, "-n", size, "--verify", "--json",
    ];
    sites
        .path
        .start_at(0, &[&words[..], &["-C", "cubic"]].concat())
}

fn is_whole(mut client: Process) {
    let (status, said) = client.ended();
    assert!(status.success(), "{said}");
    assert!(
        said.contains("\"verified\": true") || said.contains("\"verified\":true"),
        "{said}"
    );
}

#[test]
fn lanes_die_and_identities_rotate_on_a_path_that_reorders_and_no_byte_is_lost() {
    let Some(tools) = needs(&["ss"]) else { return };
    let world = World::new();
    let options = "--rtt 10ms --rate 1G --reorder 5%,2ms --seed 7";
    let sites = Sites::with(&tools, &world, options, &[], "    path: {lanes: 4}\n");
    let client = compared(&sites, "512MiB");
    for round in 0..4 {
        until("four lanes", || {
            let lanes = lanes(&sites);
            let whole = lanes["open"] == 4 && lanes["lost"].as_u64() >= Some(round);
            whole.then_some(())
        });
        // Resets one of them; the files of both are written again, with other keys.
        let sockets = sites
            .path
            .run(0, &["ss", "-tnHO", "state", "established", "dport = :9443"]);
        let socket = sockets
            .lines()
            .next()
            .unwrap_or_else(|| panic!("{sockets}"));
        let own = socket.split_whitespace().nth(2).unwrap();
        let port = own.rsplit(':').next().unwrap();
        let filter = format!("sport = :{port}");
        sites
            .path
            .run(0, &["ss", "-KH", "state", "established", &filter]);
        world.identity(&world.a, "front");
        world.identity(&world.b, "back");
    }
    is_whole(client);
    let closed = sites.sending.closed();
    assert!(closed["lanes_lost"].as_u64() >= Some(4), "{closed:#}");
    assert!(closed["lanes"].as_u64() >= Some(8), "{closed:#}");
}

#[test]
fn a_stream_without_privileges_gets_the_lanes_that_its_path_asks_for() {
    let Some(tools) = needs(&["ss", "setpriv"]) else {
        return;
    };
    let world = World::new();
    let without = [&["setpriv"][..], &WITHOUT].concat();
    // One window gives a twentieth of this line.
    let options = "--rtt 200ms --rate 2G --queue 64MiB";
    let sites = Sites::with(&tools, &world, options, &without, "");
    let client = sites.stream_for(PLAIN, "20s");
    until("lanes", || {
        (lanes(&sites)["open"].as_u64() >= Some(2)).then_some(())
    });
    drop(client);
}
