use std::{fs, path::Path};

use super::{INBOUND, site};
use crate::config::{Config, load};

/// Loads a folder of these files; errors without its name.
fn folder(files: &[(&str, &[u8])]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    load_stripped(folder.path(), folder.path())
}

fn load_stripped(path: &Path, strip: &Path) -> Result<Config, String> {
    load(path, &|_| None).map_err(|errors| {
        let lines: Vec<_> = errors.errors().iter().map(ToString::to_string).collect();
        lines.join("\n").replace(strip.to_str().unwrap(), "DIR")
    })
}

#[test]
fn the_files_of_a_folder_are_one_configuration() {
    let second = INBOUND
        .replace("7000", "8000")
        .replace("unix:///run/a.sock", "{cert: c, key: k}");
    let second = site(&second)
        .replace("site: b.example\n", "")
        .replace("  x:", "  y:");
    let config = folder(&[
        ("20.yml", second.as_bytes()),
        ("10.yaml", site(INBOUND).as_bytes()),
        ("30.yaml", b"workers: 3"),
        (".hidden.yaml", b"["),
        ("notes.txt", b"["),
        ("below/40.yaml", b"["),
    ])
    .unwrap();
    let names: Vec<_> = config
        .files
        .iter()
        .map(|file| file.file_name().unwrap())
        .collect();
    assert_eq!(names, ["10.yaml", "20.yml", "30.yaml"]);
    let names: Vec<_> = config
        .endpoints
        .iter()
        .map(|one| one.spec.name.as_str())
        .collect();
    assert_eq!(names, ["x", "y"]);
    assert_eq!(config.workers, Some(3));
}

#[test]
fn what_stands_in_two_files_names_both_places() {
    let text = site(INBOUND);
    let other = text.replace("7000", "8000");
    let errors = folder(&[("a.yaml", text.as_bytes()), ("b.yaml", other.as_bytes())]).unwrap_err();
    assert_eq!(
        errors,
        "DIR/b.yaml:1:1: site: already given at DIR/a.yaml:1:1\n\
         DIR/b.yaml:3:3: endpoints.x: already given at DIR/a.yaml:3:3"
    );
    let other = other
        .replace("site: b.example\n", "")
        .replace("  x:", "  y:")
        .replace("8000", "7000");
    let other = format!("{other}    name: x\n");
    let errors = folder(&[("a.yaml", text.as_bytes()), ("b.yaml", other.as_bytes())]).unwrap_err();
    assert_eq!(
        errors,
        "DIR/b.yaml:3:13: endpoints.y.listen: the server name x.b.example is already that of \
         `endpoints.x.listen` at DIR/a.yaml:4:13"
    );
}

#[test]
fn what_is_missing_in_all_files_is_missing_in_the_folder() {
    let errors = folder(&[("a.yaml", b"workers: 1"), ("b.yaml", b"drain: 1s")]).unwrap_err();
    assert_eq!(
        errors,
        "DIR: site: missing: expected this site's trust domain, as in hokkaido.example\n\
         DIR: endpoints: missing: expected a map of name to endpoint"
    );
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let empty = folder(&[("a.txt", b"")]).unwrap_err();
    assert_eq!(
        empty,
        "DIR: expected one to 1000 files *.yaml or *.yml in this folder, found 0"
    );
    let bytes = folder(&[("a.yaml", b"site: b.example\n# \xc3\xa9 \xff")]).unwrap_err();
    assert_eq!(
        bytes,
        "DIR/a.yaml:2:5: not valid YAML: a byte that is not UTF-8"
    );
    let large = folder(&[("a.yaml", &vec![b'#'; (1 << 20) + 1])]).unwrap_err();
    assert_eq!(
        large,
        "DIR/a.yaml: expected a file of at most 1 MiB, found a larger one"
    );
    let nothing = folder(&[("a.yaml", b"")]).unwrap_err();
    assert_eq!(
        nothing,
        "DIR/a.yaml: missing: expected `site` and `endpoints`, the file is empty"
    );

    let folder = tempfile::tempdir().unwrap();
    let missing = load_stripped(&folder.path().join("no.yaml"), folder.path()).unwrap_err();
    assert_eq!(
        missing,
        "DIR/no.yaml: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let text = format!("\u{feff}{}", site(INBOUND));
    assert!(folder(&[("a.yaml", text.as_bytes())]).is_ok());
}

#[test]
fn an_existing_folder_of_bundles_needs_no_slash() {
    let text = format!("{}bundles: below\n", site(INBOUND));
    let files: &[(&str, &[u8])] = &[("a.yaml", text.as_bytes()), ("below/a.example.json", b"{}")];
    assert!(folder(files).is_ok());
    assert!(folder(&files[..1]).is_err());
}
