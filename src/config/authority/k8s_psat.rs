//! `authority.attest[].k8s_psat`: from which clusters agents come.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use sekisho_authority::attest::k8s_psat::{AUDIENCE, NameBy};

use crate::config::{
    error::{Problem, Report},
    field::Field,
    keys,
};

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterConfig {
    /// How its API server is reached. Default: as from inside of a pod of it.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The service accounts whose pods are agents, as in `sekisho:agent`.
    pub(crate) accounts: BTreeSet<String>,
    /// Whom a token must be for. Default: `spire-server`.
    pub(crate) audience: Vec<String>,
    /// Keys of nodes' labels that become selectors. Default: none.
    pub(crate) node_labels: BTreeSet<String>,
    /// Keys of pods' labels that become selectors. Default: none.
    pub(crate) pod_labels: BTreeSet<String>,
    /// What an agent is named by. Default: its node.
    pub(crate) name_by: NameBy,
}

const CLUSTERS: &str =
    "a map of the names of clusters, as in {campus: {accounts: [sekisho:agent]}}";
const ACCOUNTS: &str = "a list of service accounts, NAMESPACE:NAME, as in [sekisho:agent]";
const LABELS: &str = "a list of keys of labels, as in [topology.kubernetes.io/zone]";
/// Longest name of a cluster: it stands in the IDs of its agents.
const LONGEST: usize = 253;

/// Reads it.
pub(super) fn clusters(
    field: &Field<'_>,
    report: &mut Report,
) -> Option<BTreeMap<String, ClusterConfig>> {
    let before = report.count();
    let map = field.map(&keys::K8S_PSAT, report)?;
    let clusters = map.required("clusters", CLUSTERS, report)?;
    let mut all = BTreeMap::new();
    for entry in clusters.entries(CLUSTERS, report)? {
        let field = Field::new(&clusters.path, entry);
        if !is_name(&entry.key) {
            let expected = "up to 253 letters, digits, dots, dashes and underscores, since it \
                            stands in the IDs of agents";
            let problem = Problem::Rule(format!("the name of a cluster has {expected}"));
            report.push(&entry.at, &field.path, problem);
            continue;
        }
        if let Some(cluster) = cluster(&field, report) {
            all.insert(entry.key.clone(), cluster);
        }
    }
    (report.count() == before).then_some(all)
}

/// Whether a SPIFFE ID can have it as a segment of its path (SPIFFE-ID.md §2.2).
pub(in crate::config) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !matches!(text, "" | "." | "..") && text.len() <= LONGEST && text.bytes().all(plain)
}

fn cluster(field: &Field<'_>, report: &mut Report) -> Option<ClusterConfig> {
    let map = field.map(&keys::CLUSTER, report)?;
    let kubeconfig = map.get_or("kubeconfig", None, report, |field, report| {
        field.path("a kubeconfig file", report).map(Some)
    });
    let accounts = map
        .required("accounts", ACCOUNTS, report)
        .and_then(|field| texts(&field, ACCOUNTS, is_account, report));
    let audience = map.get_or(
        "audience",
        vec![AUDIENCE.into()],
        report,
        |field, report| {
            let expected = "a list of audiences, as in [spire-server]";
            let all = texts(field, expected, |text| !text.is_empty(), report)?;
            Some(all.into_iter().collect())
        },
    );
    let mut labels = |key| {
        map.get_or(key, BTreeSet::new(), report, |field, report| {
            texts(field, LABELS, |text| !text.is_empty(), report)
        })
    };
    let (node_labels, pod_labels) = (labels("node_labels"), labels("pod_labels"));
    let name_by = map.get_or("name_by", NameBy::Node, report, |field, report| {
        field.choice(&[("node", NameBy::Node), ("pod", NameBy::Pod)], report)
    });
    Some(ClusterConfig {
        kubeconfig: kubeconfig?,
        accounts: accounts?,
        audience: audience?,
        node_labels: node_labels?,
        pod_labels: pod_labels?,
        name_by: name_by?,
    })
}

fn texts(
    field: &Field<'_>,
    expected: &str,
    good: impl Fn(&str) -> bool,
    report: &mut Report,
) -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for item in field.list(expected, report)? {
        let read = |text: &str| good(text).then(|| text.to_owned());
        all.insert(item.parse(expected, report, read)?);
    }
    Some(all)
}

/// Two names as Kubernetes has them.
fn is_account(text: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    let name = |text: &str| !text.is_empty() && text.bytes().all(plain);
    matches!(text.split_once(':'), Some((namespace, account)) if name(namespace) && name(account))
}
