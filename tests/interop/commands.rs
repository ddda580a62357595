//! The administrators' commands against an authority that runs.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{Process, World, node::SEKISHO, wait::until};

struct Admin {
    world: World,
    authority: Process,
}

impl Admin {
    fn start() -> Self {
        let world = World::new();
        world.write(
            "authority.yaml",
            "site: a.example\nauthority: {data: data, socket: api.sock}\n",
        );
        let mut command = Command::new(SEKISHO);
        command
            .args(["authority", "-c"])
            .arg(world.file("authority.yaml"));
        let authority = Process::start(&mut command);
        let admin = Self { world, authority };
        until("an authority that answers", || {
            (admin.run("ca show").status.code() == Some(0)).then_some(())
        });
        admin
    }

    /// Runs a command with its words; `@` stands for the folder.
    fn run(&self, line: &str) -> Output {
        let folder = self.world.name("");
        let words = line.split(' ').map(|word| word.replace('@', &folder));
        let mut command = Command::new(SEKISHO);
        command
            .args(words)
            .arg("--socket")
            .arg(self.world.file("api.sock"));
        command.output().unwrap()
    }

    fn json(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&text).unwrap()
    }

    /// What a command complains of that ends with this code.
    fn refused(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(code), "{line}");
        String::from_utf8(output.stderr).unwrap()
    }
}

const CREATE: &str = "entry create --parent-id /node/local --spiffe-id /w --selector unix:uid:1";

#[test]
fn entries_are_made_changed_and_deleted() {
    let admin = Admin::start();
    let made = admin.json(&format!("{CREATE} --entry-id one --hint db --x509-ttl 2h"));
    assert_eq!(made[0]["spiffe_id"], "spiffe://a.example/w");
    assert_eq!(admin.json("entry show one")[0]["x509_svid_ttl"], 7200);
    let again = admin.refused(CREATE, 1);
    assert!(again.contains("AlreadyExists"), "{again}");
    let reserved = admin.refused(&CREATE.replace("/w ", "/spire/w "), 1);
    assert!(reserved.contains("InvalidArgument"), "{reserved}");
    let selector = admin.refused(&CREATE.replace("unix:uid:1", "uid"), 2);
    assert!(selector.contains("TYPE:VALUE"), "{selector}");
    let changed = admin.json(&format!(
        "{} --entry-id one --hint other",
        CREATE.replace("create", "update")
    ));
    assert_eq!(
        (&changed[0]["hint"], &changed[0]["revision_number"]),
        (&"other".into(), &1.into())
    );
    let missing = admin.refused("entry delete one two", 1);
    assert!(
        missing.contains("two: ") && !missing.contains("one: "),
        "{missing}"
    );
    assert_eq!(admin.json("entry list"), Value::Array(Vec::new()));
}

#[test]
fn a_file_is_applied_once_and_touches_nothing_else() {
    let admin = Admin::start();
    admin.json(&format!("{CREATE} --entry-id by-hand"));
    let file = |ids: &[&str]| {
        let lines = ids
            .iter()
            .map(|id| format!("  - {{spiffe_id: {id}, selectors: [\"unix:uid:2\"]}}\n"));
        admin.world.write(
            "entries.yaml",
            &format!("entries:\n{}", lines.collect::<String>()),
        );
    };
    file(&["/a", "/b"]);
    assert_eq!(
        admin.run("apply -f @entries.yaml --dry-run").status.code(),
        Some(1)
    );
    let nobody = admin.refused("apply -f @entries.yaml", 1);
    assert!(nobody.contains("--yes"), "{nobody}");
    assert_eq!(
        admin.json("entry list").as_array().unwrap().len(),
        1,
        "nothing was done"
    );
    let done = admin.json("apply -f @entries.yaml --yes");
    assert_eq!(done["create"], serde_json::json!(["apply.a", "apply.b"]));
    let again = admin.json("apply -f @entries.yaml --dry-run");
    assert_eq!(
        (&again["same"], &again["create"]),
        (&2.into(), &Value::Array(Vec::new()))
    );
    file(&["/b"]);
    assert_eq!(
        admin.json("apply -f @entries.yaml --yes")["delete"],
        serde_json::json!(["apply.a"])
    );
    let left = admin.json("entry list");
    let mut ids: Vec<&str> = left
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, ["apply.b", "by-hand"]);
    admin
        .world
        .write("entries.yaml", "entries:\n  - {spiffe_id: b}\n");
    let wrong = admin.refused("apply -f @entries.yaml --yes", 2);
    assert!(wrong.contains("entries.yaml:2:"), "{wrong}");
}

#[test]
fn authorities_rotate_and_a_token_is_in_no_log() {
    let admin = Admin::start();
    for jwt in ["", " --jwt"] {
        let id = |state: &Value| state[0]["id"].as_str().unwrap().to_owned();
        let old = id(&admin.json(&format!("ca show{jwt}")));
        let new = id(&admin.json(&format!("ca prepare{jwt}")));
        let early = admin.refused(&format!("ca taint {old}{jwt}"), 1);
        assert!(early.contains("InvalidArgument"), "{early}");
        admin.json(&format!("ca activate {new}{jwt}"));
        admin.json(&format!("ca taint {old}{jwt}"));
        admin.json(&format!("ca revoke {old}{jwt}"));
        assert_eq!(id(&admin.json(&format!("ca show{jwt}"))), new);
    }
    let token = admin.json("token create --ttl 1m --spiffe-id /node/n1");
    let value = token["value"].as_str().unwrap();
    assert!(value.len() > 30 && !admin.authority.said().contains(value));
    assert_eq!(admin.json("node list"), Value::Array(Vec::new()));
    let unknown = admin.refused("node evict /spire/agent/join_token/x", 1);
    assert!(unknown.contains("NotFound"), "{unknown}");
}

#[test]
fn nobody_at_the_socket_is_told_with_what_to_do() {
    let output = Command::new(SEKISHO)
        .args(["entry", "list", "--socket", "/nowhere/api.sock"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("--socket PATH") && text.contains("/nowhere/api.sock"),
        "{text}"
    );
}
