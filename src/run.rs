//! `sekisho run`: one node until a signal ends it.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    admin::AdminServer,
    child::ChildArgs,
    cli, logging,
    node::{self, Loaded, Node},
    output, supervise,
};

/// Addresses that could not be bound, and an admin address in use, are tried again this often.
const RETRY: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT; with `child`, which the demo asks for, also until the
/// process that started this one is gone, however it went.
///
/// With `authority`, `agent`, `oidc` or `user` in the file it does so for one process each; `alone` runs the endpoints
/// in this one.
pub(crate) fn run(path: &Path, child: &ChildArgs, alone: bool) -> u8 {
    if !child.begin() {
        return cli::FAILED;
    }
    let loaded = match node::load(path) {
        Ok(loaded) => loaded,
        Err(error) => {
            output::complain(error.render(output::colour_err()));
            return cli::INVALID;
        }
    };
    logging::start(&loaded.config.log);
    raise_file_limit();
    let config = &loaded.config;
    let several = config.authority.is_some()
        || config.agent.is_some()
        || config.oidc.is_some()
        || config.user.is_some();
    if several && !alone {
        return supervise::supervise(path, &loaded.config);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(serve(path, loaded)));
    match outcome {
        Ok(()) => cli::OK,
        Err(error) => {
            tracing::error!(error = %format_args!("{error:#}"), "ended");
            cli::FAILED
        }
    }
}

/// Has this process end when the one that started it, `parent`, does, however that went. Whether that
/// one is still there.
pub(crate) fn bind_to_parent(parent: i32) -> bool {
    use nix::sys::{prctl::set_pdeathsig, signal::Signal};
    let asked = set_pdeathsig(Signal::SIGKILL);
    // It may be gone already, and then no signal comes.
    let there = asked.is_ok() && nix::unistd::getppid().as_raw() == parent;
    if !there {
        output::complain("the process that started this one is gone");
    }
    there
}

/// A connection is two sockets, and the soft limit of open files is commonly 1,024: take what the
/// administrator allows.
pub(crate) fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

struct Signals {
    hup: Signal,
    usr1: Signal,
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }
}

async fn serve(path: &Path, loaded: Loaded) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let mut changes = sekisho_certs::source::Changes::of(
        loaded.watched().iter().map(std::path::PathBuf::as_path),
    );
    let mut node = Node::start(loaded)?;
    let mut admin = AdminServer::default();
    if let Err(error) = admin.listen(node.config().admin.as_ref(), &node.shared()) {
        tracing::error!(%error, "cannot open the admin address; will try again");
    }
    let mut retry = tokio::time::interval(RETRY);
    loop {
        let asked = tokio::select! {
            _ = signals.term.recv() => break,
            _ = signals.int.recv() => break,
            _ = signals.usr1.recv() => {
                node.rotate();
                continue;
            }
            _ = retry.tick() => {
                node.proxy().retry();
                // The error was said once, and stands in the status.
                let _ = admin.listen(node.config().admin.as_ref(), &node.shared());
                continue;
            }
            _ = signals.hup.recv() => true,
            () = changes.next() => false,
        };
        let file = path.to_owned();
        // Policies take a while to compile: not on the thread that keeps SVIDs fresh.
        let loaded = tokio::task::spawn_blocking(move || node::load(&file)).await;
        match loaded {
            // A fault in a library must not end what runs.
            Err(error) => node.refused(format!("loading failed: {error}"), asked),
            Ok(Ok(loaded)) => {
                changes.add(loaded.watched().iter().map(std::path::PathBuf::as_path));
                node.reload(loaded, asked, &mut admin);
            }
            Ok(Err(error)) => {
                // A folder that was named for the first time is repaired there.
                changes.add(error.watched().iter().map(std::path::PathBuf::as_path));
                node.refused(error.render(false), asked);
            }
        }
    }
    tracing::info!(
        connections = node.proxy().registry().len(),
        wait = ?node.config().drain,
        "draining"
    );
    let proxy = Arc::clone(node.proxy());
    let wait = node.config().drain;
    let drained = proxy.drain(wait);
    let closed = tokio::select! {
        closed = drained => Some(closed),
        _ = signals.term.recv() => None,
        _ = signals.int.recv() => None,
    };
    let closed = match closed {
        Some(closed) => closed,
        // A second signal does not wait; each connection still gets its line in the log.
        None => proxy.drain(Duration::ZERO).await,
    };
    tracing::info!(closed, "ended");
    Ok(())
}
