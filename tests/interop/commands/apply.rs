//! `sekisho apply`.

use serde_json::Value;

use super::{CREATE, admin::Admin};

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
    // Whatever was changed by hand is as the file says again.
    for change in ["--hint x", "--expires-at 4102444800", "--jwt-id"] {
        admin.json(&format!("entry update --entry-id apply.a {change}"));
        let back = admin.json("apply -f @entries.yaml --yes");
        assert_eq!(
            (&back["update"], &back["applied"]),
            (&serde_json::json!(["apply.a"]), &true.into()),
            "{change}"
        );
    }
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

/// The user that an entry is for, by the entry's name.
fn users(admin: &Admin) -> Vec<(String, String)> {
    let list = admin.json("entry list");
    let all = list.as_array().unwrap().iter();
    let mut users: Vec<_> = all
        .map(|one| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&one["id"]), text(&one["selectors"][0]))
        })
        .collect();
    users.sort_unstable();
    users
}

#[test]
fn entries_exchange_their_keys() {
    let admin = Admin::start();
    let file = |users: [u32; 3]| {
        let names = ["a", "b", "c"].into_iter().zip(users);
        let lines = names.map(|(name, uid)| {
            format!("  - {{id: {name}, spiffe_id: /w, selectors: [\"unix:uid:{uid}\"]}}\n")
        });
        admin.world.write(
            "entries.yaml",
            &format!("entries:\n{}", lines.collect::<String>()),
        );
    };
    // As they come, a circle of three, two of them, and a chain.
    for uids in [[1, 2, 3], [2, 3, 1], [3, 2, 1], [4, 3, 2]] {
        file(uids);
        admin.json("apply -f @entries.yaml --yes");
        let expected: Vec<_> = ["apply.a", "apply.b", "apply.c"]
            .into_iter()
            .zip(uids)
            .map(|(name, uid)| (name.to_owned(), format!("unix:uid:{uid}")))
            .collect();
        assert_eq!(users(&admin), expected);
    }
    file([1, 1, 3]);
    let before = users(&admin);
    let twice = admin.refused("apply -f @entries.yaml --yes", 2);
    assert!(twice.contains("apply.b and apply.a"), "{twice}");
    admin.json(
        "entry create --entry-id hand --parent-id /node/local --spiffe-id /w --selector unix:uid:7",
    );
    file([7, 8, 9]);
    let foreign = admin.refused("apply -f @entries.yaml --yes", 1);
    assert!(foreign.contains("sekisho entry delete hand"), "{foreign}");
    assert_eq!(users(&admin)[..3], before, "nothing was done");
}

#[test]
fn what_is_done_before_a_refusal_is_said() {
    let admin = Admin::start();
    admin.world.write(
        "entries.yaml",
        "entries:\n  - {spiffe_id: /a, selectors: [\"unix:uid:1\"]}\n  \
         - {spiffe_id: /b, selectors: [\"unix:uid:1\"], federates_with: [nowhere.example]}\n",
    );
    let refused = admin.refused("apply -f @entries.yaml --yes", 1);
    assert!(
        refused.contains("1 created")
            && refused.contains("apply.b: ")
            && refused.contains("--dry-run"),
        "{refused}"
    );
    assert_eq!(users(&admin).len(), 1);
}
