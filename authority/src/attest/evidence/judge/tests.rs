use sekisho_certs::id;
use serde_json::{Value, json};

use super::*;

fn domain() -> TrustDomain {
    id::parse_trust_domain("a.example").unwrap()
}

fn piece(path: &str, given: &str, again: bool) -> Attested {
    let own = id::id_below(&domain(), path).unwrap();
    let made = match again {
        true => Attested::again(own),
        false => Attested::once(own),
    };
    Attested {
        selectors: selectors(vec![given.to_owned()]).unwrap(),
        ..made
    }
}

/// What a policy with this answer makes of a certificate and a token.
fn made(answer: Value) -> Result<Attested, AttestError> {
    let pieces = vec![
        piece("/spire/agent/x509pop/1f", "x509pop:subject:cn:n", true),
        piece("/spire/agent/sekisho_evidence/join_token/aa", "t:v", false),
    ];
    Verdict::read(answer)?.attested(pieces, &domain())
}

#[test]
fn a_yes_names_a_node_below_our_own_path_or_as_a_piece_does() {
    let by_path = made(json!({"allow": true, "path": "/rack/7", "ttl_s": 60})).unwrap();
    let id = "spiffe://a.example/spire/agent/sekisho_evidence/rack/7";
    assert_eq!(by_path.id.to_string(), id);
    assert_eq!(by_path.ttl, Some(Duration::from_secs(60)));
    assert_eq!(by_path.selectors.len(), 2, "those of all");
    assert!(!by_path.can_reattest, "a token cannot be shown again");
    let id = "spiffe://a.example/spire/agent/x509pop/1f";
    let by_piece = made(json!({"allow": true, "id": id, "selectors": ["a:b", "a:b", "c:d:e"]}));
    let by_piece = by_piece.unwrap();
    assert_eq!(by_piece.id.to_string(), id);
    let texts: Vec<_> = by_piece.selectors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["a:b", "c:d:e"]);
}

#[test]
fn a_no_is_a_denial_with_its_reason_on_one_line() {
    for (answer, told) in [
        (json!(false), "refuses"),
        (json!({"allow": false}), "refuses"),
        (
            json!({"allow": false, "reason": "two\nlines"}),
            "refuses: two lines",
        ),
    ] {
        let error = made(answer.clone()).unwrap_err();
        assert!(
            matches!(error, AttestError::Denied(_)),
            "{answer}: {error:?}"
        );
        assert!(error.to_string().ends_with(told), "{error}");
    }
}

#[test]
fn what_makes_no_sense_lets_nobody_in_and_is_no_denial() {
    let long = "x".repeat(1024);
    let many: Vec<_> = (0..=MOST_SELECTORS).map(|at| format!("a:{at}")).collect();
    for answer in [
        json!(true),
        json!("yes"),
        json!({}),
        json!({"allow": "yes"}),
        json!({"allow": true}),
        json!({"allow": true, "path": "/a", "id": "spiffe://a.example/spire/agent/x509pop/1f"}),
        json!({"allow": true, "path": "a"}),
        json!({"allow": true, "path": "/"}),
        json!({"allow": true, "path": "/a/../b"}),
        json!({"allow": true, "path": "/a b"}),
        json!({"allow": true, "id": "spiffe://a.example/spire/agent/x509pop/2f"}),
        json!({"allow": true, "id": "spiffe://b.example/spire/agent/x509pop/1f"}),
        json!({"allow": true, "id": "nonsense"}),
        json!({"allow": true, "path": "/a", "selectors": ["a"]}),
        json!({"allow": true, "path": "/a", "selectors": [":a"]}),
        json!({"allow": true, "path": "/a", "selectors": ["a:"]}),
        json!({"allow": true, "path": "/a", "selectors": [format!("a:{long}")]}),
        json!({"allow": true, "path": "/a", "selectors": many}),
        json!({"allow": true, "path": "/a", "ttl_s": 59}),
        json!({"allow": true, "path": "/a", "ttl_s": -1}),
        json!({"allow": true, "path": "/a", "ttl_s": 1e12}),
        // One of the pieces is a token.
        json!({"allow": true, "path": "/a", "reattest_s": 300}),
        json!({"allow": true, "path": "/a", "typo": 1}),
    ] {
        let error = made(answer.clone()).unwrap_err();
        let unavailable = matches!(error, AttestError::Unavailable(_));
        assert!(unavailable, "{answer}: {error:?}");
    }
}

#[test]
fn the_policy_of_a_site_without_one_takes_the_strongest_name() {
    let judge = Judge::load(Source::Default).unwrap();
    let ask = |evidence: Value| judge.ask(json!({ "evidence": evidence })).unwrap();
    let piece = |kind: &str| json!({ "type": kind, "id": kind });
    let pop = piece("x509pop");
    let answer = ask(json!([piece("join_token"), pop, piece("k8s_psat")]));
    assert_eq!(answer, json!({"allow": true, "id": "k8s_psat"}));
    let answer = ask(json!([piece("join_token"), piece("x509pop")]));
    assert_eq!(answer, json!({"allow": true, "id": "x509pop"}));
    assert_eq!(ask(json!([]))["allow"], json!(false));
    assert_eq!(ask(json!([piece("later")]))["allow"], json!(false));
}
