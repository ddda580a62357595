//! A member whose bundle its authority tells.

use std::{fs, process::Command};

use serde_json::Value;

use super::keeper::Keeper;
use crate::support::{Process, node::SEKISHO, wait::until};

fn uses(descriptor: &Value) -> Vec<&str> {
    let keys = descriptor["bundle"]["keys"].as_array().unwrap();
    keys.iter()
        .map(|key| key["use"].as_str().unwrap())
        .collect()
}

#[test]
fn what_the_authority_tells_is_published_when_it_changes() {
    let keeper = Keeper::new(1);
    let file = keeper.file("authority.yaml");
    let text = "site: a.example\nauthority: {data: data, socket: api.sock}\n";
    fs::write(&file, text).unwrap();
    let mut command = Command::new(SEKISHO);
    let _authority = Process::start(command.args(["authority", "-c"]).arg(&file));
    let ca = |verb: &str| {
        let mut command = Command::new(SEKISHO);
        command.args(["ca", verb, "--json", "--socket"]);
        let output = command.arg(keeper.file("api.sock")).output().unwrap();
        output.status.success()
    };
    until("an authority that answers", || ca("show").then_some(()));
    let socket = "--socket @/api.sock";
    let other = format!("member request --id b.example --data @/other {socket} --out @/b.request");
    let error = keeper.refused(&other, 1);
    assert!(error.contains("that of a.example"), "{error}");
    keeper.ok(&format!(
        "member request --id a.example --data @/member {socket} --out @/a.request"
    ));
    keeper.both("member admit @/a.request @/fed --yes");
    let publish = format!("publish @/fed --data @/member {socket}");
    assert_eq!(keeper.ok(&publish)["published"], false);
    let before = keeper.ok("member show a.example @/fed");
    assert_eq!(uses(&before["descriptor"]), ["x509-svid", "jwt-svid"]);
    // The next CA is told before it signs.
    assert!(ca("prepare"));
    assert_eq!(keeper.ok(&publish)["why"], "changed");
    let after = keeper.ok("member show a.example @/fed");
    let expected = ["x509-svid", "x509-svid", "jwt-svid"];
    assert_eq!(uses(&after["descriptor"]), expected);
    let sequence = |shown: &Value| shown["descriptor"]["bundle"]["spiffe_sequence"].as_u64();
    assert!(sequence(&after) > sequence(&before));
    let gone = keeper.refused(&publish.replace("api.sock", "none.sock"), 1);
    assert!(gone.contains("no authority answers"), "{gone}");
}
