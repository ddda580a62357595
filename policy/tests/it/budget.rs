use std::time::{Duration, Instant};

use sekisho_certs::Reason;
use sekisho_policy::{DEFAULT_DECISION, Input, Limits, LoadError, Policy};

use crate::support::{authz, decide, files, inbound, load};

/// Past this, a budget of 50 ms was not kept, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(5);

fn assert_budget(body: &str) {
    let started = Instant::now();
    let decision = decide(body, &inbound());
    assert_eq!(
        decision.reason,
        Some(Reason::PolicyBudget),
        "{body}: {decision:?}"
    );
    assert!(
        started.elapsed() < PATIENCE,
        "{body}: {:?}",
        started.elapsed()
    );
}

#[test]
fn loops_without_end_run_out_of_time() {
    for body in [
        "allow if { some a in numbers.range(1, 60000); some b in numbers.range(1, 60000); a * b < 0 }",
        "allow if count([1 | some a in numbers.range(1, 60000); some b in numbers.range(1, 60000)]) < 0",
        "f(x) := count([y | some y in numbers.range(1, 60000); y % 2 == x])\nallow if { some a in numbers.range(1, 60000); f(a) < 0 }",
        "allow if every a in numbers.range(1, 60000) { every b in numbers.range(1, 60000) { a + b > 0 } }",
        "s contains [a, b] if { some a in numbers.range(1, 60000); some b in numbers.range(1, 60000) }\nallow if count(s) < 0",
        "allow if not loops\nloops if { some a in numbers.range(1, 60000); some b in numbers.range(1, 60000); a * b < 0 }",
    ] {
        assert_budget(body);
    }
}

#[test]
fn builtins_that_grow_are_bounded() {
    for body in [
        "allow if count(numbers.range(1, 1000000000)) > 0",
        "allow if count(numbers.range(1, 100000000000000000000000000)) > 0",
        "allow if count(numbers.range_step(1, 1000000000, 2)) > 0",
        "allow if count(net.cidr_expand(\"10.0.0.0/8\")) > 0",
        "allow if count(net.cidr_expand(\"2001:db8::/32\")) > 0",
        "allow if sprintf(\"%999999999d\", [1]) != \"\"",
        "allow if sprintf(\"%0999999999999999999999d\", [1]) != \"\"",
        "allow if bits.lsh(1, 4000000000) > 0",
        "allow if product(numbers.range(1, 60000)) > 0",
        "allow if to_number(\"1e999999999\") > 0",
        "allow if regex.match(concat(\"\", [x | some i in numbers.range(1, 5000); x := \"a?\"]), \"a\")",
        "allow if not startswith(concat(concat(\"\", [\"x\" | some i in numbers.range(1, 2000)]), numbers_as_text), \"y\")\nnumbers_as_text := [sprintf(\"%d\", [i]) | some i in numbers.range(1, 4000)]",
    ] {
        assert_budget(body);
    }
}

/// `a0` doubled again and again by `step`, which stands for the next from `{}`.
fn doubled(first: &str, step: &str, times: usize, allow: &str) -> String {
    let mut body = format!("a0 := {first}\n");
    for n in 1..=times {
        let step = step.replace("{}", &format!("a{}", n - 1));
        body += &format!("a{n} := {step}\n");
    }
    body + &allow.replace("{}", &format!("a{times}"))
}

#[test]
fn doubling_is_bounded() {
    let long = format!("\"{}\"", "x".repeat(900));
    for (first, step, allow) in [
        (
            long.as_str(),
            "concat(\"\", [{}, {}])",
            "allow if count({}) > 0",
        ),
        (
            &long,
            "sprintf(\"%s%s\", [{}, {}])",
            "allow if count({}) > 0",
        ),
        (
            &long,
            "replace({}, \"x\", \"xx\")",
            "allow if count({}) > 0",
        ),
        (
            &long,
            "strings.replace_n({\"x\": \"xx\"}, {})",
            "allow if count({}) > 0",
        ),
        (
            &long,
            "regex.replace({}, `x`, `xx`)",
            "allow if count({}) > 0",
        ),
        (&long, "hex.encode({})", "allow if count({}) > 0"),
        (
            "[1, 2, 3, 4, 5, 6, 7, 8]",
            "array.concat({}, {})",
            "allow if count({}) > 0",
        ),
        ("[1, 2]", "[{}, {}]", "allow if json.marshal({}) != \"\""),
        (
            "[1, 2]",
            "[{}, {}]",
            "allow if sprintf(\"%v\", [{}]) != \"\"",
        ),
        ("[1, 2]", "[{}, {}]", "allow if walk({}, [[\"x\"], _])"),
        (
            "{\"k\": 1}",
            "{\"k\": {}, \"l\": {}}",
            "allow if object.union({}, {}) == 1",
        ),
    ] {
        // Sharing lets a value stand for 2^22 parts in a few lines.
        let body = doubled(first, step, 22, allow);
        assert_budget(&body);
    }
}

#[test]
fn large_input_is_refused_before_it_is_built() {
    let input = Input {
        sni: Some("x".repeat(70_000)),
        ..inbound()
    };
    let decision = decide("allow := true", &input);
    assert_eq!(decision.reason, Some(Reason::PolicyBudget));
}

#[test]
fn evaluator_decides_again_after_it_ran_out_of_budget() {
    let dir = authz(
        "allow if input.sekisho.service == \"kafka\"\nallow if { input.sekisho.service == \"loop\"; \
         some a in numbers.range(1, 60000); some b in numbers.range(1, 60000); a * b < 0 }",
    );
    let mut evaluator = load(dir.path()).unwrap().evaluator();
    let endless = Input {
        service: "loop".into(),
        ..inbound()
    };
    for _ in 0..2 {
        assert_eq!(
            evaluator.decide(&endless).reason,
            Some(Reason::PolicyBudget)
        );
        assert!(evaluator.decide(&inbound()).allowed);
    }
}

#[test]
fn time_of_a_decision_is_the_policys_limit() {
    let dir = files(&[(
        "a.rego",
        "package sekisho.authz\nallow if count([1 | some a in numbers.range(1, 60000)]) == 60000",
    )]);
    let decide = |time| {
        let limits = Limits {
            time,
            ..Limits::default()
        };
        Policy::load(dir.path(), DEFAULT_DECISION, limits)
            .unwrap()
            .evaluator()
            .decide(&inbound())
    };
    assert_eq!(
        decide(Duration::from_micros(50)).reason,
        Some(Reason::PolicyBudget)
    );
    assert!(decide(Duration::from_secs(60)).allowed);
}

#[test]
fn bug_in_the_engine_denies_and_the_next_decision_is_unharmed() {
    // The engine takes any numeric character for a digit of a width, and panics over this one.
    let dir = authz(
        "allow if input.sekisho.service == \"kafka\"\n\
         allow if { input.sekisho.service == \"bad\"; sprintf(\"%²d\", [1]) == \"1\" }",
    );
    let mut evaluator = load(dir.path()).unwrap().evaluator();
    let bad = Input {
        service: "bad".into(),
        ..inbound()
    };
    let decision = evaluator.decide(&bad);
    assert!(!decision.allowed, "{decision:?}");
    assert!(evaluator.decide(&inbound()).allowed);
}

/// A chain of functions as long as may be, each calling the next from within `nested`.
fn decide_on_a_workers_stack(times: usize, nested: fn(&str) -> String) {
    let chain = move |length: usize| {
        let mut body = "f0(x) := x\n".to_owned();
        for n in 1..=length {
            let inner = (0..times).fold(format!("f{}(x)", n - 1), |inner, _| nested(&inner));
            body += &format!("f{n}(x) := count([1 | {inner}]) + x\n");
        }
        authz(&(body + &format!("allow if f{length}(1) > 1")))
    };
    let decide = move || {
        let limits = Limits {
            time: Duration::from_secs(60),
            ..Limits::default()
        };
        let load = |length| match Policy::load(chain(length).path(), DEFAULT_DECISION, limits) {
            Ok(policy) => Some(policy),
            Err(LoadError::Depth { .. }) => None,
            Err(error) => panic!("{error}"),
        };
        let longest = (1..).map_while(load).last().unwrap();
        let decision = longest.evaluator().decide(&inbound());
        assert!(decision.allowed, "{decision:?}");
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    thread.spawn(decide).unwrap().join().unwrap();
}

#[test]
fn deepest_chain_of_functions_fits_a_workers_stack() {
    decide_on_a_workers_stack(0, |inner| inner.into());
    decide_on_a_workers_stack(20, |inner| format!("abs({inner})"));
    decide_on_a_workers_stack(3, |inner| format!("{{x | x := {inner}}}"));
    decide_on_a_workers_stack(7, |inner| format!("every _ in [1] {{ {inner} }}"));
    decide_on_a_workers_stack(20, |inner| format!("some _ in [1]; {inner}"));
    decide_on_a_workers_stack(20, |inner| format!("[1][_] == 1; {inner}"));
}
