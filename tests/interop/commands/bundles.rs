//! `sekisho bundle` and `sekisho federation`.

use serde_json::{Value, json};

use super::{CREATE, admin::Admin};

#[test]
fn a_bundle_goes_from_one_authority_to_another() {
    let (here, there) = (Admin::start(), Admin::start_of("b.example"));
    let own = there.json("bundle show");
    let own = &own["bundles"][0];
    assert_eq!(own["trust_domain"], "b.example");
    assert_eq!(own["jwt_authorities"].as_array().unwrap().len(), 1);
    // Both forms, and from a file and standard input.
    for (form, sent) in [("spiffe", ""), ("pem", " --format pem")] {
        let text = there.text(&format!("bundle export --format {form}"));
        let stored = here.fed(&format!("bundle set --id spiffe://b.example{sent}"), &text);
        assert!(stored.status.success(), "{stored:?}");
        assert_eq!(
            String::from_utf8(stored.stdout).unwrap(),
            "stored b.example\n"
        );
        let got = here.json("bundle show --id b.example");
        assert_eq!(
            got["bundles"][0]["authorities"], own["authorities"],
            "{form}"
        );
    }
    here.world.write("b.json", &there.text("bundle export"));
    let set = here.json("bundle set --id b.example --file @b.json");
    assert_eq!(
        set,
        json!([{"id": "b.example", "done": "stored", "status": "Ok", "message": null}])
    );
    let exported: Value =
        serde_json::from_str(&here.text("bundle show --id b.example --format spiffe")).unwrap();
    let original: Value = serde_json::from_str(&there.text("bundle export")).unwrap();
    assert_eq!(exported["keys"], original["keys"], "JWT keys included");
    assert_eq!(here.json("bundle count")["count"], 2);
    assert_eq!(
        here.json("bundle list")["bundles"][0]["trust_domain"],
        "b.example"
    );
    let map: Value = serde_json::from_str(&here.text("bundle list --format map")).unwrap();
    assert_eq!(map["trust_domains"]["b.example"]["keys"], original["keys"]);
}

#[test]
fn files_are_shown_without_an_authority() {
    let admin = Admin::start();
    let file = admin.world.name("a.example.pem");
    let shown = std::process::Command::new(crate::support::node::SEKISHO)
        .args([
            "bundle",
            "show",
            &file,
            "--trust-domain",
            "a.example",
            "--json",
        ])
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let own = admin.json("bundle show");
    assert_eq!(shown["bundles"][0]["trust_domain"], "a.example");
    assert_ne!(
        shown["bundles"][0]["authorities"], own["bundles"][0]["authorities"],
        "another CA by the same name"
    );
    // One or the other.
    admin.refused("bundle show @a.example.pem --id a.example", 2);
}

#[test]
fn a_bundle_that_is_used_is_not_deleted_by_mistake() {
    let admin = Admin::start();
    let set = || admin.json("bundle set --id b.example --file @b.example.pem");
    set();
    admin.json(&format!(
        "{CREATE} --entry-id one --federates-with b.example"
    ));
    let used = admin.refused("bundle delete --id b.example", 1);
    assert!(
        used.contains("b.example: ") && used.contains("FailedPrecondition"),
        "{used}"
    );
    let gone = admin.json("bundle delete --id b.example --mode dissociate");
    assert_eq!(gone[0]["done"], "deleted");
    assert_eq!(admin.json("entry show one")[0]["federates_with"], json!([]));
    set();
    admin.json("entry update --entry-id one --federates-with b.example");
    admin.json("bundle delete --id b.example --mode delete");
    assert_eq!(admin.json("entry list"), json!([]));
    let missing = admin.refused("bundle show --id b.example", 1);
    assert!(missing.contains("sekisho bundle list"), "{missing}");
    let own = admin.refused("bundle set --id a.example --file @a.example.pem", 1);
    assert!(own.contains("InvalidArgument"), "{own}");
    admin.world.write("empty", "");
    let empty = admin.refused("bundle set --id b.example --file @empty", 2);
    assert!(empty.contains("empty: "), "{empty}");
    let gone = admin.refused("bundle set --id b.example --file @gone", 1);
    assert!(gone.contains("gone: "), "{gone}");
    let form = admin.refused(
        "bundle set --id b.example --file @b.example.pem --format spiffe",
        2,
    );
    assert!(form.contains("--format spiffe"), "{form}");
}

#[test]
fn federation_is_set_up_changed_and_ended() {
    let admin = Admin::start();
    assert_eq!(admin.json("federation list"), json!([]));
    // Nobody listens at port 1.
    let made = admin.json(
        "federation create --id b.example --url https://127.0.0.1:1/ --profile https_spiffe \
         --endpoint-id spiffe://b.example/authority --bundle @b.example.pem",
    );
    assert_eq!(made[0]["endpoint_id"], "spiffe://b.example/authority");
    assert_eq!(made[0]["bundle_sequence"], 0);
    let changed = admin.json("federation update --id b.example --url https://127.0.0.1:1/b");
    assert_eq!(
        (
            &changed[0]["url"],
            &changed[0]["profile"],
            &changed[0]["endpoint_id"]
        ),
        (
            &"https://127.0.0.1:1/b".into(),
            &"https_spiffe".into(),
            &"spiffe://b.example/authority".into()
        )
    );
    let changed = admin.json("federation update --id b.example --profile https_web");
    assert_eq!(
        (&changed[0]["profile"], &changed[0]["endpoint_id"]),
        (&"https_web".into(), &Value::Null)
    );
    let shown = admin.json("federation show b.example");
    for (name, value) in changed[0].as_object().unwrap() {
        assert_eq!(shown[0][name], *value, "{name}");
    }
    assert_eq!(
        (&shown[0]["origin"], &shown[0]["age"]),
        (&"api".into(), &Value::Null)
    );
    assert_eq!(
        admin.json("federation list")[0]["trust_domain"],
        "b.example"
    );
    let failed = admin.refused("federation refresh --id b.example", 1);
    assert!(failed.contains("RefreshBundle"), "{failed}");
    let gone = admin.json("federation delete --id b.example");
    assert_eq!(gone[0]["done"], "deleted");
    for line in ["show", "refresh", "delete"] {
        let missing = admin.refused(&format!("federation {line} --id b.example"), 1);
        assert!(missing.contains("NotFound"), "{missing}");
    }
    assert_eq!(admin.json("bundle count")["count"], 2, "the bundle stays");
}

#[test]
fn an_address_that_is_not_listed_is_named_and_a_peer_that_is_removed_leaves_nothing() {
    let admin = Admin::start();
    let add = "federation add b.example --url https://127.0.0.1:1/ --profile https_spiffe \
               --endpoint-id spiffe://b.example/spire/server --bundle @b.example.pem";
    admin.json(add);
    let twice = admin.refused(add, 1);
    assert!(twice.contains("exists already"), "{twice}");
    let failed = admin.refused("federation refresh b.example", 1);
    assert!(
        failed.contains("127.0.0.1 is not on the public Internet")
            && failed.contains("`federation.allow`"),
        "{failed}"
    );
    let shown = admin.json("federation show b.example");
    assert!(
        shown[0]["error"]
            .as_str()
            .unwrap()
            .contains("`federation.allow`")
    );
    let text = admin.text("federation list");
    assert!(
        text.contains("never") && text.contains("b.example: https://127.0.0.1:1/: "),
        "{text}"
    );
    let accepted = admin.json("federation accept-rollback b.example");
    assert_eq!(accepted[0]["done"], "accepted");
    assert_eq!(
        admin.json("federation show b.example")[0]["accepts_rollback"],
        true
    );
    assert_eq!(
        admin.json("federation remove b.example")[0]["done"],
        "removed"
    );
    assert_eq!(admin.json("bundle count")["count"], 1);
    for line in ["remove", "accept-rollback"] {
        let missing = admin.refused(&format!("federation {line} b.example"), 1);
        assert!(missing.contains("sekisho federation list"), "{missing}");
    }
    admin.refused("federation remove", 2);
    admin.refused("federation remove b.example --id b.example", 2);
}

#[test]
fn a_bundle_map_goes_from_one_authority_to_another() {
    let (admin, other) = (Admin::start(), Admin::start_of("c.example"));
    admin.json("bundle import @b.example.pem --id b.example");
    let map = admin.text("bundle export --all --format map");
    let read: Value = serde_json::from_str(&map).unwrap();
    let names: Vec<_> = read["trust_domains"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["a.example", "b.example"]);
    admin.refused("bundle export --all", 1);
    other.world.write("map.json", &map);
    let stored = other.json("bundle import @map.json");
    let names: Vec<_> = stored
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["id"])
        .collect();
    assert_eq!(names, ["a.example", "b.example"]);
    assert_eq!(other.json("bundle count")["count"], 3);
    // Our own comes from our own CA.
    let output = admin.fed("bundle import", &map);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && told.contains("a.example: left out"),
        "{told}"
    );
    let wrong = admin.refused("bundle import @b.example.pem", 2);
    assert!(wrong.contains("not a Bundle Map"), "{wrong}");
    // The CA of one site under another's name.
    other.world.write(
        "b.pem",
        &admin.text("bundle export --id b.example --format pem"),
    );
    let shared = other.refused("bundle import @b.pem --id d.example", 2);
    assert!(shared.contains("another trust domain"), "{shared}");
}
