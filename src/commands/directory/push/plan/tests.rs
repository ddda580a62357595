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

/// As if these had been set by us, as [`bundle`] has them with the sequence 1.
fn ours(names: &[&str]) -> Pushed {
    let each = names.iter();
    each.map(|name| ((*name).to_owned(), [digest(&bundle(name, 1))].into()))
        .collect()
}

fn there(names: &[&str]) -> There {
    There {
        own: "own.example".into(),
        relationships: BTreeSet::new(),
        bundles: all(names, 1),
    }
}

fn said(names: &[&str], sequence: u64) -> Said {
    Said {
        bundles: all(names, sequence),
        named: set(names),
        unsure: BTreeSet::new(),
    }
}

fn left(all: &[(&str, Left)]) -> BTreeMap<String, Left> {
    let each = all.iter();
    each.map(|(name, left)| ((*name).to_owned(), *left))
        .collect()
}

#[test]
fn only_what_differs_is_set_and_never_the_servers_own() {
    let pushed = ours(&["a.example"]);
    let done = plan(&said(&NAMES, 1), &there(&["a.example"]), &pushed, false);
    assert_eq!(done.set, [bundle("b.example", 1)]);
    assert_eq!(done.left, left(&[("own.example", Left::Own)]));
    assert_eq!((done.delete.len(), done.forget.len()), (0, 0));
    let done = plan(&said(&NAMES, 2), &there(&["a.example"]), &pushed, false);
    assert_eq!(done.set, [bundle("a.example", 2), bundle("b.example", 2)]);
    // Whoever has taken ours away wants it back as long as it is asked for.
    let done = plan(&said(&["a.example"], 1), &there(&[]), &pushed, false);
    assert_eq!(done.set, [bundle("a.example", 1)]);
    assert_eq!(done.forget.len(), 0);
}

#[test]
fn who_is_no_member_any_more_loses_what_was_pushed_and_nothing_else() {
    let there = there(&["a.example", "b.example"]);
    let pushed = ours(&["a.example", "c.example"]);
    let mut said = said(&[], 1);
    said.named = set(&["a.example", "b.example"]);
    let done = plan(&said, &there, &pushed, true);
    assert_eq!(done.delete, ["a.example"]);
    assert_eq!(done.forget, ["c.example"], "it is gone already");
    let both = [("a.example", Left::Missing), ("b.example", Left::Missing)];
    assert_eq!(done.left, left(&both));
    // Before the directories have said anything of it, it stays.
    said.unsure = set(&["a.example", "c.example"]);
    let done = plan(&said, &there, &pushed, false);
    assert_eq!((done.delete.len(), done.forget.len()), (0, 0));
    assert_eq!(done.left, left(&both[1..]));
    // Who is not asked for any more goes too.
    let done = plan(&Said::default(), &there, &ours(&["b.example"]), false);
    assert_eq!(done.delete, ["b.example"]);
}

#[test]
fn what_the_server_fetches_itself_is_its_own_affair() {
    let mut there = there(&["a.example", "b.example"]);
    there.relationships = set(&["a.example", "b.example"]);
    // One is a member and has changed, the other is none any more; both were pushed before.
    let said = said(&["a.example"], 2);
    let pushed = ours(&["a.example", "b.example"]);
    for take_over in [false, true] {
        let done = plan(&said, &there, &pushed, take_over);
        assert_eq!((done.set.len(), done.delete.len()), (0, 0));
        assert_eq!(done.forget, ["a.example", "b.example"]);
        assert_eq!(done.left, left(&[("a.example", Left::Pairwise)]));
    }
}

#[test]
fn what_somebody_else_has_set_is_left_unless_it_is_to_be_taken_over() {
    let there = there(&["a.example"]);
    let nothing = Pushed::new();
    for (sequence, why) in [(1, Left::Others), (2, Left::Differs)] {
        let said = said(&["a.example"], sequence);
        let done = plan(&said, &there, &nothing, false);
        assert_eq!(done.left, left(&[("a.example", why)]));
        assert_eq!((done.set.len(), done.delete.len()), (0, 0));
        let done = plan(&said, &there, &nothing, true);
        assert_eq!(done.set, [bundle("a.example", sequence)]);
    }
    // Nor is it taken away.
    let done = plan(&said(&[], 1), &there, &nothing, true);
    assert_eq!(done, Plan::default());
}

#[test]
fn what_has_changed_since_it_was_pushed_is_not_ours_any_more() {
    // As a server does that fetches the bundle by its configuration file.
    let mut there = there(&["a.example"]);
    there.bundles = all(&["a.example"], 7);
    let pushed = ours(&["a.example"]);
    let done = plan(&said(&["a.example"], 2), &there, &pushed, false);
    assert_eq!(done.set, []);
    assert_eq!(done.left, left(&[("a.example", Left::Differs)]));
    assert_eq!(done.forget, ["a.example"]);
    let done = plan(&said(&[], 1), &there, &pushed, true);
    assert_eq!((done.set.len(), done.delete.len()), (0, 0));
    assert_eq!(done.forget, ["a.example"]);
    let done = plan(&said(&["a.example"], 2), &there, &pushed, true);
    assert_eq!(done.set, [bundle("a.example", 2)]);
    // Where it was not answered whether a bundle was set, either of the two is ours.
    let mut pushed = pushed;
    let next = digest(&bundle("a.example", 7));
    pushed.get_mut("a.example").unwrap().insert(next);
    let done = plan(&said(&["a.example"], 8), &there, &pushed, false);
    assert_eq!(done.set, [bundle("a.example", 8)]);
    assert_eq!(done.forget.len(), 0);
}
