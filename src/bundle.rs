//! `sekisho bundle`: trust bundles, of an authority and in files, in every form they have.

mod file;
mod told;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use sekisho_certs::TrustDomain;
use sekisho_spire_api::server::bundle::batch_delete_federated_bundle_request::Mode;

use crate::{
    cli,
    commands::{Asked, At, bundle as asked, value},
    output,
};

pub(crate) use file::{Given, given, given_all, refused};
pub(crate) use told::Told;

/// What to do with bundles.
#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Show a bundle: the site's own, that of another at the authority, or one in a file
    #[command(
        after_help = "Without FILE the authority is asked. With --format, as `export`.\n\nExamples:\n  \
        sekisho bundle show\n  sekisho bundle show --id osaka.example --json\n  \
        sekisho bundle show ca/bundle.json --id osaka.example"
    )]
    Show(Show),
    /// Print a bundle in a form that others read, or convert one in a file
    #[command(
        after_help = "Give it to the other site by a way both trust: it says who may speak \
        for you.\n\nExamples:\n  sekisho bundle export > osaka.json\n  \
        sekisho bundle export --format pem > bundle.pem\n  \
        sekisho bundle export --all --format map > bundles.json\n  \
        sekisho bundle export ca/ --id osaka.example > osaka.json"
    )]
    Export(Export),
    /// The bundles of other sites at the authority
    #[command(
        after_help = "Examples:\n  sekisho bundle list\n  sekisho bundle list --format map > bundles.json"
    )]
    List(List),
    /// Store the bundle of another site at the authority, in place of the one that is there
    #[command(
        after_help = "Compare its SHA-256 (bundle show FILE) by a way both trust before.\n\nExamples:\n  \
        sekisho bundle set --id osaka.example --file osaka.json\n  \
        sekisho bundle set --id osaka.example < osaka.pem"
    )]
    Set(Set),
    /// Store the bundles of other sites at the authority, in place of those that are there
    #[command(
        after_help = "Of a Bundle Map all are stored, but for the site's own, which is left out. Compare \
        their SHA-256 (bundle show FILE) by a way both trust before.\n\nExamples:\n  \
        sekisho bundle import bundles.json\n  sekisho bundle import osaka.pem --id osaka.example\n  \
        sekisho bundle import --id osaka.example < osaka.json"
    )]
    Import(Import),
    /// Delete the bundle of another site at the authority
    #[command(
        after_help = "Examples:\n  sekisho bundle delete --id osaka.example\n  \
        sekisho bundle delete --id osaka.example --mode dissociate"
    )]
    Delete(Delete),
    /// How many bundles the authority has, its own included
    #[command(after_help = "Example:\n  sekisho bundle count --json")]
    Count(Asked),
}

/// Whose bundle, and where it is.
#[derive(Debug, Args)]
pub(crate) struct Whose {
    /// SPIFFE bundle JSON, PEM certificates, a Bundle Map, or the folder of an embedded CA, in place of
    /// what the authority has
    #[arg(conflicts_with_all = ["socket", "config"])]
    file: Option<PathBuf>,
    /// Whose bundle it is: without it the site's own, or in a file all of a Bundle Map
    #[arg(long, visible_alias = "trust-domain", value_name = "TRUST DOMAIN", value_parser = value::trust_domain)]
    id: Option<TrustDomain>,
}

/// Options of `show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    whose: Whose,
    /// Print it in this form
    #[arg(long, value_enum, conflicts_with = "json")]
    format: Option<Form>,
}

/// Options of `export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    whose: Whose,
    /// The site's own and those of all others that the authority has; with --format map or pem
    #[arg(long, conflicts_with_all = ["file", "id"])]
    all: bool,
    /// The form to print
    #[arg(long, value_enum, default_value_t = Form::Spiffe)]
    format: Form,
}

/// Options of `import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// A Bundle Map; with --id SPIFFE bundle JSON or PEM certificates. `-` is standard input
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// Whose bundle it is, in place of a Bundle Map
    #[arg(long, visible_alias = "trust-domain", value_name = "TRUST DOMAIN", value_parser = value::trust_domain)]
    pub(crate) id: Option<TrustDomain>,
}

/// Options of `list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    asked: Asked,
    /// Print them in this form
    #[arg(long, value_enum, conflicts_with = "json")]
    format: Option<Form>,
}

/// Options of `set`.
#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// Whose bundle it is
    #[arg(long, visible_alias = "trust-domain", value_name = "TRUST DOMAIN", value_parser = value::trust_domain)]
    pub(crate) id: TrustDomain,
    /// The bundle; `-` is standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
    /// Its form; without this either is taken
    #[arg(long, value_enum)]
    pub(crate) format: Option<Given>,
}

/// Options of `delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// Whose bundle; may be given several times
    #[arg(long, visible_alias = "trust-domain", value_name = "TRUST DOMAIN", required = true, value_parser = value::trust_domain)]
    pub(crate) id: Vec<TrustDomain>,
    /// What becomes of the entries that get it
    #[arg(long, value_enum, default_value_t = Entries::Restrict)]
    pub(crate) mode: Entries,
}

/// What becomes of entries that get a bundle which is to go.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Entries {
    /// Where there are any, nothing is done
    Restrict,
    /// They are deleted too
    Delete,
    /// They stay, and get it no more
    Dissociate,
}

impl Entries {
    /// As it is sent.
    pub(crate) const fn mode(self) -> Mode {
        match self {
            Self::Restrict => Mode::Restrict,
            Self::Delete => Mode::Delete,
            Self::Dissociate => Mode::Dissociate,
        }
    }
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
    match command {
        BundleCommand::Show(show) => with(&show.asked.at, &show.whose, |bundles| {
            tell(bundles, show.format, show.asked.json)
        }),
        BundleCommand::Export(export) if export.all => {
            asked::all(&export.at, |bundles| told::export(bundles, export.format))
        }
        BundleCommand::Export(export) => with(&export.at, &export.whose, |bundles| {
            told::export(bundles, export.format)
        }),
        BundleCommand::List(list) => asked::federated(&list.asked.at, |bundles| {
            tell(bundles, list.format, list.asked.json)
        }),
        BundleCommand::Import(import) => asked::import(import),
        BundleCommand::Set(set) => asked::set(set),
        BundleCommand::Delete(delete) => asked::delete(delete),
        BundleCommand::Count(count) => asked::count(count),
    }
}

fn tell(bundles: &[Told], form: Option<Form>, json: bool) -> anyhow::Result<()> {
    match form {
        Some(form) => told::export(bundles, form),
        None => {
            told::show(bundles, json);
            Ok(())
        }
    }
}

/// Does something with a bundle, or with those of a Bundle Map.
fn with(at: &At, whose: &Whose, then: impl Fn(&[Told]) -> anyhow::Result<()>) -> u8 {
    let Some(file) = &whose.file else {
        return asked::one(at, whose.id.as_ref(), then);
    };
    match file::read(file, whose.id.as_ref()).and_then(|bundles| then(&bundles)) {
        Ok(()) => cli::OK,
        Err(error) => {
            output::complain(format_args!("{error:#}"));
            cli::FAILED
        }
    }
}
