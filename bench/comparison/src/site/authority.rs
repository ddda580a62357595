//! An authority with many entries, and an agent with its part of them.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use hyper_util::rt::TokioIo;
use sekisho_agent::{
    attest::{self, NodeAttestor, Token},
    bundle::Bundle,
    server::{ServerTrust, Servers},
    svid::{Request, Signed},
    sync::{self, Entries},
};
use sekisho_certs::{BundleSet, Clock as _, SystemClock, Trust, TrustDomain, id, tls};
use sekisho_spire_api::{
    server::{
        agent::{CreateJoinTokenRequest, agent_client::AgentClient},
        entry::{BatchCreateEntryRequest, BatchUpdateEntryRequest, entry_client::EntryClient},
        svid::{BatchNewX509svidRequest, NewX509svidParams, svid_client::SvidClient},
    },
    types,
    workload::{X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient},
};
use serde::Serialize;
use tokio::{net::UnixStream, runtime::Runtime};
use tonic::transport::{Channel, Endpoint, Uri};

use super::Options;
use crate::child::{Program, Running};

const SITE: &str = "bench.example";
/// The tokens by which the agent and the library come in: their agents' IDs have them.
const TOKENS: [&str; 2] = ["bench-agent", "bench-library"];
/// Times that a full sync is measured.
const SYNCS: usize = 9;
/// Changes of an entry that are measured together: CPU is told in ticks of ten milliseconds.
const CHANGES: u32 = 10;
/// Batches in a second.
const TICKS: u32 = 10;

/// Full syncs. In seconds.
#[derive(Debug, Serialize)]
pub(super) struct Sync {
    /// The first, for which the authority reads all entries.
    pub(super) first: f64,
    pub(super) median: f64,
    pub(super) seconds: Vec<f64>,
    /// Of the authority, each.
    pub(super) cpu: f64,
    /// One where nothing has changed.
    pub(super) unchanged: f64,
}

/// The agent as a process. In seconds.
#[derive(Debug, Serialize)]
pub(super) struct Agent {
    /// From its start until a workload has its SVID, and every other entry one too.
    pub(super) started: f64,
    pub(super) cpu_of_agent: f64,
    pub(super) cpu_of_authority: f64,
    /// CPU that a change of one entry costs, the mean of ten, beside what the time costs in which nothing
    /// changes.
    pub(super) change_of_agent: f64,
    pub(super) change_of_authority: f64,
    /// CPU of a second in which nothing changes.
    pub(super) idle_of_agent: f64,
    pub(super) idle_of_authority: f64,
}

/// Signing.
#[derive(Debug, Serialize)]
pub(super) struct Sign {
    /// SVIDs a second.
    pub(super) rate: f64,
    /// CPU of the authority, in cores.
    pub(super) cores: f64,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) sync: Sync,
    pub(super) agent: Agent,
    pub(super) sign: Sign,
}

struct Bench<'a> {
    options: &'a Options,
    folder: &'a Path,
    domain: TrustDomain,
    address: SocketAddr,
    authority: Running,
}

/// Measures.
pub(super) fn run(options: &Options, runtime: &Runtime) -> anyhow::Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let [address] = free()?;
    let file = folder.path().join("authority.yaml");
    let text = format!(
        "site: {SITE}\nauthority: {{listen: {address}, data: authority, socket: authority.sock}}\n"
    );
    fs::write(&file, text)?;
    let mut authority = start(options, "authority", &file, folder.path())?;
    authority.listens(address)?;
    let socket = folder.path().join("authority.sock");
    authority.until("the administrators' socket", |_| {
        std::os::unix::net::UnixStream::connect(&socket).is_ok()
    })?;
    let bench = Bench {
        options,
        folder: folder.path(),
        domain: id::parse_trust_domain(SITE)?,
        address,
        authority,
    };
    runtime.block_on(bench.entries())?;
    let channel = runtime.block_on(bench.come_in())?;
    let sync = runtime.block_on(bench.sync(&channel))?;
    // Before the address has used up what the authority gives it in a second.
    let agent = bench.agent(runtime)?;
    let sign = runtime.block_on(bench.sign(channel))?;
    Ok(Outcome { sync, agent, sign })
}

/// Free addresses. All are held until all are had: one that is let go may be given out again at once.
pub(super) fn free<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    let mut held = Vec::with_capacity(N);
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for address in &mut addresses {
        let listener = TcpListener::bind(*address)?;
        *address = listener.local_addr()?;
        held.push(listener);
    }
    Ok(addresses)
}

pub(super) fn start(
    options: &Options,
    command: &str,
    file: &Path,
    folder: &Path,
) -> anyhow::Result<Running> {
    let file = file.to_string_lossy();
    let program = Program::new(&options.sekisho, &[command, "-c", &file]);
    Running::start(&program, &folder.join(format!("{command}.log")))
}

async fn unix(path: PathBuf) -> anyhow::Result<Channel> {
    let connect = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    Ok(endpoint.connect_with_connector(connect).await?)
}

fn spiffe_id(path: &str) -> Option<types::Spiffeid> {
    Some(types::Spiffeid {
        trust_domain: SITE.into(),
        path: path.into(),
    })
}

fn entry(id: &str, parent: &str, selector: &str) -> types::Entry {
    types::Entry {
        id: id.into(),
        spiffe_id: spiffe_id(&format!("/service/{id}")),
        parent_id: spiffe_id(parent),
        selectors: vec![types::Selector {
            r#type: "unix".into(),
            value: selector.into(),
        }],
        ..types::Entry::default()
    }
}

fn seconds(of: Duration) -> f64 {
    of.as_secs_f64()
}

impl Bench<'_> {
    async fn admin(&self) -> anyhow::Result<Channel> {
        unix(self.folder.join("authority.sock")).await
    }

    fn cpu(&self) -> anyhow::Result<f64> {
        Ok(seconds(self.authority.cpu()?))
    }

    /// Makes the tokens and all entries.
    async fn entries(&self) -> anyhow::Result<()> {
        let mut agents = AgentClient::new(self.admin().await?);
        for token in TOKENS {
            let request = CreateJoinTokenRequest {
                ttl: 3600,
                token: token.into(),
                agent_id: None,
            };
            agents.create_join_token(request).await?;
        }
        let Options {
            entries, of_agent, ..
        } = *self.options;
        let mut all = Vec::new();
        for token in TOKENS {
            let parent = format!("/spire/agent/join_token/{token}");
            for at in 0..of_agent {
                // The first is this process's own.
                let uid = match at {
                    0 => nix::unistd::getuid().as_raw(),
                    at => 1_000_000 + at,
                };
                all.push(entry(
                    &format!("{token}-{at}"),
                    &parent,
                    &format!("uid:{uid}"),
                ));
            }
        }
        let rest = (entries as usize).saturating_sub(all.len());
        for at in 0..rest {
            // A hundred other agents.
            let parent = format!("/spire/agent/x509pop/{:040x}", at % 100);
            all.push(entry(&format!("other-{at}"), &parent, &format!("uid:{at}")));
        }
        let mut client = EntryClient::new(self.admin().await?);
        for batch in all.chunks(500) {
            let request = BatchCreateEntryRequest {
                entries: batch.to_vec(),
                output_mask: None,
            };
            let answer = client.batch_create_entry(request).await?.into_inner();
            for result in answer.results {
                let status = result.status.unwrap_or_default();
                if status.code != 0 {
                    bail!("an entry is not made: {}", status.message);
                }
            }
        }
        Ok(())
    }

    /// Attests as the library does, and returns a connection with the certificate.
    async fn come_in(&self) -> anyhow::Result<Channel> {
        let provider = Arc::new(tls::provider());
        let server = id::id_below(&self.domain, "/spire/server")?;
        let servers = Servers::new(
            vec![self.address.to_string()],
            server,
            Arc::clone(&provider),
            Arc::new(SystemClock),
        );
        // We have started it ourselves.
        let channel = servers.connect(&ServerTrust::NameOnly, None, 0).await?;
        let token = NodeAttestor::JoinToken(Token::Value(TOKENS[1].to_owned().into()));
        let attested = attest::attest(channel.clone(), &token, &self.domain).await?;
        let bundle = sync::own_bundle(channel, &self.domain).await?;
        let mut set = BundleSet::default();
        set.insert(Arc::new(bundle.trust(&self.domain)?))?;
        let trust = Trust::new(set, provider.signature_verification_algorithms);
        let now = SystemClock.now();
        Signed::check(attested.held.clone(), None, &trust, now, &provider)?;
        let by = ServerTrust::Bundle(Arc::new(trust));
        let channel = servers.connect(&by, Some(&attested.held), 0).await?;
        let text = pem(&bundle);
        fs::write(self.folder.join("bundle.pem"), text)?;
        Ok(channel)
    }

    async fn sync(&self, channel: &Channel) -> anyhow::Result<Sync> {
        let mut times = Vec::new();
        let mut known = Entries::new();
        let before = self.cpu()?;
        for _ in 0..SYNCS {
            let started = Instant::now();
            known = sync::entries(channel.clone(), &self.domain, &Entries::new()).await?;
            times.push(seconds(started.elapsed()));
            if known.len() != self.options.of_agent as usize {
                bail!(
                    "{} entries came, not {}",
                    known.len(),
                    self.options.of_agent
                );
            }
        }
        let cpu = (self.cpu()? - before) / times.len() as f64;
        let started = Instant::now();
        sync::entries(channel.clone(), &self.domain, &known).await?;
        let unchanged = seconds(started.elapsed());
        let first = times.first().copied().unwrap_or_default();
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        Ok(Sync {
            first,
            median,
            seconds: times,
            cpu,
            unchanged,
        })
    }

    async fn sign(&self, channel: Channel) -> anyhow::Result<Sign> {
        let each = self.options.rate / TICKS;
        // Made before: keys are the agent's work.
        let requests: Vec<Request> = (0..each)
            .map(|_| Request::new(None))
            .collect::<Result<_, _>>()?;
        let mut client = SvidClient::new(channel).max_decoding_message_size(usize::MAX);
        let mut tick = tokio::time::interval(Duration::from_secs(1) / TICKS);
        tick.tick().await;
        let (before, started) = (self.cpu()?, Instant::now());
        let (mut signed, mut next) = (0_u32, 0);
        while started.elapsed() < Duration::from_secs(self.options.seconds.into()) {
            let params = requests.iter().map(|request| {
                next = (next + 1) % self.options.of_agent;
                NewX509svidParams {
                    entry_id: format!("{}-{next}", TOKENS[1]),
                    csr: request.csr.clone(),
                }
            });
            let params = params.collect();
            let answer = client
                .batch_new_x509svid(BatchNewX509svidRequest { params })
                .await?;
            for result in answer.into_inner().results {
                let status = result.status.unwrap_or_default();
                if status.code != 0 {
                    bail!("not signed: {}", status.message);
                }
                signed += 1;
            }
            tick.tick().await;
        }
        let took = seconds(started.elapsed());
        Ok(Sign {
            rate: f64::from(signed) / took,
            cores: (self.cpu()? - before) / took,
        })
    }

    fn agent(&self, runtime: &Runtime) -> anyhow::Result<Agent> {
        let file = self.folder.join("agent.yaml");
        fs::write(self.folder.join("token"), TOKENS[0])?;
        let text = format!(
            "site: {SITE}\nagent: {{authority: [\"{}\"], bootstrap: bundle.pem, data: agent, \
             socket: agent.sock, seal: file, join_token: {{file: token}}}}\n",
            self.address
        );
        fs::write(&file, text)?;
        let (before, started) = (self.cpu()?, Instant::now());
        let mut agent = start(self.options, "agent", &file, self.folder)?;
        let socket = self.folder.join("agent.sock");
        agent.until("the Workload API", |_| {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        })?;
        let mut svids = runtime.block_on(self.first(&socket))?;
        let started = seconds(started.elapsed());
        let (cpu_of_agent, cpu_of_authority) = (seconds(agent.cpu()?), self.cpu()? - before);
        // What passes by itself is not the change's: two syncs and a bit.
        let quiet = Duration::from_secs(12);
        let (before, begun) = ((seconds(agent.cpu()?), self.cpu()?), Instant::now());
        std::thread::sleep(quiet);
        let took = seconds(begun.elapsed());
        let idle_of_agent = (seconds(agent.cpu()?) - before.0) / took;
        let idle_of_authority = (self.cpu()? - before.1) / took;
        let (before, begun) = ((seconds(agent.cpu()?), self.cpu()?), Instant::now());
        for number in 0..CHANGES {
            runtime.block_on(self.change(&mut svids, number))?;
        }
        let took = seconds(begun.elapsed());
        let each = |cpu: f64, idle: f64| (cpu - idle * took) / f64::from(CHANGES);
        Ok(Agent {
            started,
            cpu_of_agent,
            cpu_of_authority,
            change_of_agent: each(seconds(agent.cpu()?) - before.0, idle_of_agent),
            change_of_authority: each(self.cpu()? - before.1, idle_of_authority),
            idle_of_agent,
            idle_of_authority,
        })
    }

    /// This process's SVID, and what follows.
    async fn first(&self, socket: &Path) -> anyhow::Result<Svids> {
        const PATIENCE: Duration = Duration::from_secs(60);
        let begun = Instant::now();
        loop {
            let mut request = tonic::Request::new(X509svidRequest {});
            let header = "true".parse()?;
            request.metadata_mut().insert("workload.spiffe.io", header);
            let mut client = SpiffeWorkloadApiClient::new(unix(socket.to_owned()).await?);
            let mut stream = match client.fetch_x509svid(request).await {
                Ok(stream) => stream.into_inner(),
                Err(_) if begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                Err(status) => return Err(status.into()),
            };
            match stream.message().await {
                Ok(Some(message)) if !message.svids.is_empty() => return Ok(Svids(stream)),
                _ if begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Ok(_) => bail!("the agent serves nothing"),
                Err(status) => return Err(status.into()),
            }
        }
    }

    /// Changes the entry of this process and waits for the SVID that this makes.
    async fn change(&self, svids: &mut Svids, number: u32) -> anyhow::Result<()> {
        let mut changed = entry(
            &format!("{}-0", TOKENS[0]),
            &format!("/spire/agent/join_token/{}", TOKENS[0]),
            &format!("uid:{}", nix::unistd::getuid()),
        );
        changed.dns_names = vec![format!("change-{number}.bench.example")];
        let request = BatchUpdateEntryRequest {
            entries: vec![changed],
            ..Default::default()
        };
        let mut client = EntryClient::new(self.admin().await?);
        let answer = client.batch_update_entry(request).await?.into_inner();
        let status = answer.results.into_iter().next().and_then(|one| one.status);
        let status = status.unwrap_or_default();
        if status.code != 0 {
            bail!("the entry is not changed: {}", status.message);
        }
        let next = tokio::time::timeout(Duration::from_secs(30), svids.0.message()).await;
        next.context("no new SVID")??
            .context("the agent has gone")?;
        Ok(())
    }
}

struct Svids(tonic::Streaming<sekisho_spire_api::workload::X509svidResponse>);

fn pem(bundle: &Bundle) -> String {
    let certificates = bundle.certificates();
    certificates
        .map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec())))
        .collect()
}
