//! `sekisho agent` alone, as a process.

use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::{Process, World, node::SEKISHO, ports};

#[test]
fn an_agent_that_waits_for_its_authority_ends_when_it_is_asked_to() {
    let world = World::new();
    let bundle = sekisho_testkit::Site::new("a.example").write_bundle(world.path());
    world.write("token", "never-shown");
    world.write(
        "agent.yaml",
        &format!(
            "site: a.example\nagent: {{authority: [\"{}\"], bootstrap: {}, join_token: {{file: token}}, \
             data: agent, socket: agent.sock, seal: file}}\n",
            ports::free(),
            bundle.display()
        ),
    );
    let mut command = Command::new(SEKISHO);
    command.args(["agent", "-c"]).arg(world.file("agent.yaml"));
    let mut agent = Process::start(&mut command);
    agent.wait_for("no authority");
    // The next attempt is seconds away.
    agent.signal(Signal::SIGTERM);
    let (status, said) = agent.ended();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!said.contains("never-shown"), "{said}");
    assert!(!world.file("agent.sock").exists(), "its socket is left");
}
