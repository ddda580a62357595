//! A site that was restored from a backup counts from a lower number: its peer wants an administrator's word.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::support::{Process, World, node::SEKISHO, ports};

fn start(world: &World, site: &str, federation: &str) -> Process {
    world.write(
        "authority.yaml",
        &format!(
            "site: {site}\nauthority: {{data: data, socket: api.sock}}\nfederation: {{{federation}}}\n"
        ),
    );
    let mut command = Command::new(SEKISHO);
    let process = Process::start(
        command
            .args(["authority", "-c"])
            .arg(world.file("authority.yaml")),
    );
    process.wait_for("started");
    process
}

fn run(world: &World, line: &str) -> Output {
    let mut command = Command::new(SEKISHO);
    command.args(line.split(' ')).arg("--socket");
    command.arg(world.file("api.sock")).output().unwrap()
}

fn done(world: &World, line: &str) {
    let output = run(world, line);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {told}");
}

fn sequence(world: &World) -> u64 {
    let shown = run(world, "federation show b.example --json");
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    shown[0]["bundle_sequence"].as_u64().unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Has an authority begin with the data of another time.
fn restored(world: &World, running: Process, from: &str, address: SocketAddr) -> Process {
    drop(running);
    let data = world.file("data");
    fs::remove_dir_all(&data).unwrap();
    copy(&world.file(from), &data);
    start(
        world,
        "b.example",
        &format!("endpoint: {{listen: {address}}}"),
    )
}

#[test]
fn a_site_that_was_restored_is_let_in_by_an_administrators_word() {
    let [a, b] = [World::new(), World::new()];
    let address = ports::free();
    let endpoint = format!("endpoint: {{listen: {address}}}");
    let _a = start(&a, "a.example", "allow: [127.0.0.0/8]");
    let mut b_runs = start(&b, "b.example", &endpoint);
    let exported = run(&b, "bundle export").stdout;
    a.write("b.json", &String::from_utf8(exported).unwrap());
    done(
        &a,
        &format!(
            "federation add b.example --url https://{address}/ --profile https_spiffe \
             --endpoint-id spiffe://b.example/spire/server --bundle {}",
            a.name("b.json")
        ),
    );
    done(&a, "federation refresh b.example");
    let before = sequence(&a);
    drop(b_runs);
    copy(&b.file("data"), &b.file("backup"));
    b_runs = start(&b, "b.example", &endpoint);
    done(&b, "ca prepare");
    done(&a, "federation refresh b.example");
    let after = sequence(&a);
    assert!(
        after > before,
        "it survives a restart, and rises: {before}, {after}"
    );
    b_runs = restored(&b, b_runs, "backup", address);
    let refused = run(&a, "federation refresh b.example");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    let says = format!("its sequence {before} is below {after}");
    assert!(!refused.status.success() && told.contains(&says), "{told}");
    assert_eq!(sequence(&a), after);
    done(&a, "federation accept-rollback b.example");
    done(&a, "federation refresh b.example");
    assert_eq!(sequence(&a), before);
    // Once.
    done(&b, "ca prepare --jwt");
    done(&a, "federation refresh b.example");
    let _b = restored(&b, b_runs, "backup", address);
    let again = run(&a, "federation refresh b.example");
    assert!(!again.status.success());
    let audit = run(&a, "federation list --json");
    assert!(String::from_utf8_lossy(&audit.stdout).contains("accept-rollback b.example"));
}
