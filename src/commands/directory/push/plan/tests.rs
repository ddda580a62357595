use super::*;

const NAMES: [&str; 3] = ["a.example", "b.example", "own.example"];

fn bundle(name: &str, sequence: u64) -> types::Bundle {
    let ca = |number: u8| types::X509Certificate {
        asn1: vec![number],
        tainted: false,
    };
    types::Bundle {
        trust_domain: name.into(),
        x509_authorities: vec![ca(1), ca(2)],
        jwt_authorities: vec![types::JwtKey {
            public_key: vec![3],
            key_id: "kid".into(),
            expires_at: 0,
            tainted: false,
        }],
        refresh_hint: 300,
        sequence_number: sequence,
    }
}

fn all(names: &[&str], sequence: u64) -> BTreeMap<String, types::Bundle> {
    let each = names.iter();
    each.map(|name| ((*name).to_owned(), bundle(name, sequence)))
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn there(names: &[&str]) -> There {
    There {
        own: "own.example".into(),
        relationships: BTreeSet::new(),
        bundles: all(names, 1),
    }
}

fn said(names: &[&str]) -> Said {
    Said {
        bundles: all(names, 1),
        named: set(names),
        unsure: BTreeSet::new(),
    }
}

#[test]
fn only_what_differs_is_set_and_never_the_servers_own() {
    let plan_of = |there: &There| plan(&said(&NAMES), there, &set(&["a.example"]));
    let done = plan_of(&there(&["a.example"]));
    assert_eq!(done.set, [bundle("b.example", 1)]);
    assert_eq!(done.left, [("own.example".into(), Left::Own)].into());
    assert_eq!((done.delete.len(), done.forget.len()), (0, 0));
    // The order of keys is nothing, all else is something.
    type Change = fn(&mut types::Bundle);
    let changes: [(Change, usize); 7] = [
        (|one| one.x509_authorities.reverse(), 1),
        (|one| one.x509_authorities.truncate(1), 2),
        (|one| one.x509_authorities[0].asn1 = vec![9], 2),
        (|one| one.jwt_authorities.clear(), 2),
        (|one| one.jwt_authorities[0].public_key = vec![9], 2),
        (|one| one.refresh_hint = 1, 2),
        (|one| one.sequence_number = 0, 2),
    ];
    for (number, (change, expected)) in changes.into_iter().enumerate() {
        let mut there = there(&["a.example"]);
        change(there.bundles.get_mut("a.example").unwrap());
        assert_eq!(plan_of(&there).set.len(), expected, "{number}");
    }
}

#[test]
fn who_is_no_member_any_more_loses_what_was_pushed_and_nothing_else() {
    let there = there(&["a.example", "b.example"]);
    let mut said = said(&[]);
    said.named = set(&["a.example", "b.example"]);
    let done = plan(&said, &there, &set(&["a.example", "c.example"]));
    assert_eq!(done.delete, ["a.example"]);
    assert_eq!(done.forget, ["c.example"], "it is gone already");
    let missing = |name: &str| (name.to_owned(), Left::Missing);
    let expected = [missing("a.example"), missing("b.example")];
    assert_eq!(done.left, expected.into());
    // Before the directories have said anything of it, it stays.
    said.unsure = set(&["a.example", "c.example"]);
    let done = plan(&said, &there, &set(&["a.example", "c.example"]));
    assert_eq!((done.delete.len(), done.forget.len()), (0, 0));
    assert_eq!(done.left, [missing("b.example")].into());
    // Who is not asked for any more goes too.
    let done = plan(&Said::default(), &there, &set(&["b.example"]));
    assert_eq!(done.delete, ["b.example"]);
}

#[test]
fn what_the_server_fetches_itself_is_its_own_affair() {
    let mut there = there(&["a.example", "b.example"]);
    there.relationships = set(&["a.example", "b.example"]);
    // One is a member and has changed, the other is none any more; both were pushed before.
    let mut said = said(&["a.example"]);
    said.bundles = all(&["a.example"], 2);
    let pushed = set(&["a.example", "b.example"]);
    let done = plan(&said, &there, &pushed);
    assert_eq!((done.set.len(), done.delete.len()), (0, 0));
    assert_eq!(done.forget, ["a.example", "b.example"]);
    assert_eq!(done.left, [("a.example".into(), Left::Pairwise)].into());
    // Without the relationship it is set, and what somebody else had set is not taken away.
    there.relationships.clear();
    let done = plan(&said, &there, &BTreeSet::new());
    assert_eq!(done.set, [bundle("a.example", 2)]);
    assert_eq!((done.delete.len(), done.forget.len()), (0, 0));
}

#[test]
fn what_somebody_else_has_set_is_told() {
    let done = plan(
        &said(&["a.example"]),
        &there(&["a.example"]),
        &BTreeSet::new(),
    );
    assert_eq!(done.left, [("a.example".into(), Left::Others)].into());
    assert_eq!((done.set.len(), done.delete.len()), (0, 0));
    let ours = plan(
        &said(&["a.example"]),
        &there(&["a.example"]),
        &set(&["a.example"]),
    );
    assert_eq!(ours, Plan::default());
}
