//! `sekisho bundle show|export`: trust bundles in files, in every form they have.

use std::{
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use sekisho_certs::{BundleSet, TrustBundle, id::parse_trust_domain};
use serde_json::json;

use crate::{cli, output};

/// What to do with a bundle.
#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Show the CAs of a bundle
    #[command(
        after_help = "Example:\n  sekisho bundle show ca/bundle.json --trust-domain osaka.example"
    )]
    Show {
        /// SPIFFE bundle JSON, PEM certificates, a Bundle Map, or the folder of an embedded CA
        file: PathBuf,
        /// Whose bundle it is; not needed for a Bundle Map
        #[arg(long, value_name = "NAME")]
        trust_domain: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Convert a bundle, to hand it to another site
    #[command(
        after_help = "Give it to the other site by a way both trust: it says who may speak \
        for you.\n\nExample:\n  sekisho bundle export ca/ --trust-domain osaka.example > osaka.json"
    )]
    Export {
        /// As for `show`
        file: PathBuf,
        /// Whose bundle it is
        #[arg(long, value_name = "NAME")]
        trust_domain: Option<String>,
        /// The form to print
        #[arg(long, value_enum, default_value_t = Form::Spiffe)]
        format: Form,
    },
}

/// The forms a bundle can have.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Form {
    /// SPIFFE bundle JSON
    Spiffe,
    /// PEM certificates
    Pem,
    /// A Bundle Map of one or more trust domains
    Map,
}

/// Does it.
pub(crate) fn bundle(command: &BundleCommand) -> u8 {
    let done = match command {
        BundleCommand::Show {
            file,
            trust_domain,
            json,
        } => read(file, trust_domain.as_deref()).map(|set| show(&set, *json)),
        BundleCommand::Export {
            file,
            trust_domain,
            format,
        } => read(file, trust_domain.as_deref()).and_then(|set| export(&set, *format)),
    };
    match done {
        Ok(()) => cli::OK,
        Err(error) => {
            output::complain(format_args!("{error:#}"));
            cli::FAILED
        }
    }
}

fn read(file: &Path, domain: Option<&str>) -> anyhow::Result<BundleSet> {
    let file = if file.is_dir() {
        file.join("bundle.json")
    } else {
        file.to_owned()
    };
    let name = file.display();
    let text = std::fs::read(&file).with_context(|| name.to_string())?;
    let Some(domain) = domain else {
        return BundleSet::from_bundle_map(&text).with_context(|| {
            format!(
                "{name}: not a Bundle Map; for another form say whose it is with --trust-domain"
            )
        });
    };
    let domain = parse_trust_domain(domain)?;
    let bundle = TrustBundle::from_file(domain, &text).with_context(|| name.to_string())?;
    let mut set = BundleSet::default();
    set.insert(bundle.into())?;
    Ok(set)
}

fn show(set: &BundleSet, json: bool) {
    let mut rows = vec![
        [
            "trust domain",
            "CA serial",
            "expires (UTC)",
            "SHA-256 of the certificate",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let mut documents = Vec::new();
    for bundle in set.iter() {
        for ca in bundle.authorities() {
            let expires = time::OffsetDateTime::from(ca.not_after());
            rows.push(vec![
                bundle.trust_domain().to_string(),
                ca.serial().to_owned(),
                expires.date().to_string(),
                ca.fingerprint(),
            ]);
        }
        let authorities = bundle.authorities().iter().map(|ca| {
            let expires = ca.not_after().duration_since(UNIX_EPOCH);
            json!({"serial": ca.serial(), "sha256": ca.fingerprint(), "not_after": expires.map_or(0, |since| since.as_secs())})
        });
        documents.push(json!({
            "trust_domain": bundle.trust_domain().to_string(),
            "sequence": bundle.sequence(),
            "refresh_hint": bundle.refresh_hint().map(|hint| hint.as_secs()),
            "authorities": authorities.collect::<Vec<_>>(),
        }));
    }
    if json {
        output::json(&json!({ "bundles": documents }));
    } else {
        output::line(output::table(&rows).trim_end());
    }
}

fn export(set: &BundleSet, form: Form) -> anyhow::Result<()> {
    match form {
        Form::Map => output::json(&set.to_bundle_map()),
        Form::Spiffe => {
            let mut bundles = set.iter();
            let (Some(one), None) = (bundles.next(), bundles.next()) else {
                anyhow::bail!("several trust domains: export them with --format map");
            };
            output::json(&one.to_json());
        }
        Form::Pem => {
            for bundle in set.iter() {
                for ca in bundle.authorities() {
                    output::line(ca.to_pem().trim_end());
                }
            }
        }
    }
    Ok(())
}
