//! `directory serve`: what members send is there at once, and who is expelled is gone in seconds.

use std::{net::SocketAddr, time::Duration};

use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::{Value, json};

use super::keeper::Keeper;
use crate::support::{
    Process, ports,
    wait::{until, until_within},
};

fn serve(keeper: &Keeper, options: &str) -> (Process, SocketAddr) {
    let address = ports::free();
    let line = format!("serve @/fed --listen {address} --host-key @/keys/host.key{options} --json");
    let process = Process::start(&mut keeper.command(&line));
    until("a server", || std::net::TcpStream::connect(address).ok());
    (process, address)
}

fn snapshot(keeper: &Keeper) -> Value {
    keeper.ok("verify --offline @/fed")["snapshot"].clone()
}

#[test]
fn a_word_by_the_web_is_hosted_at_once() {
    let keeper = Keeper::new(1);
    keeper.join("tokyo.example", "");
    keeper.join("osaka.example", "");
    let (process, address) = serve(&keeper, " --accept");
    let publish = format!("publish http://{address} --data @/tokyo.example");
    assert_eq!(
        until("that it is hosted", || {
            let output = keeper.run(&format!("{publish} --json"));
            serde_json::from_slice::<Value>(&output.stdout).ok()
        })["published"],
        false
    );
    keeper.bundle("tokyo.example", 2);
    let bundle = format!("{publish} --bundle @/tokyo.example.json");
    assert_eq!(keeper.ok(&bundle)["version"], 2);
    // Before the host has shown it, and afterwards, it is no news.
    assert_eq!(keeper.ok(&bundle)["published"], false);
    let said = |member: &str| {
        let members = keeper.ok("verify --offline @/fed")["members"].clone();
        let mut members = members.as_array().unwrap().clone().into_iter();
        members.find(|one| one["trust_domain"] == member)
    };
    until_within(Duration::from_secs(20), "a snapshot", || {
        (said("tokyo.example")?["version"] == 2).then_some(())
    });
    assert_eq!(keeper.ok(&bundle)["published"], false);
    // A registrar works in the same folder.
    keeper.both("member expel osaka.example @/fed");
    until_within(Duration::from_secs(20), "that it is gone", || {
        let before = snapshot(&keeper);
        (said("osaka.example").is_none() && before == snapshot(&keeper)).then_some(())
    });
    let error = keeper.refused(
        &format!("publish http://{address} --data @/osaka.example --again"),
        1,
    );
    assert!(error.contains("not a member"), "{error}");
    let revoked = keeper.ok(&format!(
        "self-revoke http://{address} --data @/tokyo.example --yes"
    ));
    assert_eq!(revoked["revoked"], json!(true));
    let pid = Pid::from_raw(i32::try_from(process.id()).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    process.wait_for("ended");
}

#[test]
fn without_accept_nothing_is_taken() {
    let keeper = Keeper::new(1);
    keeper.join("tokyo.example", "");
    keeper.host();
    let (_process, address) = serve(&keeper, "");
    keeper.bundle("tokyo.example", 2);
    let error = keeper.refused(
        &format!("publish http://{address} --data @/tokyo.example --bundle @/tokyo.example.json"),
        1,
    );
    assert!(error.contains("--accept"), "{error}");
    // Only by the host's own key, and accepting needs one.
    let line = format!(
        "serve @/fed --listen {} --host-key @/keys/registrar-1.key",
        ports::free()
    );
    assert!(keeper.refused(&line, 1).contains("the host's is"));
    keeper.refused(
        &format!("serve @/fed --listen {} --accept", ports::free()),
        2,
    );
    keeper.refused(&format!("serve @/none --listen {}", ports::free()), 1);
}
