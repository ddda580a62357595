//! Administrators' programs of others at the authority's socket, which their gRPC names by its path.

use std::process::Command;

use serde_json::{Value, json};

use super::{echo, selectors};
use crate::support::{
    Process, World,
    program::{self, program},
    whole::Whole,
};

#[test]
fn grpcs_c_core_administers_the_authority() {
    // py-spiffe stands on it.
    let (python, Some(packages)) = (program!("python3"), program::packages("py-spiffe")) else {
        return;
    };
    let world = World::new();
    let whole = Whole::start(&world, echo(), &selectors());
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/interop/clients/authority.py"
    );
    let mut command = Command::new(python);
    command.env("PYTHONPATH", packages).arg(script);
    let process = Process::start(command.arg(&whole.authority));
    let json = |line: &str| serde_json::from_str::<Value>(line).ok();
    let (said, _) = process.line("what the authority says", 0, json);
    // It serves; there is the entry of the node, and one of each endpoint.
    assert_eq!(said, json!({"health": "0801", "entries": "0803"}));
}
