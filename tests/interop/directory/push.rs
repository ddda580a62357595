//! `directory push`: the bundles of members at a server of SPIRE's API, which here is an authority of
//! ours that follows no directory.

use std::{fs, process::Command};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::keeper::Keeper;
use crate::support::{Process, node::SEKISHO, wait::until};

const OWN: &str = "own.example";

fn authority(keeper: &Keeper) -> Process {
    let file = keeper.file("authority.yaml");
    let text = format!("site: {OWN}\nauthority: {{data: data, socket: api.sock}}\n");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(SEKISHO);
    let process = Process::start(command.args(["authority", "-c"]).arg(&file));
    until("an authority that answers", || {
        said(keeper, "ca show").then_some(())
    });
    process
}

fn at(keeper: &Keeper, line: &str) -> Command {
    let mut command = Command::new(SEKISHO);
    command.args(line.split(' '));
    command.arg("--socket").arg(keeper.file("api.sock"));
    command
}

fn said(keeper: &Keeper, line: &str) -> bool {
    at(keeper, line).output().unwrap().status.success()
}

/// The sequences of the bundles there, by trust domain.
fn there(keeper: &Keeper) -> Value {
    let output = at(keeper, "bundle list --json").output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let all = told["bundles"].as_array().unwrap().iter();
    let all = all.map(|one| {
        let name = one["trust_domain"].as_str().unwrap().to_owned();
        (name, one["sequence"].clone())
    });
    all.collect::<serde_json::Map<_, _>>().into()
}

fn federates_with(keeper: &Keeper) -> Value {
    let output = at(keeper, "entry list --json").output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    told[0]["federates_with"].clone()
}

const PUSH: &str = "push @/fed --root @/fed/metadata/1.root.json --data @/push --socket @/api.sock";

fn set(name: &str, sequence: u64) -> Value {
    json!({ "trust_domain": name, "sequence": sequence })
}

fn left(name: &str, why: &str) -> Value {
    json!({ "trust_domain": name, "why": why })
}

#[test]
fn members_are_pushed_and_the_expelled_are_taken_away() {
    let keeper = Keeper::new(1);
    for name in ["a.example", "b.example", "c.example", "d.example"] {
        keeper.join(name, if name < "c" { " --mark hpci" } else { "" });
    }
    keeper.host();
    let _authority = authority(&keeper);
    let once = |options: &str, code: i32| keeper.said(&format!("{PUSH} --once{options}"), code);
    // By mark and by name; the same again is nothing to do.
    let members = " --mark hpci --member c.example";
    let told = once(members, 0);
    let all = ["a.example", "b.example", "c.example"];
    assert_eq!(told["set"], json!(all.map(|name| set(name, 1))), "{told}");
    assert_eq!(told["server"], OWN);
    assert_eq!(
        there(&keeper),
        json!({"a.example": 1, "b.example": 1, "c.example": 1})
    );
    let told = once(members, 0);
    let nothing = [
        &told["set"],
        &told["deleted"],
        &told["left"],
        &told["failed"],
    ];
    assert_eq!(nothing, [&json!([]); 4]);
    // An entry that names two of them.
    let entry = "entry create --spiffe-id /mdx --parent-id /node/local --selector unix:uid:0";
    assert!(said(
        &keeper,
        &format!("{entry} --federates-with a.example --federates-with b.example")
    ));
    // What others have set is not ours: it is neither touched where it is the same, nor taken away.
    let by_hand = keeper.file("d.example.json");
    let by_hand = format!("bundle set --id d.example --file {}", by_hand.display());
    assert!(said(&keeper, &by_hand));
    let told = once(&format!("{members} --member d.example"), 0);
    assert_eq!(told["left"], json!([left("d.example", "set_by_others")]));
    // A new bundle; one expelled, one suspended.
    keeper.bundle("a.example", 2);
    keeper.ok("publish @/fed --data @/a.example --bundle @/a.example.json");
    keeper.both("member expel b.example @/fed");
    keeper.both("member suspend c.example @/fed");
    keeper.both("member expel d.example @/fed");
    keeper.host();
    let told = once(&format!("{members} --member d.example"), 3);
    assert_eq!(told["set"], json!([set("a.example", 2)]));
    assert_eq!(told["deleted"], json!(["b.example", "c.example"]));
    let missing = ["c.example", "d.example"].map(|name| left(name, "no_member"));
    assert_eq!(told["left"], json!(missing));
    assert_eq!(there(&keeper), json!({"a.example": 2, "d.example": 1}));
    assert_eq!(federates_with(&keeper), json!(["a.example"]));
    // It comes back.
    keeper.both("member resume c.example @/fed");
    keeper.host();
    assert_eq!(once(members, 0)["set"], json!([set("c.example", 1)]));
    // One that distrusts itself has nothing to be set.
    let empty = r#"{"keys": [], "spiffe_sequence": 9}"#;
    fs::write(keeper.file("empty.json"), empty).unwrap();
    keeper.ok("publish @/fed --data @/a.example --bundle @/empty.json");
    keeper.host();
    assert_eq!(once(members, 0)["deleted"], json!(["a.example"]));
    // Whose name is not asked for any more.
    assert_eq!(once(" --mark hpci", 0)["deleted"], json!(["c.example"]));
    assert_eq!(there(&keeper), json!({"d.example": 1}));
}

#[test]
fn what_the_server_fetches_itself_and_its_own_are_left_alone() {
    let keeper = Keeper::new(1);
    for name in ["a.example", OWN] {
        keeper.join(name, "");
    }
    keeper.host();
    let _authority = authority(&keeper);
    let once = |code: i32| {
        keeper.said(
            &format!("{PUSH} --once --member a.example --member {OWN}"),
            code,
        )
    };
    assert_eq!(once(0)["left"], json!([left(OWN, "own")]));
    let add = "federation create a.example --url https://127.0.0.1:1/ --profile https_web";
    assert!(said(&keeper, add));
    keeper.bundle("a.example", 2);
    keeper.ok("publish @/fed --data @/a.example --bundle @/a.example.json");
    keeper.host();
    let told = once(0);
    let expected = [left("a.example", "relationship"), left(OWN, "own")];
    assert_eq!(
        (&told["left"], &told["set"]),
        (&json!(expected), &json!([]))
    );
    assert_eq!(there(&keeper), json!({"a.example": 1}));
    // It is the relationship's now, and no more ours to be taken away.
    assert!(said(&keeper, "federation delete --id a.example"));
    keeper.both("member expel a.example @/fed");
    keeper.host();
    assert_eq!(once(3)["deleted"], json!([]));
    assert_eq!(there(&keeper), json!({"a.example": 1}));
}

#[test]
fn what_others_have_set_is_left_unless_it_is_to_be_taken_over() {
    let keeper = Keeper::new(1);
    keeper.join("a.example", "");
    keeper.host();
    let _authority = authority(&keeper);
    let once = |options: &str, code: i32| {
        let line = format!("{PUSH} --once --member a.example{options}");
        keeper.said(&line, code)
    };
    let by_hand = |sequence| {
        keeper.bundle("a.example", sequence);
        let file = keeper.file("a.example.json");
        let line = format!("bundle set --id a.example --file {}", file.display());
        assert!(said(&keeper, &line));
    };
    assert_eq!(once("", 0)["set"], json!([set("a.example", 1)]));
    // Whoever has changed it since, as a server does whose configuration file says where to fetch it.
    by_hand(7);
    for _ in 0..2 {
        let told = once("", 3);
        assert_eq!(told["left"], json!([left("a.example", "differs")]));
        assert_eq!(told["set"], json!([]));
        assert_eq!(there(&keeper), json!({"a.example": 7}));
    }
    assert_eq!(once(" --take-over", 0)["set"], json!([set("a.example", 1)]));
    assert_eq!(once("", 0)["left"], json!([]));
    // And who is expelled keeps what was set by hand.
    by_hand(8);
    keeper.both("member expel a.example @/fed");
    keeper.host();
    assert_eq!(once(" --take-over", 3)["deleted"], json!([]));
    assert_eq!(there(&keeper), json!({"a.example": 8}));
}

#[test]
fn keys_that_the_old_ones_have_not_named_are_taken_where_somebody_says_so() {
    let keeper = Keeper::new(1);
    keeper.join("a.example", "");
    keeper.host();
    let _authority = authority(&keeper);
    let once = |options: &str| {
        keeper.ok(&format!("{PUSH} --once --member a.example{options}"))["set"].clone()
    };
    assert_eq!(once(""), json!([set("a.example", 1)]));
    // The site has lost its key and the private half of the other, and registrars give the name to a new one.
    fs::create_dir(keeper.file("new")).unwrap();
    for half in ["recovery.key", "recovery.key.pub"] {
        let [old, new] = ["a.example", "new"].map(|data| keeper.file(data).join(half));
        fs::copy(old, new).unwrap();
    }
    keeper.bundle("a.example", 2);
    let said = keeper.ok(
        "member request --id a.example --data @/new --bundle @/a.example.json --at @/fed --out @/new.request",
    );
    let fingerprint = said["fingerprint"].as_str().unwrap();
    keeper.both("member admit @/new.request @/fed --yes");
    keeper.host();
    let accept = |fingerprint: &str| format!(" --accept-rekey a.example={fingerprint}");
    assert_eq!(once(""), json!([]));
    assert_eq!(once(&accept("00:11:22")), json!([]));
    assert_eq!(there(&keeper), json!({"a.example": 1}));
    assert_eq!(once(&accept(fingerprint)), json!([set("a.example", 2)]));
    // It counts from then on.
    assert_eq!(once(""), json!([]));
}

#[test]
fn of_two_directories_both_have_to_have_a_member() {
    let keeper = Keeper::new(1);
    keeper.join("a.example", "");
    keeper.host();
    let mut copy = Command::new("cp");
    copy.arg("-r")
        .args([keeper.file("fed"), keeper.file("other")]);
    assert!(copy.status().unwrap().success());
    let _authority = authority(&keeper);
    let root = "--root @/fed/metadata/1.root.json";
    let line = PUSH.replace(root, &format!("@/other {root} {root}"));
    let once = |options: &str, code: i32| {
        keeper.said(&format!("{line} --once --member a.example{options}"), code)
    };
    assert_eq!(once("", 0)["set"], json!([set("a.example", 1)]));
    keeper.both("member expel a.example @/fed");
    keeper.host();
    assert_eq!(once(" --threshold 1", 0)["deleted"], json!([]));
    assert_eq!(once("", 3)["deleted"], json!(["a.example"]));
}

#[test]
fn what_cannot_be_done_is_told() {
    let keeper = Keeper::new(1);
    keeper.join("a.example", "");
    keeper.host();
    let once = format!("{PUSH} --once --member a.example");
    let error = keeper.refused(&once, 1);
    assert!(error.contains("api.sock"), "{error}");
    let _authority = authority(&keeper);
    for (from, to, code, word) in [
        (" --member a.example", "", 2, "--member"),
        (
            "--root @/fed/metadata/1.root.json",
            "--root @/none.json",
            2,
            "none.json",
        ),
        (
            "--root @/fed/metadata/1.root.json",
            "--root @/a.example.json",
            2,
            "a.example.json",
        ),
        ("push @/fed", "push @/fed @/other", 2, "as many --root"),
        (
            "--data @/push",
            "--data @/push --threshold 2",
            2,
            "--threshold",
        ),
        ("push @/fed", "push http://127.0.0.1:1/?x", 2, "query"),
        ("push @/fed", "push @/none", 1, "timestamp"),
        ("--data @/push", "--data @/push --max-stale 1m", 2, "1h"),
    ] {
        let line = once.replace(from, to);
        assert_ne!(line, once);
        let error = keeper.refused(&line, code);
        assert!(error.contains(word), "{line}: {error}");
    }
    keeper.ok(&once);
    // A directory that is away takes nobody away.
    fs::rename(keeper.file("fed"), keeper.file("away")).unwrap();
    let line = once.replace("--root @/fed", "--root @/away");
    let told = keeper.said(&line, 1);
    assert_eq!(
        (&told["deleted"], &told["left"]),
        (&json!([]), &json!([])),
        "{told}"
    );
    assert_eq!(told["not_followed"].as_array().unwrap().len(), 1);
    assert_eq!(there(&keeper), json!({"a.example": 1}));
    // Nor does one of which nothing is remembered.
    fs::remove_dir_all(keeper.file("push/directory")).unwrap();
    assert_eq!(keeper.said(&line, 1)["deleted"], json!([]));
    assert_eq!(there(&keeper), json!({"a.example": 1}));
}

#[test]
fn it_goes_on_for_as_long_as_it_is_let() {
    let keeper = Keeper::new(1);
    keeper.join("a.example", "");
    keeper.host();
    let line = format!("{PUSH} --member a.example");
    // Before there is a server.
    let mut push = Process::start(&mut keeper.command(&line));
    push.wait_for("the server does not answer");
    let mut server = authority(&keeper);
    push.wait_for("bundle set");
    assert_eq!(there(&keeper), json!({"a.example": 1}));
    // What is new is set at once, when somebody asks for it.
    keeper.bundle("a.example", 2);
    keeper.ok("publish @/fed --data @/a.example --bundle @/a.example.json");
    keeper.host();
    push.signal(Signal::SIGHUP);
    until("the next bundle", || {
        (there(&keeper) == json!({"a.example": 2})).then_some(())
    });
    // The server ends, and comes again.
    server.signal(Signal::SIGTERM);
    server.ended();
    push.signal(Signal::SIGHUP);
    push.wait_for("not pushed");
    let _server = authority(&keeper);
    assert_eq!(there(&keeper), json!({"a.example": 2}));
    push.signal(Signal::SIGTERM);
    let (status, _) = push.ended();
    assert!(status.success(), "{status}");
    // Expelled while nobody pushed.
    keeper.both("member expel a.example @/fed");
    keeper.host();
    let push = Process::start(&mut keeper.command(&format!("{line} --json")));
    push.wait_for("bundle taken away");
    assert_eq!(there(&keeper), json!({}));
}
