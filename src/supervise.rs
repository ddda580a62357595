//! `sekisho run` with `authority`, `agent` or `oidc`: one process each under this one, with the rights that it
//! needs and no more. A parser that faces the network never shares memory with a CA key.

mod child;
mod environment;
mod introduce;
mod site;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use sekisho_certs::source::Changes;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli,
    config::{self, AuthorityConfig, Config},
};
use child::{Child, Event, Part};

/// How long the processes have to end, the endpoints' beside their drain.
const PATIENCE: Duration = Duration::from_secs(40);

/// Runs them until a signal ends this process, or one of them cannot be started at all.
pub(crate) fn supervise(path: &Path, config: &Config) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(path, config)));
    match outcome {
        Ok(()) => cli::OK,
        Err(error) => {
            tracing::error!(error = %format_args!("{error:#}"), "ended");
            cli::FAILED
        }
    }
}

async fn run(path: &Path, config: &Config) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hup = signal(SignalKind::hangup())?;
    let mut usr1 = signal(SignalKind::user_defined1())?;
    if config.exposes_authority() {
        tracing::warn!("{}", config::EXPOSED);
    }
    let ended = {
        let asked = async {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        };
        let mut asked = std::pin::pin!(asked);
        let mut children = tokio::select! {
            started = start(path, config) => started?,
            () = &mut asked => return Ok(()),
        };
        let entries = config
            .authority
            .as_ref()
            .and_then(|own| own.entries.as_deref());
        let mut changes = Changes::of(entries);
        let late = config.authority.as_ref().filter(|_| children.late);
        let mut late = std::pin::pin!(async {
            match late {
                Some(own) => site::reach(&own.socket, Duration::MAX).await,
                None => std::future::pending().await,
            }
        });
        loop {
            tokio::select! {
                () = &mut asked => break,
                _ = hup.recv() => {
                    tracing::info!("`authority`, `agent` and `oidc` take effect at the next start; endpoints and entries now");
                    children.signal(Part::Proxy, nix::sys::signal::Signal::SIGHUP);
                    reapply(config).await;
                }
                _ = usr1.recv() => {
                    children.signal(Part::Agent, nix::sys::signal::Signal::SIGUSR1);
                    children.signal(Part::Proxy, nix::sys::signal::Signal::SIGUSR1);
                }
                () = changes.next(), if entries.is_some() => reapply(config).await,
                _ = &mut late, if children.late => {
                    children.late = false;
                    reapply(config).await;
                }
                (part, event) = children.event() => match event {
                    Event::Ended(status) => {
                        tracing::error!(process = part.as_str(), status, "has ended; is started again");
                        children.later(part);
                    }
                    Event::Due => children.again(part, config),
                },
            }
        }
        children
    };
    let drain = config.drain + PATIENCE;
    tokio::select! {
        () = ended.stop(drain) => {}
        // A second signal does not wait.
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

/// The processes, in the order in which they need one another.
struct Children {
    path: Arc<Path>,
    list: Vec<Child>,
    /// The authority waits for the one above, and entries have not been applied yet.
    late: bool,
}

async fn start(path: &Path, config: &Config) -> anyhow::Result<Children> {
    let mut children = Children {
        path: path.into(),
        list: Vec::new(),
        late: false,
    };
    // The agent of the authority above, by which ours comes to it.
    let agent_first = config.is_below_own_agent();
    if agent_first {
        children.start_agent(config).await?;
    }
    if let Some(authority) = &config.authority {
        children.start_authority(config, authority).await?;
    }
    if !agent_first {
        children.start_agent(config).await?;
    }
    if config.oidc.is_some() {
        children.add(Part::Oidc, config)?;
    }
    if !config.endpoints.is_empty() {
        children.add(Part::Proxy, config)?;
    }
    Ok(children)
}

/// What has changed in the file of entries is applied; what is wrong with it is told, and changes
/// nothing.
async fn reapply(config: &Config) {
    let applied = tokio::time::timeout(PATIENCE, site::apply(config)).await;
    let applied = applied.unwrap_or_else(|_| Err(anyhow::anyhow!("the authority does not answer")));
    if let Err(error) = applied {
        tracing::error!(error = %format_args!("{error:#}"), "entries not applied");
    }
}

impl Children {
    async fn start_authority(
        &mut self,
        config: &Config,
        authority: &AuthorityConfig,
    ) -> anyhow::Result<()> {
        self.add(Part::Authority, config)?;
        let reached = {
            let mut reached = std::pin::pin!(site::reach(&authority.socket, site::AUTHORITY));
            loop {
                tokio::select! {
                    reached = &mut reached => break reached,
                    (part, event) = self.event() => match event {
                        Event::Ended(how) if part == Part::Authority => {
                            bail!("{}: it has ended: {how}", part.as_str());
                        }
                        // The agent that leads above.
                        Event::Ended(status) => {
                            tracing::error!(process = part.as_str(), status, "has ended; is started again");
                            self.later(part);
                        }
                        Event::Due => self.again(part, config),
                    },
                }
            }
        };
        match reached {
            Ok(()) => site::apply(config).await.context("authority.entries"),
            // It waits for the one above, as long as it has to, and says so. Agent and endpoints may do
            // with what they have.
            Err(error) if authority.upstream.is_some() => {
                tracing::warn!(error = %format_args!("{error:#}"), "authority: agent and endpoints do not wait for it any longer");
                self.late = true;
                Ok(())
            }
            Err(error) => Err(error.context("authority")),
        }
    }

    async fn start_agent(&mut self, config: &Config) -> anyhow::Result<()> {
        let Some(agent) = &config.agent else {
            return Ok(());
        };
        self.add(Part::Agent, config)?;
        if let Err(error) = site::reach(&agent.socket, site::AGENT).await {
            tracing::warn!(error = %format_args!("{error:#}"), "agent");
        }
        Ok(())
    }

    fn add(&mut self, part: Part, config: &Config) -> anyhow::Result<()> {
        let child = Child::start(part, &self.path, config)?;
        self.list.push(child);
        Ok(())
    }

    fn signal(&self, part: Part, signal: nix::sys::signal::Signal) {
        for child in self.list.iter().filter(|child| child.part() == part) {
            child.signal(signal);
        }
    }

    /// Waits until something has become of one of them.
    async fn event(&mut self) -> (Part, Event) {
        let waits = self.list.iter_mut().map(|child| {
            Box::pin(async move {
                let event = child.event().await;
                (child.part(), event)
            })
        });
        futures_util::future::select_all(waits).await.0
    }

    fn later(&mut self, part: Part) {
        for child in self.list.iter_mut().filter(|child| child.part() == part) {
            child.later();
        }
    }

    /// Starts one again. What fails is tried once more after a while.
    fn again(&mut self, part: Part, config: &Config) {
        // It reads the file as it is now, and needs the variables that this names.
        let now = config::load(&self.path, &config::environment);
        let config = now.as_ref().unwrap_or(config);
        let path = Arc::clone(&self.path);
        for child in self.list.iter_mut().filter(|child| child.part() == part) {
            if let Err(error) = child.restart(&path, config) {
                tracing::error!(process = part.as_str(), error = %format_args!("{error:#}"), "not started");
                child.later();
            }
        }
    }

    /// Ends them, those that need others first.
    async fn stop(mut self, patience: Duration) {
        for child in self.list.iter_mut().rev() {
            child.signal(nix::sys::signal::Signal::SIGTERM);
            if tokio::time::timeout(patience, child.wait()).await.is_err() {
                tracing::error!(
                    process = child.part().as_str(),
                    "does not end, and is killed"
                );
            }
        }
    }
}
