use super::{INBOUND, endpoint, errors, load_text, site};

#[test]
fn a_value_may_come_from_the_environment() {
    let text = format!("{}workers: \"${{W:-2}}\"\n", site(INBOUND));
    assert_eq!(load_text(&text).unwrap().workers, Some(2));
    let text = format!("{}workers: ${{TWO}}\n", site(INBOUND));
    assert_eq!(load_text(&text).unwrap().workers, Some(2));
    let lines = INBOUND.replace("7000", "700${TWO}").replace(
        "spiffe://a.example/w",
        "\"spiffe://a.example/${W:-v}/w${TWO}\"",
    );
    let spec = endpoint(&site(&lines)).spec;
    assert_eq!(spec.listen.bind().to_string(), "127.0.0.1:7002");
    let list = spec.lists().next().unwrap();
    assert!(list.contains(&"spiffe://a.example/v/w2".parse().unwrap()));
}

#[test]
fn a_variable_that_is_missing_is_named_with_its_place() {
    let lines = INBOUND.replace("mtls://127.0.0.1:7000", "mtls://${HOST}:7000");
    let missing = "4:13: endpoints.x.listen: the environment has no HOST; a default is written \
                   ${HOST:-default}";
    assert_eq!(errors(&site(&lines)), [missing]);
    let lines = INBOUND.replace("/w]", "/w, \"${A\"]");
    let open = "6:36: endpoints.x.accept[1]: `${` without `}`; a literal one is written `$${`";
    assert_eq!(errors(&site(&lines)), [open]);
}

#[test]
fn the_environment_cannot_become_structure() {
    let lines = INBOUND.replace("tcp://127.0.0.1:7001", "${STRUCTURE}");
    let found = errors(&site(&lines));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("found \"tcp://127.0.0.1:1, x: {y: [z]}\\nworkers: 3\""));
}

#[test]
fn keys_are_not_expanded() {
    let found = errors(&format!("${{TWO}}: 1\n{}", site(INBOUND)));
    assert!(
        found[0].starts_with("1:1: ${TWO}: unknown key"),
        "{found:?}"
    );
}
