//! `sekisho directory`: the directory of a federation, for those who keep it and those who are in it.

mod admit;
mod draft;
mod host;
mod init;
mod key;
mod look;
mod member;
mod own;
mod publish;
mod push;
mod request;
mod root;
mod rotate;
mod said;
mod serve;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sekisho_certs::{Clock, SystemClock, persist, tls};
use sekisho_federation::{
    client::WebRoots,
    directory::{
        key::{FileKey, KeyError, PublicKey, Signer},
        repository::Repository,
        submit::Hosting,
    },
};
use serde_json::Value;

use crate::{cli, config::ConfigErrors, output};

/// What to do with a directory.
#[derive(Debug, Subcommand)]
pub(crate) enum DirectoryCommand {
    /// Keys that sign a directory's files
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Begin a directory: who keeps it, and how many of them have to agree
    #[command(
        after_help = "With --new-keys all keys are made here, for three people to take away: two of \
        three institutions, two of three registrars, one host. Else each makes a key of their own \
        (sekisho directory key new) and gives its FILE.pub. Keys given with --key sign at once; who is \
        missing signs the drafts (sekisho directory root sign).\n\nExamples:\n  \
        sekisho directory init fed/ --new-keys keys/\n  \
        sekisho directory init fed/ --institution tokyo.key.pub --institution kyoto.key.pub --institution osaka.key.pub \
        --threshold 2 --registrar r1.key.pub --registrar r2.key.pub --registrar-threshold 2 --host host.key.pub --key tokyo.key"
    )]
    Init(init::Init),
    /// What institutions and registrars sign together, as drafts whose signatures travel as files
    #[command(subcommand)]
    Root(root::RootCommand),
    /// Members: asking to be one, and what registrars do with them
    #[command(subcommand)]
    Member(member::MemberCommand),
    /// Say this site's bundle and services again, where they have changed or it is time; for cron
    #[command(
        after_help = "Signs where bundle or services are others than those that the directory has, or \
        a third of the time is over for which the last word is valid (30 days); else does nothing. A bundle \
        that is older than the last one is refused. What no option names stays as it was said last. A SPIRE \
        site does the same with what its server prints.\n\nExit codes: 0 published, or nothing to do; 1 not \
        possible; 2 wrong command line or file.\n\nExamples:\n  \
        sekisho directory publish https://directory.example/ --data /var/lib/sekisho/member --socket /run/sekisho/authority/api.sock\n  \
        spire-server bundle show -format spiffe | sekisho directory publish fed/ --data member --bundle -"
    )]
    Publish(publish::Publish),
    /// Give a SPIRE server the bundles of members, and take away those of who is expelled
    #[command(
        after_help = "Follows the directory as an authority of ours does, and sets the bundles of the \
        members that are named, or have one of the marks, at the server of --socket. What the server \
        fetches itself (a federation relationship) is left alone, and so is what others have set, or have \
        changed since it was pushed. Who is expelled, suspended, distrusts itself, is too old or is not \
        asked for any more loses the bundle that was pushed; entries stay, without it. A directory or \
        server that is away changes nothing, and is asked again. Signals: SIGHUP looks at once; SIGTERM \
        and Ctrl-C end it.\n\nExit codes, with --once: 0 all is as the directory says; 1 a directory was \
        not followed, the server does not answer or has refused something; 2 wrong command line or file; 3 \
        done, and one of the named is no member, or has another bundle there that others have \
        set.\n\nExamples:\n  \
        sekisho directory push https://directory.example/ --root 1.root.json --data /var/lib/sekisho/push \
        --mark hpci --socket /run/spire/private/api.sock\n  \
        sekisho directory push fed/ --root 1.root.json --data push --member osaka.example --once --json"
    )]
    Push(push::Push),
    /// New keys of a member: signed by the old ones, or by the recovery key
    #[command(
        after_help = "Makes the next key and a request, which the registrars admit as they did the \
        first. Until then the old key goes on. Where the old key is lost or stolen, --recovery-key says \
        in its place that the new one is this member's.\n\nExamples:\n  \
        sekisho directory rotate --data member --out rotate.json\n  \
        sekisho directory rotate --data member --recovery-key /media/safe/recovery.key"
    )]
    Rotate(rotate::Rotate),
    /// Say that this member's keys are not to be trusted any more
    #[command(
        after_help = "Everybody who has seen these keys stops to trust this member, until its recovery \
        key names others (sekisho directory rotate --recovery-key).\n\nExamples:\n  \
        sekisho directory self-revoke https://directory.example/ --data member\n  \
        sekisho directory self-revoke fed/ --data member --yes"
    )]
    SelfRevoke(rotate::SelfRevoke),
    /// Say that the keys that a directory has for this member are none of its own
    #[command(
        after_help = "For when registrars have taken keys that this member has not made. Whoever has \
        seen the true ones believes the veto.\n\nExample:\n  \
        sekisho directory veto fed/ --data member --out veto.json"
    )]
    Veto(rotate::Veto),
    /// Say which versions there are: sign snapshot and timestamp, as the host
    #[command(
        after_help = "What does not hold is left out and told. Without --every once, as for cron.\n\n\
        Exit codes: 0 done, 1 not possible, 2 wrong command line or file, 3 done, and something was left \
        out.\n\nExamples:\n  sekisho directory host fed/ --key host.key\n  \
        sekisho directory host fed/ --key host.key --every 10m"
    )]
    Host(host::Host),
    /// Serve a directory's files, and host it: for small federations
    #[command(
        after_help = "Serves metadata, targets and continuity, and nothing else of the folder. With \
        --host-key it hosts too: at once after each change, and every so often. With --accept members \
        send what they have to say to /submissions. Signals: SIGTERM and Ctrl-C end it.\n\nExamples:\n  \
        sekisho directory serve fed/ --listen 127.0.0.1:8080\n  \
        sekisho directory serve fed/ --listen 0.0.0.0:443 --cert web.pem --tls-key web.key --host-key host.key --accept"
    )]
    Serve(serve::Serve),
    /// Check all of a directory, from a copy of its files
    #[command(
        after_help = "Without --root the first root in the folder is taken for granted.\n\nExit codes: 0 \
        all holds, 1 something does not.\n\nExamples:\n  sekisho directory verify --offline fed/\n  \
        sekisho directory verify --offline fed/ --root 1.root.json --json"
    )]
    Verify(look::Verify),
    /// How a directory stands: members, ages, what is to be signed again, drafts and who lacks
    #[command(
        after_help = "Exit codes: 0 nothing to do, 1 something is wrong, or to be signed again.\n\nExample:\n  \
        sekisho directory status fed/"
    )]
    Status(look::Status),
}

/// Does it.
pub(crate) fn directory(command: &DirectoryCommand) -> u8 {
    match command {
        DirectoryCommand::Key(command) => ended(key::key(command)),
        DirectoryCommand::Init(args) => ended(args.go()),
        DirectoryCommand::Root(command) => ended(root::root(command)),
        DirectoryCommand::Member(command) => ended(member::member(command)),
        DirectoryCommand::Publish(args) => ended(args.go()),
        DirectoryCommand::Push(args) => ended(args.go()),
        DirectoryCommand::Rotate(args) => ended(args.go()),
        DirectoryCommand::SelfRevoke(args) => ended(args.go()),
        DirectoryCommand::Veto(args) => ended(args.go()),
        DirectoryCommand::Host(args) => ended(args.go()),
        DirectoryCommand::Serve(args) => ended(args.go()),
        DirectoryCommand::Verify(args) => ended(args.go()),
        DirectoryCommand::Status(args) => ended(args.go()),
    }
}

/// What was asked makes no sense: the command line, or a file that it names.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Wrong(String);

fn wrong(problem: impl ToString) -> anyhow::Error {
    Wrong(problem.to_string()).into()
}

/// The exit code of a command; what went wrong is told.
fn ended(outcome: anyhow::Result<u8>) -> u8 {
    let error = match outcome {
        Ok(code) => return code,
        Err(error) => error,
    };
    if let Some(errors) = error.downcast_ref::<ConfigErrors>() {
        output::complain(errors.render(output::colour_err()));
        return cli::INVALID;
    }
    output::complain(format_args!("{error:#}"));
    let is_wrong = error.is::<Wrong>()
        || matches!(
            error.downcast_ref::<KeyError>(),
            Some(KeyError::NotAKey { .. } | KeyError::NotPublic { .. })
        );
    if is_wrong { cli::INVALID } else { cli::FAILED }
}

/// Keys that sign.
#[derive(Debug, Args)]
struct Keys {
    /// A private key that signs; may be given several times
    #[arg(long = "key", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Keys {
    fn read(&self) -> anyhow::Result<Vec<FileKey>> {
        read_keys(&self.files)
    }
}

fn read_keys(files: &[PathBuf]) -> anyhow::Result<Vec<FileKey>> {
    let keys = files.iter().map(|file| Ok(FileKey::read(file)?));
    keys.collect()
}

fn signers(keys: &[FileKey]) -> Vec<&dyn Signer> {
    keys.iter().map(|key| key as &dyn Signer).collect()
}

fn read_public(files: &[PathBuf]) -> anyhow::Result<Vec<PublicKey>> {
    let keys = files.iter().map(|file| Ok(PublicKey::read(file)?));
    keys.collect()
}

/// A directory, by its folder or by the address where it is hosted.
#[derive(Clone, Debug)]
enum Place {
    Folder(PathBuf),
    Url(String),
}

/// Reads the place of a directory.
#[expect(clippy::unnecessary_wraps, reason = "the form of clap's value parsers")]
fn place(text: &str) -> Result<Place, String> {
    let is_url = text.starts_with("https://") || text.starts_with("http://");
    Ok(if is_url {
        Place::Url(text.into())
    } else {
        Place::Folder(text.into())
    })
}

impl Place {
    fn hosting(url: &str) -> anyhow::Result<Hosting> {
        let hosting = Hosting::new(
            url,
            WebRoots::System,
            Arc::new(tls::provider()),
            Arc::new(SystemClock),
        );
        hosting.map_err(|error| wrong(format_args!("{url}: {error}")))
    }
}

/// The directory in a folder.
fn repository(folder: &Path) -> Repository {
    Repository::new(folder)
}

fn now() -> std::time::SystemTime {
    SystemClock.now()
}

/// Runs what waits for something.
fn wait<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build()?.block_on(work)
}

/// Prints what a command has done: JSON, or lines.
fn tell(json: bool, value: &Value, lines: impl std::fmt::Display) {
    if json {
        output::json(value);
    } else {
        output::line(lines);
    }
}

/// Reads a file that somebody has sent.
fn read_file(path: &Path, most: usize) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let named = || path.display().to_string();
    let mut bytes = Vec::new();
    let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let file = fs::File::open(path).with_context(named)?;
    file.take(bound)
        .read_to_end(&mut bytes)
        .with_context(named)?;
    if bytes.len() > most {
        return Err(wrong(format_args!("{}: longer than {most} bytes", named())));
    }
    Ok(bytes)
}

/// Writes a file for others to read.
fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    persist::replace(path, bytes, true).with_context(|| path.display().to_string())
}

/// A time in seconds since 1970, as people read it.
fn date(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let at = time::OffsetDateTime::from_unix_timestamp(seconds);
    at.map_or_else(|_| "-".into(), |at| at.date().to_string())
}

/// What is left until a time, in whole days or hours.
fn left(seconds: u64) -> String {
    super::remaining(i64::try_from(seconds).unwrap_or(i64::MAX).max(1))
}
