//! `sekisho directory key`: keys that sign a directory's files.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use sekisho_federation::directory::key::{FileKey, PublicKey, Signer as _};
use serde_json::json;

use super::{tell, write_file};
use crate::cli;

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key: FILE for its owner alone, FILE.pub to be given to others
    #[command(
        after_help = "An Ed25519 key, PKCS#8 in PEM, mode 0600. A file that is there is never \
        overwritten. Tell the ID to the others by a way that you trust: it is what they compare.\n\nExample:\n  \
        sekisho directory key new tokyo.key"
    )]
    New(File),
    /// The ID of a key, of FILE or FILE.pub
    #[command(after_help = "Example:\n  sekisho directory key show tokyo.key.pub --json")]
    Show(File),
}

#[derive(Debug, Args)]
pub(crate) struct File {
    /// The key's file
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Does it.
pub(super) fn key(command: &KeyCommand) -> anyhow::Result<u8> {
    match command {
        KeyCommand::New(args) => {
            let (_, public) = make(&args.file)?;
            show(&public, Some(&args.file), args.json);
        }
        KeyCommand::Show(args) => {
            let public = match FileKey::read(&args.file) {
                Ok(key) => key.public(),
                // The public half says what is wrong with it, if it is one.
                Err(private) => match PublicKey::read(&args.file) {
                    Ok(public) => public,
                    Err(public) if args.file.extension().is_some_and(|end| end == "pub") => {
                        return Err(public.into());
                    }
                    Err(_) => return Err(private.into()),
                },
            };
            show(&public, None, args.json);
        }
    }
    Ok(cli::OK)
}

/// The file of the public half.
pub(super) fn public_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Makes a key and its two files.
pub(super) fn make(file: &Path) -> anyhow::Result<(FileKey, PublicKey)> {
    let key = FileKey::generate()?;
    key.write(file)?;
    let public = key.public();
    write_file(&public_file(file), public.to_json().as_bytes())?;
    Ok((key, public))
}

fn show(public: &PublicKey, made: Option<&Path>, as_json: bool) {
    let id = public.id();
    let files = made.map(|file| json!([file, public_file(file)]));
    let mut text = id.clone();
    if let Some(file) = made {
        text = format!(
            "{id}\n{}: private, for its owner alone\n{}: to be given to others",
            file.display(),
            public_file(file).display()
        );
    }
    tell(
        as_json,
        &json!({ "id": id, "key": public, "files": files }),
        text,
    );
}
