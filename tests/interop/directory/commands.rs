//! The commands of those who keep a directory, and of its members.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use serde_json::json;

use super::keeper::Keeper;

#[test]
fn keys_are_made_once_and_shown() {
    let keeper = Keeper::empty();
    let made = keeper.ok("key new @/a.key");
    let mode = keeper
        .file("a.key")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    for file in ["a.key", "a.key.pub"] {
        let shown = keeper.ok(&format!("key show @/{file}"));
        assert_eq!((&shown["id"], &shown["key"]), (&made["id"], &made["key"]));
    }
    assert!(keeper.refused("key new @/a.key", 1).contains("already"));
    fs::write(keeper.file("b.pub"), "{}").unwrap();
    assert!(keeper.refused("key show @/b.pub", 2).contains("public key"));
    // A private key in the place of a public one is not taken, and not shown.
    let error = keeper.refused(
        "init @/fed --institution @/a.key --threshold 1 --registrar @/a.key --registrar-threshold 1 --host @/a.key",
        2,
    );
    assert!(
        error.contains("FILE.pub") && !error.contains("PRIVATE"),
        "{error}"
    );
    assert!(!keeper.file("fed/metadata").exists());
}

#[test]
fn a_directory_begins_by_several_hands() {
    let keeper = Keeper::empty();
    for name in ["t", "k", "o", "r", "s", "h"] {
        keeper.ok(&format!("key new @/{name}.key"));
    }
    let given = "--institution @/t.key.pub --institution @/k.key.pub --institution @/o.key.pub --threshold 2 \
                 --registrar @/r.key.pub --registrar @/s.key.pub --registrar-threshold 2 --host @/h.key.pub";
    let error = keeper.refused(&format!("init @/x {given} --threshold 4"), 2);
    assert!(
        error.contains("cannot be used multiple times") || error.contains("4 of 3"),
        "{error}"
    );
    let begun = keeper.ok(&format!("init @/fed {given} --key @/t.key --key @/r.key"));
    assert_eq!(begun["roles"][0]["complete"], false);
    // Each of the others has a copy, signs there, and sends what it has signed.
    for (name, roles) in [("k", ["root", "targets"]), ("s", ["bin", "marks"])] {
        copy(&keeper, "fed", name);
        for role in roles {
            keeper.ok(&format!(
                "root sign @/{name} --of {role} --key @/{name}.key --out @/{name}-{role}.sig"
            ));
            let merged = keeper.ok(&format!("root merge @/fed @/{name}-{role}.sig"));
            assert_eq!(merged[0]["complete"], true, "{merged}");
        }
    }
    let again = keeper.refused("root merge @/fed @/k-root.sig", 1);
    assert!(again.contains("k-root.sig"), "{again}");
    keeper.ok("root publish @/fed --all");
    keeper.ok("host @/fed --key @/h.key");
    let shown = keeper.ok("root show @/fed");
    assert_eq!(shown["institutions"]["threshold"], 2);
    assert_eq!(shown["drafts"], json!([]));
    keeper.ok("status @/fed");
    let wrong = keeper.refused("host @/fed --key @/t.key", 1);
    assert!(wrong.contains("not the one of the host"), "{wrong}");
    keeper.refused("root publish @/fed --all", 1);
    let twice = keeper.refused(&format!("init @/fed {given}"), 1);
    assert!(twice.contains("already"), "{twice}");
}

fn copy(keeper: &Keeper, from: &str, to: &str) {
    let mut command = Command::new("cp");
    command
        .arg("-r")
        .arg(keeper.file(from))
        .arg(keeper.file(to));
    assert!(command.status().unwrap().success());
}

#[test]
fn what_is_drafted_is_not_lost_by_another_proposal() {
    let keeper = Keeper::new(1);
    keeper.ok("root propose @/fed --key @/keys/institution-1.key");
    let error = keeper.refused("root propose @/fed", 1);
    assert!(
        error.contains("which 1 keys have signed") && error.contains("--anew"),
        "{error}"
    );
    keeper.ok("root propose @/fed --anew");
    keeper.ok("root discard @/fed");
    keeper.refused("root discard @/fed", 1);
    keeper.refused("root propose @/fed --bins 16", 2);
    keeper.refused("root propose @/fed --of targets --threshold 1", 2);
    keeper.refused("root propose @/fed --of td-tokyo.example", 2);
    keeper.refused("root sign @/fed --of ../root --key @/keys/host.key", 2);
}

#[test]
fn more_bins_are_signed_by_all_hands() {
    let keeper = Keeper::new(1);
    keeper.join("tokyo.example", " --mark hpci");
    keeper.ok("root propose @/fed --of targets --bins 16 --key @/keys/institution-3.key");
    for key in ["institution-1", "registrar-1"] {
        keeper.ok(&format!("root sign @/fed --all --key @/keys/{key}.key"));
    }
    // The second registrar has a copy, and sends seventeen files back.
    copy(&keeper, "fed", "copy");
    keeper.ok("root sign @/copy --all --key @/keys/registrar-2.key --out @/sent");
    let sent = fs::read_dir(keeper.file("sent")).unwrap();
    let sent: Vec<String> = sent
        .map(|file| format!(" @/sent/{}", file.unwrap().file_name().display()))
        .collect();
    assert_eq!(sent.len(), 17);
    keeper.ok(&format!("root merge @/fed{}", sent.concat()));
    keeper.ok("root publish @/fed --all");
    keeper.host();
    let report = keeper.ok("verify --offline @/fed");
    assert_eq!(report["members"][0]["marks"], json!(["hpci"]));
    assert_eq!(keeper.ok("root show @/fed")["bins"], 16);
}

#[test]
fn a_member_is_admitted_by_what_it_has_told_by_another_way() {
    let keeper = Keeper::new(1);
    let asked = keeper.request("tokyo.example");
    let told = asked["fingerprint"].as_str().unwrap();
    assert!(asked["dns"].as_str().unwrap().contains(told));
    assert!(
        asked["recovery_key"]
            .as_str()
            .unwrap()
            .ends_with("recovery.key")
    );
    let admit = "member admit @/tokyo.example.request @/fed --mark hpci --key @/keys/registrar-";
    // Nobody can be asked here, and nothing is done.
    let error = keeper.refused(&format!("{admit}1.key"), 1);
    assert!(error.contains("--yes"), "{error}");
    let other = told.replace(|one: char| one.is_ascii_digit(), "f");
    let error = keeper.refused(&format!("{admit}1.key --fingerprint {other}"), 1);
    assert!(error.contains("another: nothing was done"), "{error}");
    assert_eq!(keeper.ok("root show @/fed")["drafts"], json!([]));
    let error = keeper.refused(
        &format!("{admit}1.key --yes").replace("registrar-1", "institution-1"),
        1,
    );
    assert!(error.contains("may not sign"), "{error}");
    let first = keeper.ok(&format!("{admit}1.key --fingerprint {told}"));
    assert_eq!(
        (&first["admitted"], &first["standing"]),
        (&json!(false), &json!("new"))
    );
    keeper.host();
    assert_eq!(keeper.ok("member list @/fed"), json!([]));
    let upper = told.to_ascii_uppercase();
    let second = keeper.ok(&format!("{admit}2.key --fingerprint {upper}"));
    assert_eq!(second["admitted"], true);
    keeper.host();
    let list = keeper.ok("member list @/fed --mark hpci");
    let expected =
        json!([{ "trust_domain": "tokyo.example", "standing": "member", "marks": ["hpci"] }]);
    assert_eq!(list, expected);
    assert_eq!(keeper.ok("member list @/fed --mark eu"), json!([]));
    // The third registrar comes late: there is nothing left to sign.
    let late = keeper.ok(&format!("{admit}3.key --yes"));
    assert_eq!(late["standing"], "same");
    let shown = keeper.ok("member show tokyo.example @/fed");
    assert_eq!(shown["fingerprint"], told);
    let service = &shown["descriptor"]["services"][0];
    assert_eq!(service["spiffe_id"], "spiffe://tokyo.example/mdx");
    for line in ["suspend", "resume", "expel"] {
        let done = keeper.both(&format!("member {line} tokyo.example @/fed"));
        assert!(done["done"].is_string(), "{done}");
        keeper.host();
    }
    keeper.refused("member show tokyo.example @/fed", 1);
    keeper.refused(
        "member expel tokyo.example @/fed --key @/keys/registrar-1.key",
        1,
    );
    fs::write(keeper.file("bad.request"), "{}").unwrap();
    let error = keeper.refused(
        "member admit @/bad.request @/fed --key @/keys/registrar-1.key --yes",
        2,
    );
    assert!(
        error.contains("bad.request") && error.contains("trust_domain"),
        "{error}"
    );
}

#[test]
fn a_word_is_said_again_only_where_it_is_news_and_never_backwards() {
    let keeper = Keeper::new(1);
    let publish = "publish @/fed --data @/tokyo.example";
    let error = keeper.refused(publish, 2);
    assert!(error.contains("member request"), "{error}");
    keeper.request("tokyo.example");
    let error = keeper.refused(publish, 1);
    assert!(error.contains("not admitted"), "{error}");
    keeper.join("tokyo.example", "");
    assert_eq!(keeper.ok(publish)["published"], false);
    keeper.bundle("tokyo.example", 5);
    let bundle = format!("{publish} --bundle @/tokyo.example.json");
    let said = keeper.ok(&bundle);
    assert_eq!(
        (&said["published"], &said["why"], &said["version"]),
        (&json!(true), &json!("changed"), &json!(2))
    );
    assert_eq!(keeper.ok(&bundle)["published"], false);
    keeper.bundle("tokyo.example", 4);
    let error = keeper.refused(&bundle, 1);
    assert!(error.contains("spiffe_sequence 4"), "{error}");
    assert_eq!(keeper.ok(&format!("{publish} --again"))["why"], "asked");
    let more = " --service mdx=a.tokyo.example:1 --service mdx=b.tokyo.example:2 --contact noc@tokyo.example --max-stale 1d";
    assert_eq!(keeper.ok(&format!("{publish}{more}"))["version"], 4);
    let shown = keeper.ok("member show tokyo.example @/fed");
    let descriptor = &shown["descriptor"];
    assert_eq!(
        descriptor["services"][0]["gateways"],
        json!(["a.tokyo.example:1", "b.tokyo.example:2"])
    );
    assert_eq!(descriptor["max_stale"], 86_400);
    let error = keeper.refused(&format!("{publish} --max-stale 1s"), 2);
    assert!(error.contains("max_stale"), "{error}");
    fs::write(keeper.file("services.yaml"), "services: [{name: mdx}]").unwrap();
    let error = keeper.refused(&format!("{publish} --services @/services.yaml"), 2);
    assert!(
        error.contains("services.yaml:1:") && error.contains("gateways"),
        "{error}"
    );
    // A bundle of somebody else is none of ours.
    keeper.bundle("osaka.example", 9);
    fs::write(
        keeper.file("osaka.pem"),
        sekisho_testkit::TestCa::new("osaka.example").pem(),
    )
    .unwrap();
    let error = keeper.refused(&format!("{publish} --bundle @/osaka.pem"), 1);
    assert!(error.contains("another trust domain"), "{error}");
}

#[test]
fn new_keys_are_known_by_the_old_ones_and_stolen_ones_come_back() {
    let keeper = Keeper::new(1);
    keeper.join("tokyo.example", "");
    keeper.host();
    let admit = |file: &str| {
        let line = format!("member admit @/{file} @/fed --yes --key @/keys/registrar-");
        let first = keeper.ok(&format!("{line}1.key"));
        let second = keeper.ok(&format!("{line}2.key"));
        assert_eq!(second["admitted"], true);
        first["standing"].as_str().unwrap().to_owned()
    };
    let asked = keeper.ok("rotate --data @/tokyo.example --out @/rotate.json");
    assert_eq!(admit("rotate.json"), "continued");
    keeper.host();
    assert_eq!(
        keeper.ok("member show tokyo.example @/fed")["fingerprint"],
        asked["fingerprint"]
    );
    // The first word after that is by the new key.
    assert_eq!(
        keeper.ok("publish @/fed --data @/tokyo.example")["published"],
        false
    );
    assert!(!keeper.file("tokyo.example/next.key").exists());
    // A host that is away keeps nobody from it.
    let away = keeper.refused(
        "self-revoke http://127.0.0.1:1 --data @/tokyo.example --yes",
        1,
    );
    assert!(away.contains("revoked here"), "{away}");
    let error = keeper.refused("publish @/fed --data @/tokyo.example --again", 1);
    assert!(error.contains("--recovery-key"), "{error}");
    keeper.ok("self-revoke @/fed --data @/tokyo.example --yes");
    keeper.host();
    let again = keeper.ok("rotate --data @/tokyo.example --out @/again.json");
    assert!(again["version"].is_number());
    let line = "member admit @/again.json @/fed --yes --key @/keys/registrar-1.key";
    assert_eq!(keeper.ok(line)["standing"], "revoked");
    keeper.ok("root discard @/fed --of bin");
    let wrong = "rotate --data @/tokyo.example --recovery-key @/tokyo.example/member.key";
    assert!(keeper.refused(wrong, 1).contains("not the recovery key"));
    let recovery = "--recovery-key @/tokyo.example/recovery.key --out @/back.json";
    keeper.ok(&format!("rotate --data @/tokyo.example {recovery}"));
    assert_eq!(admit("back.json"), "continued");
    keeper.host();
    assert_eq!(
        keeper.ok("publish @/fed --data @/tokyo.example")["published"],
        false
    );
    keeper.ok("verify --offline @/fed");
    // Registrars who collude give the name to others; the true ones speak against it.
    keeper.refused("veto @/fed --data @/tokyo.example", 1);
    keeper.bundle("tokyo.example", 9);
    keeper.ok("member request --id tokyo.example --data @/thief --bundle @/tokyo.example.json --out @/stale.request");
    let stale = "member admit @/stale.request @/fed --yes --key @/keys/registrar-1.key";
    let error = keeper.refused(stale, 1);
    assert!(error.contains("version 1 is sent"), "{error}");
    assert_eq!(keeper.ok("root show @/fed")["drafts"], json!([]));
    keeper.ok("member request --at @/fed --data @/thief --out @/thief.request");
    assert_eq!(
        keeper.ok("member admit @/thief.request @/fed --yes --key @/keys/registrar-1.key")["standing"],
        "unproven"
    );
    let stolen = keeper.refused(
        "member admit @/thief.request @/fed --yes --key @/keys/registrar-2.key",
        1,
    );
    assert!(stolen.contains("another recovery key"), "{stolen}");
    let error = keeper.refused("publish @/fed --data @/tokyo.example", 1);
    assert!(
        error.contains("other keys") && error.contains("veto"),
        "{error}"
    );
    keeper.ok("veto @/fed --data @/tokyo.example --out @/veto.json");
    // Nor does it help to ask again.
    let again = keeper.refused(
        "member admit @/thief.request @/fed --yes --key @/keys/registrar-1.key",
        1,
    );
    assert!(again.contains("another recovery key"), "{again}");
    assert!(keeper.file("veto.json").exists());
}

#[test]
fn what_does_not_hold_is_left_out_and_told() {
    let keeper = Keeper::new(1);
    keeper.join("tokyo.example", "");
    keeper.host();
    fs::write(keeper.file("fed/metadata/2.td-tokyo.example.json"), "{}").unwrap();
    let hosted = keeper.said("host @/fed --key @/keys/host.key", 3);
    assert_eq!(hosted["complaints"][0]["role"], "td-tokyo.example");
    keeper.ok("verify --offline @/fed");
    let target = fs::read_dir(keeper.file("fed/targets")).unwrap();
    for file in target.map(|file| file.unwrap().path()) {
        if file.to_str().unwrap().ends_with("tokyo.example.json") {
            fs::write(file, "{}").unwrap();
        }
    }
    let report = keeper.said("verify --offline @/fed", 1);
    assert_eq!(report["complaints"][0]["role"], "td-tokyo.example");
    keeper.said("status @/fed", 1);
    keeper.refused("verify --offline @/nowhere", 1);
    keeper.refused("host @/fed --key @/keys/host.key --every 1s", 2);
}
