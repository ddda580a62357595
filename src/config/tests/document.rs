use crate::config::keys;

#[test]
fn every_key_stands_in_the_reference() {
    let document = include_str!("../../../docs/configuration.md");
    for (path, keys) in keys::ALL {
        for key in keys.known {
            let name = format!("`{path}{key}`");
            assert!(
                document.contains(&name),
                "docs/configuration.md has no {name}"
            );
        }
        for key in keys.later {
            let name = format!("`{key}`");
            assert!(
                document.contains(&name),
                "docs/configuration.md has no {name}"
            );
        }
    }
}
