//! `k8s`: the pod and container of a process, by the kubelet of this node.

mod list;
mod pod;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use sekisho_kube::{KubeError, KubeServer, REQUEST};
use tokio::task::spawn_blocking;

use self::{
    list::PodLists,
    pod::{Namespace, Pod},
};
use super::{
    AttestorError,
    container::{self, Container, ContainerError},
    process::ProcessError,
};

/// Longest answer of the API server about one namespace.
const MAX_NAMESPACE: usize = 1024 * 1024;

/// Settings of the `k8s` attestor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct K8sSpec {
    /// The kubelet: its secure port, or the read-only one. Default: the secure port 10250 of
    /// 127.0.0.1 with the service account's token.
    pub kubelet: KubeServer,
    /// The API server, where labels of namespaces are wanted as `ns-label`. Default `None`.
    pub namespace_labels: Option<KubeServer>,
    /// How often the kubelet is asked before a container that it does not list is given up:
    /// SPIRE's `max_poll_attempts`. Default 60.
    pub max_poll_attempts: u32,
    /// Shortest time between two questions to the kubelet, shared by all who wait: SPIRE's
    /// `poll_retry_interval`. Default 500 ms.
    pub poll_interval: Duration,
    /// Leaves out what is true of the container only, so that a pod is attested as soon as it is
    /// known: SPIRE's `disable_container_selectors`. Default false.
    pub disable_container_selectors: bool,
}

impl Default for K8sSpec {
    fn default() -> Self {
        Self {
            kubelet: KubeServer::kubelet(),
            namespace_labels: None,
            max_poll_attempts: 60,
            poll_interval: Duration::from_millis(500),
            disable_container_selectors: false,
        }
    }
}

/// Why the kubelet's word is not had.
#[derive(Debug, thiserror::Error)]
pub(super) enum K8sError {
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// Two pods with one container: the safe answer is none.
    #[error("two pods have this container")]
    Conflict,
    /// Groups below `/user.slice` are made by users, who can call them as they like.
    #[error("the container's control group is a user's own")]
    Forgeable,
    #[error("the kubelet did not tell")]
    Kubelet(#[source] Arc<KubeError>),
    #[error("the labels of the namespace are not known")]
    Namespace(#[source] KubeError),
    #[error("no pod of the kubelet has this container")]
    NotListed,
    #[error(transparent)]
    Process(#[from] ProcessError),
}

#[derive(Debug)]
pub(super) struct K8s {
    spec: K8sSpec,
    lists: PodLists,
}

impl K8s {
    pub(super) fn new(spec: K8sSpec) -> Self {
        let lists = PodLists::new(spec.kubelet.clone(), spec.poll_interval);
        Self { spec, lists }
    }

    /// All its waiting, and one slow answer.
    pub(super) fn deadline(&self) -> Duration {
        let waiting = self.spec.poll_interval * self.spec.max_poll_attempts;
        waiting.saturating_add(REQUEST)
    }

    /// The values for a process; none when it is in no container.
    pub(super) async fn attest(&self, pid: i32) -> Result<Vec<String>, AttestorError> {
        let found = spawn_blocking(move || locate(pid))
            .await
            .map_err(|_| AttestorError::Stopped)??;
        Ok(match found {
            Some(container) => self.values(&container).await?,
            None => Vec::new(),
        })
    }

    /// Waits for the kubelet to list the container: a process may run, and ask, before it does.
    async fn values(&self, container: &Container) -> Result<Vec<String>, K8sError> {
        let mut seen = 0;
        let mut last = K8sError::NotListed;
        for _ in 0..self.spec.max_poll_attempts {
            let (version, outcome) = self.lists.newer_than(seen).await;
            seen = version;
            match outcome {
                Ok(pods) => {
                    last = K8sError::NotListed;
                    if let Some((pod, values)) = self.find(&pods, container)? {
                        return self.with_namespace(pod, values).await;
                    }
                }
                Err(error) => last = K8sError::Kubelet(error),
            }
        }
        Err(last)
    }

    fn find<'a>(
        &self,
        pods: &'a [Pod],
        container: &Container,
    ) -> Result<Option<(&'a Pod, Vec<String>)>, K8sError> {
        let known = container.pod_uid.as_deref();
        let mut found = None;
        for pod in pods
            .iter()
            .filter(|pod| known.is_none_or(|uid| pod.uid() == uid))
        {
            let status = pod.container(&container.id);
            let values = match status {
                Some(_) if self.spec.disable_container_selectors => pod.values(),
                Some(status) => [pod.values(), status.values()].concat(),
                None if known.is_some() && self.spec.disable_container_selectors => pod.values(),
                None => continue,
            };
            if found.replace((pod, values)).is_some() {
                return Err(K8sError::Conflict);
            }
        }
        Ok(found)
    }

    async fn with_namespace(
        &self,
        pod: &Pod,
        mut values: Vec<String>,
    ) -> Result<Vec<String>, K8sError> {
        let Some(server) = &self.spec.namespace_labels else {
            return Ok(values);
        };
        let name = pod.namespace();
        // RFC 1123's label, which Kubernetes demands: nothing that would make it another path.
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(K8sError::Namespace(KubeError::Name));
        }
        let labels = async {
            let path = format!("/api/v1/namespaces/{name}");
            let answer = server.get(&path, MAX_NAMESPACE).await?;
            serde_json::from_slice::<Namespace>(&answer).map_err(KubeError::Json)
        };
        let namespace = labels.await.map_err(K8sError::Namespace)?;
        values.extend(namespace.values());
        Ok(values)
    }
}

fn locate(pid: i32) -> Result<Option<Container>, K8sError> {
    let Some(container) = container::of(pid)? else {
        return Ok(None);
    };
    if is_users_own(&container::paths(pid)?, &container.id) {
        return Err(K8sError::Forgeable);
    }
    Ok(Some(container))
}

fn is_users_own(paths: &[String], id: &str) -> bool {
    paths
        .iter()
        .any(|path| path.starts_with("/user.slice/") && container::scope(path, id).is_some())
}
