use sekisho_policy::{
    DEFAULT_DECISION, LoadError,
    commands::{EvalError, Fail, Outcome, check, eval, eval_exit_code, test},
};
use serde_json::json;

use crate::support::{authz, files, inbound};

#[test]
fn check_lists_what_it_found() {
    let dir = files(&[
        (
            "authz.rego",
            "package sekisho.authz\nallow := true\nf(x) := x",
        ),
        ("authz_test.rego", "package sekisho.authz\ntest_a if allow"),
    ]);
    let report = check(dir.path(), DEFAULT_DECISION).unwrap();
    assert_eq!(report.files, ["authz.rego"]);
    assert_eq!(report.test_files, ["authz_test.rego"]);
    assert_eq!(report.rules, 2);
    let text = report.to_string();
    assert!(
        text.contains("2 rules, decision sekisho/authz/allow, revision "),
        "{text}"
    );
}

#[test]
fn check_finds_errors_in_tests_too() {
    let dir = files(&[
        ("authz.rego", "package sekisho.authz\nallow := true"),
        (
            "authz_test.rego",
            "package sekisho.authz\ntest_a if nope(1)",
        ),
    ]);
    let error = check(dir.path(), DEFAULT_DECISION).unwrap_err();
    assert_eq!(error.position().unwrap().file, "authz_test.rego");
}

#[test]
fn eval_answers_like_opa() {
    let dir = authz("allow if input.sekisho.service == \"kafka\"");
    let result = eval(dir.path(), inbound().to_json(), "data.sekisho.authz.allow").unwrap();
    assert_eq!(result["result"][0]["expressions"][0]["value"], json!(true));
    assert_eq!(
        eval(dir.path(), json!({}), "data.sekisho.authz.allow").unwrap(),
        json!({})
    );
    let result = eval(dir.path(), json!({"x": [1, 2]}), "some i; v := input.x[i]").unwrap();
    assert_eq!(result["result"][1]["bindings"], json!({"i": 1, "v": 2}));
}

#[test]
fn eval_refuses_what_a_policy_may_not_call() {
    let dir = authz("allow := true");
    let refused = |query| eval(dir.path(), json!({}), query).unwrap_err();
    assert!(matches!(
        refused("http.send({})"),
        EvalError::Load(LoadError::Call { .. })
    ));
    assert!(matches!(
        refused("1 +"),
        EvalError::Load(LoadError::Syntax { .. })
    ));
    assert!(matches!(refused("1 / 0"), EvalError::Failed { .. }));
    assert!(matches!(
        refused("numbers.range(1, 100000000)"),
        EvalError::Budget
    ));
}

#[test]
fn eval_ends_with_the_exit_codes_of_opa() {
    let dir = authz("allow := true");
    let run = |query| eval(dir.path(), json!({}), query);
    for (query, never, defined, undefined) in [
        ("data.sekisho.authz.allow", 0, 1, 0),
        ("data.sekisho.authz.no", 0, 0, 1),
        ("false", 0, 1, 0),
        ("nope(", 2, 2, 2),
    ] {
        let result = run(query);
        assert_eq!(eval_exit_code(&result, Fail::Never), never, "{query}");
        assert_eq!(eval_exit_code(&result, Fail::Defined), defined, "{query}");
        assert_eq!(
            eval_exit_code(&result, Fail::Undefined),
            undefined,
            "{query}"
        );
    }
}

const TESTS: &str = r#"package sekisho.authz_test

import data.sekisho.authz

test_allows_kafka if authz.allow with input as {"sekisho": {"service": "kafka"}}

test_allows_listed if authz.allow with input.sekisho.service as "ldap" with data.more as ["ldap"]

test_mocks_function if authz.allow with authz.known as true

test_mocks_builtin if authz.night with time.now_ns as 0

test_denies if not authz.allow with input as {}

test_wrong if authz.allow with input as {}

test_fails if to_number("x") == 1

test_prints if print("hello")

todo_test_later if false

helper if true
"#;

const POLICY: &str = r#"package sekisho.authz

allow if known(input.sekisho.service)

allow if input.sekisho.service in data.more

known(service) if service == "kafka"

night if time.now_ns() == 0
"#;

#[test]
fn test_runs_every_test_rule() {
    let dir = files(&[
        ("authz.rego", POLICY),
        ("sub/authz_test.rego", TESTS),
        ("data.json", "{\"more\": []}"),
    ]);
    let report = test(dir.path(), None).unwrap();
    let outcome = |name: &str| {
        let result = report.results.iter().find(|result| result.name == name);
        result
            .unwrap_or_else(|| panic!("no {name}"))
            .outcome
            .clone()
    };
    for name in [
        "test_allows_kafka",
        "test_allows_listed",
        "test_mocks_builtin",
        "test_denies",
        "test_prints",
    ] {
        assert_eq!(outcome(name), Outcome::Pass, "{name}");
    }
    assert_eq!(outcome("test_wrong"), Outcome::Fail);
    assert!(matches!(outcome("test_fails"), Outcome::Error { .. }));
    assert_eq!(outcome("todo_test_later"), Outcome::Skip);
    assert_eq!(report.results.len(), 9);
    assert_eq!(report.exit_code(true), 2);
    let text = report.text(false);
    assert!(
        text.contains("data.sekisho.authz_test.test_wrong: FAIL"),
        "{text}"
    );
    assert!(text.contains("sub/authz_test.rego:15:1"), "{text}");
    assert!(!text.contains("test_denies"), "{text}");
    assert!(report.text(true).contains("test_denies: PASS"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json[5]["outcome"], "fail");
    assert_eq!(json[5]["location"]["line"], 15);
}

#[test]
fn test_takes_those_that_match_the_filter() {
    let dir = files(&[("authz.rego", POLICY), ("authz_test.rego", TESTS)]);
    let report = test(dir.path(), Some("authz_test.test_allows_k")).unwrap();
    assert_eq!(report.results.len(), 1);
    assert_eq!(report.exit_code(false), 0);
    let skipped = test(dir.path(), Some("later")).unwrap();
    assert_eq!((skipped.exit_code(false), skipped.exit_code(true)), (2, 0));
}

#[test]
fn test_finds_the_rules_of_ordinary_files_and_counts_cases() {
    let dir = files(&[(
        "authz.rego",
        "package a\nallow := true\ntest_one if allow\ntest_two if not allow\n\
         test_cases[name] := ok if some name, ok in {\"x\": true, \"y\": true}",
    )]);
    let report = test(dir.path(), None).unwrap();
    let outcomes: Vec<_> = report
        .results
        .iter()
        .map(|result| &result.outcome)
        .collect();
    assert_eq!(outcomes, [&Outcome::Pass, &Outcome::Fail, &Outcome::Pass]);
}
