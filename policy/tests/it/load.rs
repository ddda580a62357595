use std::{error::Error as _, fs, os::unix::fs::symlink};

use sekisho_policy::{DEFAULT_DECISION, Limits, LoadError, MAX_CALL_DEPTH, Policy, Refusal};

use crate::support::{authz, files, inbound, load, refusal};

#[test]
fn functions_nobody_knows_are_refused_with_file_and_line() {
    for (body, name, line, column) in [
        ("allow if no_such(input)", "no_such", 3, 10),
        ("allow if {\n  true\n  http.sent({})\n}", "http.sent", 5, 3),
        (
            "allow if input.x == [f.g(y) | some y in input.z]",
            "f.g",
            3,
            22,
        ),
        ("x := {\"a\": {1, nope(2)}}\nallow := true", "nope", 3, 16),
        (
            "allow if not sekisho.authz.f(1)\nf(x) := x",
            "sekisho.authz.f",
            3,
            14,
        ),
        ("f(x) := g(x) if x\nallow := true", "g", 3, 9),
        (
            "allow if { some x in input; every y in x { h(y) } }",
            "h",
            3,
            44,
        ),
        ("allow if false\nelse := e(1)", "e", 4, 9),
        ("allow if true with input as w(1)", "w", 3, 29),
        ("allow if input[k(1)].x", "k", 3, 16),
    ] {
        let error = refusal(body);
        let LoadError::Call {
            at,
            refusal: Refusal::Unknown { name: found },
        } = &error
        else {
            panic!("{body}: {error:?}");
        };
        assert_eq!(
            (found.as_str(), at.line, at.column),
            (name, line, column),
            "{body}"
        );
        assert_eq!(at.file, "authz.rego");
    }
}

#[test]
fn builtins_that_wait_leak_or_have_no_bound_are_refused() {
    for call in [
        "http.send({\"method\": \"get\", \"url\": \"http://example\"})",
        "opa.runtime()",
        "net.lookup_ip_addr(\"example\")",
        "rand.intn(\"x\", 2)",
        "uuid.rfc4122(\"x\")",
        "graph.reachable_paths({}, [])",
    ] {
        let error = refusal(&format!("allow if {call}"));
        let is_forbidden = matches!(
            &error,
            LoadError::Call {
                refusal: Refusal::Forbidden { .. },
                ..
            }
        );
        assert!(is_forbidden, "{call}: {error:?}");
    }
    let error = refusal("allow if f(1) with f as http.send\nf(x) := x");
    assert!(
        error.to_string().contains("http.send is refused"),
        "{error}"
    );
}

#[test]
fn builtins_of_opa_not_here_yet_are_told_from_unknown_ones() {
    for call in [
        "io.jwt.decode(\"x\")",
        "crypto.sha256(\"x\")",
        "yaml.unmarshal(\"x\")",
        "time.nope(1)",
    ] {
        let error = refusal(&format!("allow if {call}"));
        let is_missing = matches!(
            &error,
            LoadError::Call {
                refusal: Refusal::Missing { .. },
                ..
            }
        );
        assert!(is_missing, "{call}: {error:?}");
    }
}

#[test]
fn wrong_number_of_arguments_to_a_builtin_is_refused() {
    let error = refusal("allow if count(1, 2, 3)");
    assert_eq!(
        error.to_string(),
        "authz.rego:3:10: count takes 1 arguments, 3 given"
    );
}

#[test]
fn walk_as_a_value_is_refused_for_the_engine_gives_it_none() {
    let error = refusal("allow if { [_, v] := walk(input); v == 1 }");
    assert!(
        error
            .to_string()
            .contains("walk takes 2 arguments, 1 given"),
        "{error}"
    );
}

#[test]
fn brackets_too_deep_are_refused_before_they_are_parsed() {
    let body = format!("allow := true\nx := {}1{}", "[".repeat(30), "]".repeat(30));
    let error = refusal(&body);
    assert!(matches!(error, LoadError::Brackets { .. }), "{error:?}");
}

#[test]
fn print_is_for_tests() {
    assert!(
        refusal("allow if print(\"x\")")
            .to_string()
            .contains("only be called by tests")
    );
}

#[test]
fn functions_are_found_under_every_name_they_may_be_called_by() {
    let dir = files(&[
        (
            "authz.rego",
            "package sekisho.authz\nimport data.lib.a\nimport data.lib.a.f as af\nimport data.lib\n\
             allow if { a.f(1); af(1); lib.a.f(1); data.lib.a.f(1); own(1); data.lib[\"a\"].f(1); c(2) }\n\
             own(x) if x == 1\ndefault c(_) := true\n",
        ),
        ("lib.rego", "package lib.a\nf(x) if x == 1"),
    ]);
    let policy = load(dir.path()).unwrap();
    let decision = policy.evaluator().decide(&inbound());
    assert!(decision.allowed, "{decision:?}");
}

#[test]
fn missing_decision_names_what_there_is() {
    let dir = files(&[("x.rego", "package envoy.authz\nallow := true")]);
    let error = load(dir.path()).unwrap_err();
    assert!(matches!(error, LoadError::DecisionMissing { .. }));
    let text = error.to_string();
    assert!(text.contains("no rule data.sekisho.authz.allow"), "{text}");
    assert!(text.contains("(there is: envoy/authz/allow)"), "{text}");
}

#[test]
fn decision_only_in_a_test_or_in_data_or_as_a_function_is_none() {
    let dir = files(&[
        ("a.rego", "package other\nx := 1"),
        ("a_test.rego", "package sekisho.authz\nallow := true"),
        ("sekisho/authz/data.json", "{\"allow\": true}"),
    ]);
    assert!(matches!(
        load(dir.path()),
        Err(LoadError::DecisionMissing { .. })
    ));
    assert!(matches!(
        refusal("allow(x) := x"),
        LoadError::DecisionIsFunction { .. }
    ));
}

#[test]
fn decision_paths_are_names_and_slashes() {
    let dir = authz("allow := true");
    for decision in [
        "", "allow", "/a/b", "a//b", "data/a/b", "a/b\"]", "a/b c", "a/0b",
    ] {
        let result = Policy::load(dir.path(), decision, Limits::default());
        assert!(
            matches!(result, Err(LoadError::DecisionPath(_))),
            "{decision}"
        );
    }
    let dir = files(&[("a.rego", "package a[\"b-c\"]\nallow := true")]);
    let policy = Policy::load(dir.path(), "a/b-c/allow", Limits::default()).unwrap();
    assert!(policy.evaluator().decide(&inbound()).allowed);
}

#[test]
fn syntax_error_has_file_line_column_and_message() {
    let dir = files(&[
        ("a.rego", "package sekisho.authz\nallow := true"),
        ("sub/b.rego", "package b\n\nx := [1, 2\ny := 3\n"),
    ]);
    let error = load(dir.path()).unwrap_err();
    let LoadError::Syntax { at, message, v0 } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (at.file.as_str(), at.line, at.column),
        ("sub/b.rego", 4, 1),
        "{message}"
    );
    assert!(
        !message.is_empty() && !message.contains('\n'),
        "{message:?}"
    );
    assert!(!v0);
}

#[test]
fn old_rego_is_refused_with_a_hint() {
    let error = refusal("allow { input.x }");
    assert!(
        matches!(&error, LoadError::Syntax { v0: true, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("import rego.v1"), "{error}");
}

#[test]
fn unsafe_variable_is_refused() {
    let error = refusal("allow if x == y");
    assert!(
        matches!(&error, LoadError::Analysis { at, .. } if at.line == 3),
        "{error:?}"
    );
}

#[test]
fn functions_that_come_back_to_themselves_are_refused() {
    for body in [
        "f(x) := f(x)\nallow if f(1)",
        "f(x) := g(x)\ng(x) := h(x)\nh(x) := f(x)\nallow if f(1)",
        "f(x) := [y | y := g(x)]\ng(x) := x if f(x)\nallow := true",
        "f(x) := y if { y := g(x) with g as f }\ng(x) := x\nallow if f(1)",
    ] {
        let error = refusal(body);
        assert!(
            matches!(error, LoadError::Recursion { .. }),
            "{body}: {error:?}"
        );
    }
}

#[test]
fn variable_named_like_a_function_is_no_recursion() {
    let dir = authz("role(role) := role == \"x\"\nallow if role(\"x\")");
    assert!(
        load(dir.path())
            .unwrap()
            .evaluator()
            .decide(&inbound())
            .allowed
    );
}

#[test]
fn rules_in_a_circle_deny() {
    let dir = authz("a if b\nb if a\nallow if not a");
    let decision = load(dir.path()).unwrap().evaluator().decide(&inbound());
    assert!(!decision.allowed, "{decision:?}");
}

#[test]
fn chain_of_rules_too_long_is_refused() {
    let mut body = "a0 := true\n".to_owned();
    for n in 1..=MAX_CALL_DEPTH {
        body += &format!("a{n} if a{}\n", n - 1);
    }
    let error = refusal(&format!("{body}allow if a{MAX_CALL_DEPTH}"));
    assert!(matches!(error, LoadError::Depth { .. }), "{error:?}");
}

#[test]
fn data_that_contradicts_itself_or_a_rule_is_refused() {
    let rego = ("authz.rego", "package sekisho.authz\nallow := true");
    let dir = files(&[
        rego,
        ("a/data.json", "{\"b\": 1}"),
        ("data.json", "{\"a\": {\"b\": 2}}"),
    ]);
    let error = load(dir.path()).unwrap_err();
    assert_eq!(error.to_string(), "data.json: data.a.b is given twice");
    for data in [
        "{\"sekisho\": {\"authz\": {\"allow\": false}}}",
        "{\"sekisho\": 1}",
    ] {
        let dir = files(&[rego, ("data.json", data)]);
        assert!(
            matches!(load(dir.path()), Err(LoadError::DataConflict { .. })),
            "{data}"
        );
    }
}

#[test]
fn data_that_is_no_json_object_is_refused() {
    let rego = ("authz.rego", "package sekisho.authz\nallow := true");
    let dir = files(&[rego, ("x/data.json", "{\"a\":\n  nope}")]);
    let error = load(dir.path()).unwrap_err();
    assert!(
        error
            .source()
            .unwrap()
            .to_string()
            .contains("line 2 column"),
        "{error:?}"
    );
    let dir = files(&[rego, ("data.json", "[1]")]);
    assert!(matches!(
        load(dir.path()),
        Err(LoadError::DataNotObject { .. })
    ));
    let dir = files(&[rego, ("data.yaml", "a: 1")]);
    assert!(matches!(load(dir.path()), Err(LoadError::DataYaml { .. })));
}

#[test]
fn directory_without_policy_is_an_error() {
    assert!(matches!(
        load(files(&[("x.txt", "")]).path()),
        Err(LoadError::Empty { .. })
    ));
    let only_tests = files(&[("a_test.rego", "package a")]);
    assert!(matches!(
        load(only_tests.path()),
        Err(LoadError::Empty { .. })
    ));
    let gone = files(&[]).path().join("gone");
    assert!(matches!(load(&gone), Err(LoadError::Read { .. })));
}

#[test]
fn data_past_its_bound_is_refused() {
    let dir = authz("allow := true");
    fs::write(
        dir.path().join("data.json"),
        format!("{{\"x\": \"{}\"}}", "é".repeat(600)),
    )
    .unwrap();
    let limits = Limits {
        data_bytes: 1000,
        ..Limits::default()
    };
    let error = Policy::load(dir.path(), DEFAULT_DECISION, limits).unwrap_err();
    assert!(
        matches!(error, LoadError::TooLarge { limit: 1000, .. }),
        "{error:?}"
    );
}

#[test]
fn links_in_a_circle_end_and_hidden_folders_are_left_out() {
    let dir = files(&[
        ("..data/authz.rego", "package sekisho.authz\nallow := true"),
        (".hidden.rego", "not rego"),
    ]);
    symlink("..data/authz.rego", dir.path().join("authz.rego")).unwrap();
    symlink(".", dir.path().join("again")).unwrap();
    assert!(
        load(dir.path())
            .unwrap()
            .evaluator()
            .decide(&inbound())
            .allowed
    );
}

#[test]
fn revision_changes_with_every_source_and_the_decision() {
    let text = "package sekisho.authz\nallow := true\nother := true";
    let revision = |list: &[(&str, &str)], decision: &str| {
        let policy = Policy::load(files(list).path(), decision, Limits::default()).unwrap();
        assert_eq!(policy.decision_path(), decision);
        policy.revision().to_owned()
    };
    let base = revision(&[("a.rego", text)], DEFAULT_DECISION);
    assert_eq!(base.len(), 12);
    assert_eq!(base, revision(&[("a.rego", text)], DEFAULT_DECISION));
    assert_eq!(
        base,
        revision(
            &[("a.rego", text), ("a_test.rego", "package t")],
            DEFAULT_DECISION
        )
    );
    for other in [
        revision(&[("b.rego", text)], DEFAULT_DECISION),
        revision(&[("a.rego", &format!("{text}\n"))], DEFAULT_DECISION),
        revision(&[("a.rego", text), ("data.json", "{}")], DEFAULT_DECISION),
        revision(&[("a.rego", text)], "sekisho/authz/other"),
    ] {
        assert_ne!(base, other);
    }
}
