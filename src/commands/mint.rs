//! `sekisho x509 mint` and `sekisho jwt mint`: SVIDs without an agent, for what cannot have one.

mod request;

use std::{
    fs::DirBuilder,
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use sekisho_agent::bundle::Bundle;
use sekisho_certs::{BundleSet, Clock as _, Svid, SystemClock, Trust, persist, tls};
use sekisho_spire_api::{
    server::{
        bundle::{GetBundleRequest, bundle_client::BundleClient},
        svid::{MintJwtsvidRequest, MintX509svidRequest, svid_client::SvidClient},
    },
    types,
};
use serde_json::json;
use zeroize::Zeroizing;

use super::{Asked, Authority, run, shown, value};
use crate::{
    api::{self, Answered as _},
    cli, output,
};
use request::Request;

#[derive(Debug, Subcommand)]
pub(crate) enum X509Command {
    /// Make a key, and have an X.509-SVID signed for it
    #[command(
        after_help = "The key is made here (P-256) and never sent. Without --write all is printed, the \
        key too. Minting has a line in the audit log; no entry is needed.\n\nExamples:\n  \
        sekisho x509 mint --id /batch/nightly --ttl 8h --write nightly/\n  \
        sekisho x509 mint --id /web --dns www.osaka.example --json"
    )]
    Mint(MintX509),
}

#[derive(Debug, Subcommand)]
pub(crate) enum JwtCommand {
    /// Have a JWT-SVID signed
    #[command(
        after_help = "The token is a secret. Minting has a line in the audit log; no entry is needed.\n\n\
        Examples:\n  sekisho jwt mint --id /batch/nightly --audience https://store.example\n  \
        sekisho jwt mint --id /batch --audience a --audience b --ttl 10m --write token"
    )]
    Mint(MintJwt),
}

#[derive(Debug, Args)]
pub(crate) struct MintX509 {
    #[command(flatten)]
    asked: Asked,
    /// The identity, as a path or whole
    #[arg(long, value_name = "ID", value_parser = value::id)]
    id: value::Id,
    /// For how long it is good; without this, as long as the authority gives
    #[arg(long, value_name = "TIME", value_parser = value::seconds)]
    ttl: Option<i32>,
    /// A DNS name in it; may be given several times. The first is its common name too
    #[arg(long = "dns", value_name = "NAME", value_parser = request::dns_name)]
    dns_names: Vec<String>,
    /// Write svid.pem, key.pem (0600) and bundle.pem into this folder, and print no key
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct MintJwt {
    #[command(flatten)]
    asked: Asked,
    /// The identity, as a path or whole
    #[arg(long, value_name = "ID", value_parser = value::id)]
    id: value::Id,
    /// For whom it is; may be given several times
    #[arg(long, value_name = "WHO", required = true, value_parser = value::word)]
    audience: Vec<String>,
    /// For how long it is good; without this, as long as the authority gives
    #[arg(long, value_name = "TIME", value_parser = value::seconds)]
    ttl: Option<i32>,
    /// Write the token into this file (0600), and print none
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// Does it.
pub(crate) fn x509(command: &X509Command) -> u8 {
    let X509Command::Mint(mint) = command;
    run(&mint.asked.at, async |authority| {
        mint_x509(authority, mint).await
    })
}

/// Does it.
pub(crate) fn jwt(command: &JwtCommand) -> u8 {
    let JwtCommand::Mint(mint) = command;
    run(&mint.asked.at, async |authority| {
        mint_jwt(authority, mint).await
    })
}

async fn mint_x509(authority: Authority, mint: &MintX509) -> anyhow::Result<u8> {
    let id = shown(Some(&mint.id.at(&authority.site)?));
    let request = Request::new(&id, &mint.dns_names)?;
    let sent = MintX509svidRequest {
        csr: request.csr.clone(),
        ttl: mint.ttl.unwrap_or_default(),
    };
    let answer = SvidClient::new(authority.channel.clone())
        .mint_x509svid(sent)
        .await
        .answered("MintX509SVID")?;
    let svid = answer
        .svid
        .context("MintX509SVID: the answer has no SVID")?;
    let bundle = BundleClient::new(authority.channel)
        .get_bundle(GetBundleRequest::default())
        .await
        .answered("GetBundle")?;
    check(&svid, &id, &request, bundle.clone())?;
    let pem = |ders: &mut dyn Iterator<Item = &Vec<u8>>| -> String {
        ders.map(|der| api::pem("CERTIFICATE", der)).collect()
    };
    let chain = pem(&mut svid.cert_chain.iter());
    let roots = pem(&mut bundle.x509_authorities.iter().map(|ca| &ca.asn1));
    let key = request.key_pem();
    shorter(mint.ttl, svid.expires_at);
    let Some(folder) = &mint.write else {
        if mint.asked.json {
            output::json(&json!({
                "spiffe_id": id, "expires_at": svid.expires_at,
                "svid": chain, "key": key.as_str(), "bundle": roots,
            }));
        } else {
            output::line(format_args!("X509-SVID:\n{chain}\nPrivate key:"));
            output::line(key.as_str());
            output::line(format_args!("Root CAs:\n{}", roots.trim_end()));
        }
        return Ok(cli::OK);
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| folder.display().to_string())?;
    let (svid_file, key_file, bundle_file) = (
        folder.join("svid.pem"),
        folder.join("key.pem"),
        folder.join("bundle.pem"),
    );
    write(&key_file, key.as_bytes(), false)?;
    write(&svid_file, chain.as_bytes(), true)?;
    write(&bundle_file, roots.as_bytes(), true)?;
    if mint.asked.json {
        output::json(&json!({
            "spiffe_id": id, "expires_at": svid.expires_at, "svid_file": svid_file,
            "key_file": key_file, "bundle_file": bundle_file,
        }));
    } else {
        for file in [svid_file, key_file, bundle_file] {
            output::line(format_args!("written {}", file.display()));
        }
    }
    Ok(cli::OK)
}

async fn mint_jwt(authority: Authority, mint: &MintJwt) -> anyhow::Result<u8> {
    let id = mint.id.at(&authority.site)?;
    let name = shown(Some(&id));
    let request = MintJwtsvidRequest {
        id: Some(id),
        audience: mint.audience.clone(),
        ttl: mint.ttl.unwrap_or_default(),
    };
    let answer = SvidClient::new(authority.channel)
        .mint_jwtsvid(request)
        .await
        .answered("MintJWTSVID")?;
    let svid = answer.svid.context("MintJWTSVID: the answer has no SVID")?;
    if shown(svid.id.as_ref()) != name {
        bail!("asked for {name}, was given {}", shown(svid.id.as_ref()));
    }
    let token = Zeroizing::new(svid.token);
    shorter(mint.ttl, svid.expires_at);
    if let Some(file) = &mint.write {
        write(file, token.as_bytes(), false)?;
        if !mint.asked.json {
            output::line(format_args!("written {}", file.display()));
        }
    }
    if mint.asked.json {
        output::json(&json!({
            "spiffe_id": name,
            "audience": mint.audience,
            "issued_at": svid.issued_at,
            "expires_at": svid.expires_at,
            "token": mint.write.is_none().then_some(token.as_str()),
            "file": mint.write,
        }));
    } else if mint.write.is_none() {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", token.as_str())?;
    }
    Ok(cli::OK)
}

/// What came is what was asked for, and whoever has the site's bundle will take it.
fn check(
    svid: &types::X509svid,
    id: &str,
    request: &Request,
    bundle: types::Bundle,
) -> anyhow::Result<()> {
    let provider = tls::provider();
    let chain = svid.cert_chain.iter();
    let chain = chain.map(|der| der.clone().into()).collect();
    let made = Svid::new(chain, request.key(), &provider).context("the answer is not an SVID")?;
    if made.id().to_string() != id {
        bail!("asked for {id}, was given {}", made.id());
    }
    let (domain, bundle) = Bundle::from_wire(bundle)?;
    let mut bundles = BundleSet::default();
    bundles.insert(bundle.trust(&domain)?.into())?;
    let trust = Trust::new(bundles, provider.signature_verification_algorithms);
    trust
        .verify(made.chain(), SystemClock.now())
        .context("the site's own bundle does not verify the answer")?;
    Ok(())
}

/// Says so where less time was given than asked for.
fn shorter(asked: Option<i32>, expires_at: i64) {
    let Some(asked) = asked.and_then(|asked| u64::try_from(asked).ok()) else {
        return;
    };
    let given = given(expires_at, SystemClock.now());
    // Calls take their time too.
    if given.as_secs().saturating_add(10) < asked {
        output::complain(format_args!(
            "it is good for {}s, not {asked}s: what signs it is no longer good",
            given.as_secs()
        ));
    }
}

fn given(expires_at: i64, now: SystemTime) -> Duration {
    let end = UNIX_EPOCH + Duration::from_secs(u64::try_from(expires_at).unwrap_or_default());
    end.duration_since(now).unwrap_or_default()
}

fn write(file: &Path, text: &[u8], public: bool) -> anyhow::Result<()> {
    persist::replace(file, text, public).with_context(|| file.display().to_string())
}
