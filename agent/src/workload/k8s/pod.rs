//! What is read of Kubernetes' objects (core/v1), and the selectors that it makes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(super) struct PodList {
    pub(super) items: Option<Vec<Pod>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Namespace {
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    labels: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<Owner>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Owner {
    kind: String,
    name: String,
    uid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    service_account_name: String,
    node_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    container_statuses: Option<Vec<ContainerStatus>>,
    init_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ContainerStatus {
    name: String,
    image: String,
    #[serde(rename = "imageID")]
    image_id: String,
    /// `containerd://ID`; empty until the container is made.
    #[serde(rename = "containerID")]
    container_id: String,
}

impl Pod {
    pub(super) fn uid(&self) -> &str {
        &self.metadata.uid
    }

    pub(super) fn namespace(&self) -> &str {
        &self.metadata.namespace
    }

    /// The container with this ID, or init container.
    pub(super) fn container(&self, id: &str) -> Option<&ContainerStatus> {
        let (containers, init) = (self.containers(), self.init_containers());
        containers.iter().chain(init).find(|status| {
            status
                .container_id
                .split_once("://")
                .is_some_and(|(_, known)| known == id)
        })
    }

    /// What is true of the pod, whichever container asks.
    pub(super) fn values(&self) -> Vec<String> {
        let (metadata, spec) = (&self.metadata, &self.spec);
        let (containers, init) = (self.containers(), self.init_containers());
        let mut values = vec![
            format!("sa:{}", spec.service_account_name),
            format!("ns:{}", metadata.namespace),
            format!("node-name:{}", spec.node_name),
            format!("pod-uid:{}", metadata.uid),
            format!("pod-name:{}", metadata.name),
            format!("pod-image-count:{}", containers.len()),
            format!("pod-init-image-count:{}", init.len()),
        ];
        values.extend(images("pod-image", containers));
        values.extend(images("pod-init-image", init));
        for (name, value) in metadata.labels.iter().flatten() {
            values.push(format!("pod-label:{name}:{value}"));
        }
        for owner in metadata.owner_references.iter().flatten() {
            values.push(format!("pod-owner:{}:{}", owner.kind, owner.name));
            values.push(format!("pod-owner-uid:{}:{}", owner.kind, owner.uid));
        }
        values
    }

    fn containers(&self) -> &[ContainerStatus] {
        self.status
            .container_statuses
            .as_deref()
            .unwrap_or_default()
    }

    fn init_containers(&self) -> &[ContainerStatus] {
        self.status
            .init_container_statuses
            .as_deref()
            .unwrap_or_default()
    }
}

impl ContainerStatus {
    /// What is true of this container only.
    pub(super) fn values(&self) -> Vec<String> {
        let mut values = vec![format!("container-name:{}", self.name)];
        values.extend(images("container-image", std::slice::from_ref(self)));
        values
    }
}

impl Namespace {
    pub(super) fn values(self) -> impl Iterator<Item = String> {
        let labels = self.metadata.labels.into_iter().flatten();
        labels.map(|(name, value)| format!("ns-label:{name}:{value}"))
    }
}

/// Each image by digest and by tag, once: an entry may be made before the digest is known.
fn images(kind: &str, containers: &[ContainerStatus]) -> Vec<String> {
    containers
        .iter()
        .flat_map(|status| [&status.image_id, &status.image])
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|image| format!("{kind}:{image}"))
        .collect()
}
