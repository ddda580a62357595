use sekisho_certs::id::parse_trust_domain;

use super::*;
use crate::directory::key::FileKey;

struct Keys {
    key: FileKey,
    set: KeySet,
}

fn keys() -> Keys {
    let key = FileKey::generate().unwrap();
    let set = KeySet::new(vec![key.public()], NonZeroU64::MIN).unwrap();
    Keys { key, set }
}

fn say(from: &KeySet, what: What, by: &FileKey) -> SignedStatement {
    let statement = Statement {
        member: "tokyo.example".into(),
        from: from.id(),
        what,
    };
    SignedStatement::new(&statement, NonZeroU64::MIN, &[by]).unwrap()
}

fn rekey(to: &KeySet) -> What {
    What::Rekey {
        to: to.clone(),
        recovery: None,
    }
}

fn all(statements: impl IntoIterator<Item = SignedStatement>) -> Continuity {
    let mut all = Continuity::default();
    for one in statements {
        assert!(all.add(one), "there is room");
    }
    // As whoever reads them has them.
    let domain = parse_trust_domain("tokyo.example").unwrap();
    Continuity::read(&domain, &all.to_json()).unwrap()
}

#[test]
fn new_keys_need_the_word_of_the_old_ones() {
    let (a, b, c) = (keys(), keys(), keys());
    let none = all([]);
    assert_eq!(none.judge(&a.set, false, None, &a.set), Verdict::Same);
    assert_eq!(none.judge(&a.set, false, None, &b.set), Verdict::Unproven);
    let chain = all([
        say(&a.set, rekey(&b.set), &a.key),
        say(&b.set, rekey(&c.set), &b.key),
    ]);
    assert_eq!(chain.judge(&a.set, false, None, &b.set), Verdict::Continued);
    assert_eq!(chain.judge(&a.set, false, None, &c.set), Verdict::Continued);
    assert_eq!(chain.judge(&c.set, false, None, &a.set), Verdict::Unproven);
    let by_another = all([say(&a.set, rekey(&b.set), &b.key)]);
    assert_eq!(
        by_another.judge(&a.set, false, None, &b.set),
        Verdict::Unproven
    );
}

#[test]
fn as_many_have_to_sign_as_before() {
    let (one, two, next) = (keys(), keys(), keys());
    let pair = vec![one.key.public(), two.key.public()];
    let pair = KeySet::new(pair, NonZeroU64::new(2).unwrap()).unwrap();
    let by_one = all([say(&pair, rekey(&next.set), &one.key)]);
    assert_eq!(
        by_one.judge(&pair, false, None, &next.set),
        Verdict::Unproven
    );
    let statement = Statement {
        member: "tokyo.example".into(),
        from: pair.id(),
        what: rekey(&next.set),
    };
    let both = SignedStatement::new(&statement, NonZeroU64::MIN, &[&one.key, &two.key]).unwrap();
    assert_eq!(
        all([both]).judge(&pair, false, None, &next.set),
        Verdict::Continued
    );
}

#[test]
fn what_is_revoked_comes_back_by_the_recovery_key_alone() {
    let (a, thief, b, spare) = (keys(), keys(), keys(), keys());
    let recovery = spare.key.public().id();
    let by = |key: &FileKey| What::Rekey {
        to: b.set.clone(),
        recovery: Some(key.public()),
    };
    let stolen = [
        say(&a.set, What::Revoke, &a.key),
        say(&a.set, rekey(&thief.set), &a.key),
    ];
    let revoked = all(stolen);
    assert_eq!(
        revoked.judge(&a.set, false, Some(&recovery), &a.set),
        Verdict::Revoked
    );
    assert_eq!(
        revoked.judge(&a.set, false, Some(&recovery), &thief.set),
        Verdict::Revoked
    );
    let mut back = revoked.clone();
    back.add(say(&a.set, by(&spare.key), &spare.key));
    assert_eq!(
        back.judge(&a.set, false, Some(&recovery), &b.set),
        Verdict::Continued
    );
    // By a recovery key that was never named, or one that has not signed.
    assert_eq!(back.judge(&a.set, false, None, &b.set), Verdict::Revoked);
    let mut lie = revoked;
    lie.add(say(&a.set, by(&spare.key), &a.key));
    lie.add(say(&a.set, by(&thief.key), &thief.key));
    assert_eq!(
        all([say(&a.set, rekey(&b.set), &a.key)]).judge(&a.set, true, None, &b.set),
        Verdict::Revoked,
        "who hides the revocation brings nothing back"
    );
    assert_eq!(
        lie.judge(&a.set, false, Some(&recovery), &b.set),
        Verdict::Revoked
    );
}

#[test]
fn keys_of_long_ago_revoke_nothing() {
    let (a, b) = (keys(), keys());
    let statements = all([
        say(&a.set, rekey(&b.set), &a.key),
        say(&a.set, What::Revoke, &a.key),
    ]);
    assert_eq!(statements.judge(&b.set, false, None, &b.set), Verdict::Same);
}

#[test]
fn a_veto_bars_what_it_names() {
    let (a, b, c) = (keys(), keys(), keys());
    let veto = What::Veto {
        against: b.set.id(),
    };
    let statements = all([say(&a.set, veto.clone(), &a.key)]);
    assert_eq!(
        statements.judge(&a.set, false, None, &b.set),
        Verdict::Vetoed
    );
    assert_eq!(
        statements.judge(&a.set, false, None, &c.set),
        Verdict::Unproven
    );
    let both = all([
        say(&a.set, veto, &a.key),
        say(&a.set, rekey(&b.set), &a.key),
    ]);
    assert_eq!(both.judge(&a.set, false, None, &b.set), Verdict::Vetoed);
}

#[test]
fn statements_of_others_and_what_is_none_are_left_out() {
    let (a, b) = (keys(), keys());
    let mut of_another = say(&a.set, rekey(&b.set), &a.key);
    let domain = parse_trust_domain("osaka.example").unwrap();
    let text = |one: &SignedStatement| {
        let mut all = Continuity::default();
        all.add(one.clone());
        all.to_json()
    };
    assert_eq!(
        Continuity::read(&domain, &text(&of_another))
            .unwrap()
            .iter()
            .count(),
        0
    );
    of_another.0.signed._extra.clear();
    let domain = parse_trust_domain("tokyo.example").unwrap();
    assert_eq!(
        Continuity::read(&domain, &text(&of_another))
            .unwrap()
            .iter()
            .count(),
        0
    );
    assert!(Continuity::read(&domain, b"{").is_err());
}

#[test]
fn what_nobody_has_signed_keeps_no_statement_out() {
    let (a, thief) = (keys(), keys());
    let mut both = all([say(&a.set, What::Revoke, &thief.key)]);
    assert_eq!(both.judge(&a.set, false, None, &a.set), Verdict::Same);
    assert!(both.add(say(&a.set, What::Revoke, &a.key)));
    assert_eq!(both.judge(&a.set, false, None, &a.set), Verdict::Revoked);
}
