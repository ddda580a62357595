//! Bundles in files, and on standard input.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read},
    path::Path,
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use sekisho_certs::{BundleSet, TrustBundle, TrustDomain, bundle::json::MAX_BYTES};

use super::Told;
use crate::{cli, output};

/// The forms in which a bundle is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Given {
    /// SPIFFE bundle JSON
    Spiffe,
    /// PEM certificates
    Pem,
}

/// The bundle of a domain in a file, or all of a Bundle Map.
pub(super) fn read(file: &Path, domain: Option<&TrustDomain>) -> anyhow::Result<Vec<Told>> {
    let file = if file.is_dir() {
        file.join("bundle.json")
    } else {
        file.to_owned()
    };
    let name = file.display();
    let text = std::fs::read(&file).with_context(|| name.to_string())?;
    if let Some(domain) = domain {
        let bundle =
            TrustBundle::from_file(domain.clone(), &text).with_context(|| name.to_string())?;
        return Ok(vec![Told::of_file(&bundle)?]);
    }
    let set = BundleSet::from_bundle_map(&text).with_context(|| {
        format!("{name}: not a Bundle Map; for another form say whose it is with --id")
    })?;
    set.iter().map(|bundle| Told::of_file(bundle)).collect()
}

/// A bundle that somebody has given: in a file, or on standard input by the name `-`.
///
/// # Errors
/// When it cannot be read, has another form than is said, or is no bundle of this domain.
pub(crate) fn given(
    file: &Path,
    form: Option<Given>,
    domain: &TrustDomain,
) -> anyhow::Result<TrustBundle> {
    let (name, text) = read_given(file)?;
    let is_json = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    match form {
        Some(Given::Pem) if is_json => {
            bail!("{name}: this is JSON, and --format pem was said")
        }
        Some(Given::Spiffe) if !is_json => {
            bail!("{name}: this is no JSON, and --format spiffe was said")
        }
        _ => TrustBundle::from_file(domain.clone(), &text).context(name),
    }
}

/// All bundles of a Bundle Map that somebody has given.
///
/// # Errors
/// When it cannot be read, or is none.
pub(crate) fn given_all(file: &Path) -> anyhow::Result<BundleSet> {
    let (name, text) = read_given(file)?;
    BundleSet::from_bundle_map(&text).with_context(|| {
        format!("{name}: not a Bundle Map; for another form say whose it is with --id")
    })
}

/// What was given, and what it is called.
fn read_given(file: &Path) -> anyhow::Result<(String, Vec<u8>)> {
    let (name, text) = if file == Path::new("-") {
        let input = io::stdin().lock();
        if input.is_terminal() {
            output::complain("the bundle is read from here; Ctrl-D ends it (a file: --file FILE)");
        }
        ("standard input".to_owned(), bounded(input))
    } else {
        let opened = File::open(file);
        (file.display().to_string(), opened.and_then(bounded))
    };
    let text = text.with_context(|| name.clone())?;
    Ok((name, text))
}

/// Tells why a bundle that was given is not taken: the file is not there or cannot be read, or what it
/// says is wrong.
pub(crate) fn refused(error: &anyhow::Error) -> u8 {
    output::complain(format_args!("{error:#}"));
    match error.downcast_ref::<io::Error>() {
        Some(_) => cli::FAILED,
        None => cli::INVALID,
    }
}

/// All of it, or an error where it is more than a bundle can have.
fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    from.take(most.saturating_add(1)).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_that_was_said_must_be_there() {
        let domain = TrustDomain::new("b.example").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            file
        };
        let site = sekisho_testkit::Site::new("b.example");
        let pem = write("b.pem", &site.ca().pem());
        let json = write("b.json", r#"{"keys": []}"#);
        assert_eq!(given(&pem, None, &domain).unwrap().authorities().len(), 1);
        given(&pem, Some(Given::Pem), &domain).unwrap();
        given(&json, Some(Given::Spiffe), &domain).unwrap();
        let wrong = given(&pem, Some(Given::Spiffe), &domain).unwrap_err();
        assert!(wrong.to_string().contains("--format spiffe"), "{wrong}");
        given(&json, Some(Given::Pem), &domain).unwrap_err();
        let empty = given(&write("none", ""), None, &domain).unwrap_err();
        assert_eq!(refused(&empty), cli::INVALID);
        let missing = given(&folder.path().join("gone"), None, &domain).unwrap_err();
        assert_eq!(refused(&missing), cli::FAILED);
        let foreign = TrustDomain::new("c.example").unwrap();
        given(&pem, None, &foreign).unwrap_err();
    }
}
