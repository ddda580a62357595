//! `sekisho explain` says what `run` does.

use std::process::Command;

use nix::unistd::{Gid, Group, Uid, User};
use serde_json::Value;

use crate::support::{World, node::SEKISHO};

/// A folder with one configuration of a.example, which is asked and not run.
struct Asked {
    world: World,
}

impl Asked {
    fn new(endpoints: impl FnOnce(&World) -> String) -> Self {
        let world = World::new();
        let endpoints = endpoints(&world);
        let text = format!("site: a.example\npolicy: policy/\nendpoints:\n{endpoints}");
        world.write("site.yaml", &text);
        let asked = Self { world };
        asked.policy("true");
        asked
    }

    /// Allows if this is so.
    fn policy(&self, condition: &str) {
        let text = format!(
            "package sekisho.authz\n\ndefault allow := false\n\nallow if {{\n\t{condition}\n}}\n"
        );
        self.world.write("policy/authz.rego", &text);
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(SEKISHO);
        command.arg("explain").args(arguments).arg("-c");
        let output = command.arg(self.world.file("site.yaml")).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (code, said, error) = self.run(&[arguments, &["--json"]].concat());
        let document: Value = serde_json::from_str(&said).expect(&error);
        assert_eq!(code == Some(0), document["allowed"] == true, "{document:#}");
        document
    }

    /// Questions and their answers.
    fn steps(&self, arguments: &[&str]) -> Vec<(String, bool)> {
        let document = self.json(arguments);
        let steps = document["steps"].as_array().unwrap().iter();
        steps
            .map(|step| {
                let asked = step["asked"].as_str().unwrap().to_owned();
                (asked, step["ok"] == true)
            })
            .collect()
    }
}

const BACK: &str = "spiffe://b.example/back";

fn sender(local: &str) -> Asked {
    Asked::new(|world| {
        format!(
            "  out:
    listen: tcp://127.0.0.1:4000
    local: [\"{local}\"]
    forward: mtls://127.0.0.1:4001
    identity: {}
    expect: [{BACK}]
",
            world.identity(&world.a, "front")
        )
    })
}

#[test]
fn an_endpoint_for_all_other_sites_leads_to_them_and_not_to_our_own() {
    let asked = Asked::new(|_| {
        "  out:
    listen: connect://127.0.0.1:4000
    local: [\"user:0\"]
    forward: site://*/mdx
    identity: unix:///run/no.sock
    expect: [mark:hpci]
"
        .into()
    });
    asked.policy("not input.sekisho.upstream.address");
    let document = asked.json(&["out", BACK, "--user", "0"]);
    assert_eq!(document["allowed"], true, "{document:#}");
    let text = document.to_string();
    assert!(text.contains("CONNECT mdx.b.example:PORT"), "{text}");
    let unknown = document["not_known_here"].to_string();
    assert!(unknown.contains("sekisho.upstream.address"), "{unknown}");
    let steps = asked.steps(&["out", "spiffe://a.example/mdx", "--user", "0"]);
    assert!(steps.contains(&("target".into(), false)), "{steps:?}");
}

fn root() -> (User, String) {
    let root = User::from_uid(Uid::from_raw(0)).unwrap().unwrap();
    let group = Group::from_gid(root.gid).unwrap().unwrap().name;
    (root, group)
}

#[test]
fn a_user_is_on_a_line_by_name_number_or_group_as_at_run_time() {
    let (root, group) = root();
    let lines = [
        format!("user:{}", root.name),
        "user:0".into(),
        format!("group:{group}"),
        format!("group:{}", root.gid),
    ];
    for line in &lines {
        let asked = sender(line);
        for given in [root.name.as_str(), "0"] {
            let steps = asked.steps(&["out", BACK, "--user", given]);
            assert!(steps.contains(&("local".into(), true)), "{line} {given}");
        }
        // A number that no account has.
        let steps = asked.steps(&["out", BACK, "--user", "3999999999"]);
        assert!(steps.contains(&("local".into(), false)), "{line}");
    }
    let asked = sender("group:3999999998");
    let steps = asked.steps(&["out", BACK, "--user", "0", "--group", "3999999998"]);
    assert!(steps.contains(&("local".into(), true)));
}

#[test]
fn policy_sees_number_name_and_groups_of_a_user() {
    let (root, group) = root();
    let asked = sender("user:0");
    asked.policy(&format!(
        "input.sekisho.client.uid == 0\n\tinput.sekisho.client.user == \"{}\"\n\t\"{group}\" in \
         input.sekisho.client.groups",
        root.name
    ));
    assert_eq!(asked.json(&["out", BACK, "--user", "0"])["allowed"], true);
}

#[test]
fn a_user_or_group_that_this_host_does_not_have_is_a_mistake() {
    let asked = sender("user:0");
    let user = ["out", BACK, "--user", "no such user"];
    let group = ["out", BACK, "--group", "no such group"];
    for arguments in [user, group] {
        let (code, _, error) = asked.run(&arguments);
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains(arguments[3]), "{error}");
    }
    // Not looked for in vain only because this is.
    assert!(Group::from_gid(Gid::from_raw(0)).unwrap().is_some());
}

#[test]
fn our_own_id_is_the_one_in_the_certificate() {
    let asked = sender("user:0");
    asked.policy("input.attributes.source.principal == \"spiffe://a.example/front\"");
    let allowed = |asked: &Asked| asked.json(&["out", BACK, "--user", "0"]);
    assert_eq!(allowed(&asked)["allowed"], true);
    std::fs::remove_file(asked.world.file("front.pem")).unwrap();
    let document = allowed(&asked);
    assert_eq!(document["allowed"], false);
    let unknown = document["not_known_here"].to_string();
    assert!(unknown.contains("attributes.source.principal"), "{unknown}");
}

fn between() -> Asked {
    Asked::new(|world| {
        format!(
            "  between:
    listen: mtls://127.0.0.1:4000
    forward: mtls://127.0.0.1:4001
    identity: {}
    accept: [spiffe://a.example/front]
    expect: [{BACK}]
",
            world.identity(&world.a, "between")
        )
    })
}

#[test]
fn with_mtls_on_both_sides_accept_is_asked_of_who_comes_and_expect_of_who_answers() {
    let asked = between();
    let front = "spiffe://a.example/front";
    let yes = |asked: &str| (asked.to_owned(), true);
    let first = [yes("trust"), yes("accept"), yes("policy")];
    let second = [yes("trust"), yes("expect"), yes("policy")];
    assert_eq!(asked.steps(&["between", front]), first);
    let (_, said, _) = asked.run(&["between", front]);
    assert!(
        said.contains("`expect`") && said.contains("--upstream"),
        "{said}"
    );
    let both = ["between", front, "--upstream", BACK];
    assert_eq!(asked.steps(&both), [first, second].concat());
    assert!(asked.json(&both)["then"].is_null());
    // Who is on one list is not on the other.
    let document = asked.json(&["between", BACK]);
    assert_eq!(
        document["steps"][1]["reason"], "not_accepted",
        "{document:#}"
    );
    let document = asked.json(&["between", front, "--upstream", front]);
    assert_eq!(
        document["steps"][4]["reason"], "not_expected",
        "{document:#}"
    );
    // The second decision knows who answered, the first one does not.
    asked.policy("not input.sekisho.upstream");
    assert_eq!(asked.json(&["between", front])["allowed"], true);
    let document = asked.json(&both);
    assert_eq!(document["steps"][2]["ok"], true, "{document:#}");
    assert_eq!(document["steps"][5]["ok"], false, "{document:#}");
}

#[test]
fn an_upstream_is_given_only_where_one_answers_beside_the_peer() {
    let (code, _, error) = sender("user:0").run(&["out", BACK, "--upstream", BACK]);
    assert_eq!(code, Some(2));
    assert!(error.contains("both sides"), "{error}");
}

#[test]
fn what_policy_would_see_at_run_time_only_is_named() {
    let asked = sender("user:0");
    let (_, said, _) = asked.run(&["out", BACK]);
    let line = said
        .lines()
        .find(|line| line.starts_with("not known here: "))
        .unwrap();
    for name in [
        "attributes.source.address",
        "attributes.destination.address",
        "sekisho.client",
    ] {
        assert!(line.contains(name), "{line}");
    }
    let document = asked.json(&["out", BACK, "--user", "0"]);
    let expected = [
        "attributes.source.address",
        "attributes.destination.address",
    ];
    assert_eq!(document["not_known_here"], serde_json::json!(expected));
}

#[test]
fn what_a_mark_lets_in_is_known_at_run_time_and_said_so() {
    let asked = Asked::new(|world| {
        format!(
            "  in:
    listen: mtls://127.0.0.1:4000
    forward: tcp://127.0.0.1:4001
    identity: unix://{}
    accept: [mark:hpci/kafka/*]
",
            world.name("api.sock")
        )
    });
    let (code, said, _) = asked.run(&["in", "spiffe://b.example/kafka/1"]);
    assert_eq!(code, Some(0), "{said}");
    let line = "matches mark:hpci/kafka/*, if b.example carries that mark: known at run time";
    assert!(said.contains(line), "{said}");
    assert!(said.contains("sekisho.federation"), "{said}");
    for other in ["spiffe://b.example/other", "spiffe://a.example/kafka/1"] {
        let document = asked.json(&["in", other]);
        assert_eq!(document["allowed"], false, "{other}");
    }
    // `check` says whose agent it has to be, where this file does not start it.
    let mut check = Command::new(SEKISHO);
    let check = check
        .args(["check", "-c"])
        .arg(asked.world.file("site.yaml"));
    let output = check.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("marks and site:// need sekisho's own agent"),
        "{text}"
    );
    assert!(text.contains("reached by mark:hpci/kafka/*"), "{text}");
}
