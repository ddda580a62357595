use super::{INBOUND, load_text, site};

fn rendered(text: &str, colour: bool) -> String {
    load_text(text).unwrap_err().render(colour)
}

#[test]
fn an_error_shows_the_line_and_the_place() {
    let text = site(&INBOUND.replace("mtls://127.0.0.1:7000", "mtsl://0.0.0.0:9443"));
    let expected = "\
etc/f.yaml:4:13: endpoints.x.listen: expected mtls://ADDRESS:PORT, tcp://ADDRESS:PORT, \
connect://ADDRESS:PORT or unix:///PATH, found \"mtsl://0.0.0.0:9443\"
  |
4 |     listen: mtsl://0.0.0.0:9443
  |             ^
";
    assert_eq!(rendered(&text, false), expected);
    assert_eq!(
        rendered(&text, true),
        expected.replace('^', "\u{1b}[31m^\u{1b}[0m")
    );
}

#[test]
fn a_long_line_is_cut_around_the_place() {
    let long = format!("accept: [{}x]", "spiffe://a.example/w, ".repeat(100));
    let text = site(&INBOUND.replace("accept: [spiffe://a.example/w]", &long));
    let text = rendered(&text, false);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    let mark = lines[3].find('^').unwrap();
    assert_eq!(&lines[2][mark..], "x]");
    assert!(lines[2].len() < 120);
}

#[test]
fn control_characters_stay_in_the_file() {
    let text = format!("\"a\tb\\e[31m\": \"\u{85}\"\n{}", site(INBOUND));
    let text = rendered(&text, false);
    assert!(!text.contains(['\t', '\u{85}', '\u{1b}']), "{text:?}");
}

#[test]
fn more_than_a_hundred_errors_are_counted() {
    let mut text = "site: b.example\nendpoints:\n".to_owned();
    for number in 0..150 {
        text.push_str(&format!("  e{number}: x\n"));
    }
    let errors = load_text(&text).unwrap_err();
    assert_eq!(errors.errors().len(), 100);
    assert!(errors.to_string().ends_with("… and 50 more\n"));
}
