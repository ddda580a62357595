//! `docker`: labels, environment and image of a container, by the Docker Engine's API.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, io, path::PathBuf, time::Duration};

use bytes::Bytes;
use sekisho_kube::http::{self, HttpError};
use serde::Deserialize;
use tokio::{net::UnixStream, task::spawn_blocking, time::sleep};

use super::{
    AttestorError,
    container::{self, Container, ContainerError},
    process::ProcessError,
};

/// Three more attempts, as SPIRE's, and the answers between.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Longest answer: an `inspect` is a few KiB, plus labels and environment.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
const ATTEMPTS: u32 = 4;
/// Before the second attempt; then twice as long each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Settings of the `docker` attestor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerSpec {
    /// The engine's socket. Default `/var/run/docker.sock`.
    pub socket: PathBuf,
}

impl Default for DockerSpec {
    fn default() -> Self {
        Self {
            socket: "/var/run/docker.sock".into(),
        }
    }
}

/// Why Docker's word is not had.
#[derive(Debug, thiserror::Error)]
pub(super) enum DockerError {
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error("the engine cannot be reached")]
    Connect(#[source] io::Error),
    /// Who may make control groups can name one after any container.
    #[error("the process is not in the container that its control group is named after")]
    Elsewhere,
    #[error("the engine did not tell")]
    Http(#[from] HttpError),
    #[error("the engine's answer is not understood")]
    Json(#[source] serde_json::Error),
    #[error(transparent)]
    Process(#[from] ProcessError),
}

#[derive(Debug)]
pub(super) struct Docker {
    spec: DockerSpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    config: Config,
    state: State,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    #[serde(default)]
    pid: i32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    labels: Option<BTreeMap<String, String>>,
    env: Option<Vec<String>>,
    #[serde(default)]
    image: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    #[serde(default)]
    id: String,
}

impl Docker {
    pub(super) fn new(spec: DockerSpec) -> Self {
        Self { spec }
    }

    /// The values for a process; none when it is in no container.
    pub(super) async fn attest(&self, pid: i32) -> Result<Vec<String>, AttestorError> {
        let found = spawn_blocking(move || container::of(pid))
            .await
            .map_err(|_| AttestorError::Stopped)?;
        let Some(container) = found.map_err(DockerError::from)? else {
            return Ok(Vec::new());
        };
        let inspected = self.inspect(&container.id).await?;
        let init = inspected.state.pid;
        spawn_blocking(move || is_in(pid, init, &container))
            .await
            .map_err(|_| AttestorError::Stopped)??;
        Ok(self.values(inspected.config).await)
    }

    async fn inspect(&self, id: &str) -> Result<Inspected, DockerError> {
        let path = format!("/containers/{id}/json");
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        let answer = loop {
            match self.get(&path).await {
                Ok(answer) => break answer,
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(_) => sleep(pause).await,
            }
            attempt += 1;
            pause *= 2;
        };
        serde_json::from_slice(&answer).map_err(DockerError::Json)
    }

    async fn get(&self, path: &str) -> Result<Bytes, DockerError> {
        let stream = UnixStream::connect(&self.spec.socket)
            .await
            .map_err(DockerError::Connect)?;
        Ok(http::get(stream, "docker", path, None, MAX_ANSWER).await?)
    }

    async fn values(&self, config: Config) -> Vec<String> {
        let mut values = Vec::new();
        for (name, value) in config.labels.into_iter().flatten() {
            values.push(format!("label:{name}:{value}"));
        }
        for variable in config.env.into_iter().flatten() {
            values.push(format!("env:{variable}"));
        }
        if config.image.is_empty() {
            return values;
        }
        // As in SPIRE, no digest where the image is no more (it was removed, or its tag moved).
        match self.image(&config.image).await {
            Ok(Some(id)) => values.push(format!("image_config_digest:{id}")),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the container's image cannot be looked up"),
        }
        values.push(format!("image_id:{}", config.image));
        values
    }

    async fn image(&self, name: &str) -> Result<Option<String>, DockerError> {
        // The characters of an image reference; nothing that would make it another path.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
        if !name.bytes().all(plain) || name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Ok(None);
        }
        let answer = self.get(&format!("/images/{name}/json")).await?;
        let image: Image = serde_json::from_slice(&answer).map_err(DockerError::Json)?;
        Ok(Some(image.id).filter(|id| !id.is_empty()))
    }
}

/// That the process is in the container, by the control groups of the container's first process.
fn is_in(pid: i32, init: i32, container: &Container) -> Result<(), DockerError> {
    let own = container::paths(pid)?;
    // A container that does not run has no process.
    let containers = match init {
        1.. => container::paths(init)?,
        _ => Vec::new(),
    };
    if share_scopes(&own, &containers, &container.id) {
        Ok(())
    } else {
        Err(DockerError::Elsewhere)
    }
}

/// Whether each of `own` that names the container does so at the container's own place. Paths seen
/// from within a container name nothing and have nothing to compare.
fn share_scopes(own: &[String], containers: &[String], id: &str) -> bool {
    let scopes = |paths: &[String]| -> Vec<String> {
        paths
            .iter()
            .filter_map(|path| container::scope(path, id))
            .map(str::to_owned)
            .collect()
    };
    let containers = scopes(containers);
    scopes(own).iter().all(|scope| containers.contains(scope))
}
