//! A whole site by one `sekisho run`: authority, agent and endpoints, each a process.

use std::{net::SocketAddr, path::PathBuf, process::Command};

use hyper_util::rt::TokioIo;
use sekisho_spire_api::workload::{
    X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use serde_json::Value;
use tokio::net::UnixStream;
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint, Uri},
};

use super::{Process, World, http, node::SEKISHO, ports, wait::until};

pub(crate) const SITE: &str = "a.example";

/// It runs.
pub(crate) struct Whole {
    pub(crate) process: Process,
    /// `out` listens here, and sends to `in`, which sends to the service.
    pub(crate) sender: SocketAddr,
    admin: PathBuf,
    pub(crate) authority: PathBuf,
    pub(crate) agent: PathBuf,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Whole {
    /// Starts a site whose entries want `selectors` of a process, and sends to `service`; waits until
    /// it is ready.
    pub(crate) fn start(world: &World, service: SocketAddr, selectors: &str) -> Self {
        Self::start_with(world, service, selectors, "", "")
    }

    /// The same with more entries and endpoints (YAML, two spaces deep).
    pub(crate) fn start_with(
        world: &World,
        service: SocketAddr,
        selectors: &str,
        entries: &str,
        endpoints: &str,
    ) -> Self {
        Self::start_by(
            world,
            service,
            selectors,
            [entries, endpoints, "", ""],
            |_| {},
        )
    }

    /// The same with keys that are sealed with a secret of the environment, where another one is too.
    pub(crate) fn start_sealed(world: &World, service: SocketAddr, selectors: &str) -> Self {
        let seal = ", encrypt: {env: SEKISHO_TEST_SECRET}";
        Self::start_by(world, service, selectors, ["", "", seal, ""], |command| {
            command.env("SEKISHO_TEST_SECRET", "s".repeat(64));
            command.env("SEKISHO_TEST_OTHER", "t");
        })
    }

    /// The same with endpoints that run as `user`.
    pub(crate) fn start_as(
        world: &World,
        service: SocketAddr,
        selectors: &str,
        user: &str,
    ) -> Self {
        let top = format!("user: {user}\n");
        Self::start_by(world, service, selectors, ["", "", "", &top], |_| {})
    }

    fn start_by(
        world: &World,
        service: SocketAddr,
        selectors: &str,
        [entries, endpoints, authority, top]: [&str; 4],
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let (listen, gate, sender) = (ports::free(), ports::free(), ports::free());
        world.write(
            "site.yaml",
            &format!(
                "site: {SITE}\n\
                 authority: {{listen: {listen}, data: authority, socket: authority.sock, entries: entries.yaml{authority}}}\n{top}\
                 agent: {{data: agent, socket: agent.sock}}\n\
                 admin: unix://{}\nlog: {{format: json}}\nworkers: 1\nendpoints:\n  \
                 in:\n    listen: mtls://{gate}\n    forward: tcp://{service}\n    as: /in\n    \
                 accept: [spiffe://{SITE}/out]\n  \
                 out:\n    listen: tcp://{sender}\n    forward: mtls://{gate}/in\n    as: /out\n    \
                 expect: [spiffe://{SITE}/in]\n{endpoints}",
                world.name("admin.sock")
            ),
        );
        world.write(
            "entries.yaml",
            &format!(
                "entries:\n  - {{spiffe_id: /in, selectors: {selectors}}}\n  \
                 - {{spiffe_id: /out, selectors: {selectors}}}\n{entries}"
            ),
        );
        let mut command = Command::new(SEKISHO);
        command.args(["run", "-c"]).arg(world.file("site.yaml"));
        prepare(&mut command);
        let whole = Self {
            process: Process::start(&mut command),
            sender,
            admin: world.file("admin.sock"),
            authority: world.file("authority.sock"),
            agent: world.file("agent.sock"),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
        };
        whole.process.wait_for("admin address open");
        until("a site that is ready", || {
            (whole.get("/ready").0 == 200).then_some(())
        });
        whole
    }

    /// Status and body of a page of the admin socket.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        http::get_unix(&self.admin, path).unwrap()
    }

    /// An endpoint's row of the status.
    pub(crate) fn endpoint(&self, name: &str) -> Value {
        let status: Value = serde_json::from_str(&self.get("/status").1).unwrap();
        let rows = status["endpoints"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap().clone()
    }

    /// A socket of it, which must be there.
    pub(crate) async fn channel(path: PathBuf) -> Channel {
        Self::connect(path).await.unwrap()
    }

    async fn connect(path: PathBuf) -> Result<Channel, tonic::transport::Error> {
        let connect = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        endpoint.connect_with_connector(connect).await
    }

    /// What the Workload API tells this very process.
    pub(crate) async fn ask(path: PathBuf) -> Result<X509svidResponse, Status> {
        let channel = Self::connect(path).await;
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut client = SpiffeWorkloadApiClient::new(channel);
        let mut request = Request::new(X509svidRequest {});
        let metadata = request.metadata_mut();
        metadata.insert("workload.spiffe.io", "true".parse().unwrap());
        let mut stream = client.fetch_x509svid(request).await?.into_inner();
        Ok(stream.message().await?.unwrap())
    }

    /// The number of one of its processes.
    pub(crate) fn child(&self, command: &str) -> Option<i32> {
        let own = self.process.id().to_string();
        let tasks = format!("/proc/{own}/task/{own}/children");
        let children = std::fs::read_to_string(tasks).ok()?;
        let mut children = children.split_whitespace();
        let found = children.find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            words.nth(1) == Some(command.as_bytes())
        });
        found?.parse().ok()
    }
}
