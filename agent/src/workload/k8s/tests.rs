//! Against a stand-in over TLS that answers with lists of real kubelets (the recordings that SPIRE
//! tests its own attestor with: one pod of kind with containerd, one of a DaemonSet with dockershim
//! and an init container).

use sekisho_kube::KubeLogin;
use sekisho_testkit::kube::{StandIn, ok};

use super::*;

const PODS: &str = include_str!("recorded/pods.json");
/// A node on which nothing runs: Go writes an empty list as `null`.
const WITHOUT_PODS: &str = r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":null}"#;

const KIND_POD: &str = "a2830d0d-b0f0-4ff0-81b5-0ee4e299cf80";
const KIND_CONTAINER: &str = "09bc3d7ade839efec32b6bec4ec79d099027a668ddba043083ec21d3c3b8f1e6";
const FLANNEL_INIT: &str = "34a2062fd26c805aa8cf814cdfe479322b791f80afb9ea4db02d50375df14b41";
const KIND_IMAGE: &str = "gcr.io/spiffe-io/spire-agent:0.8.1";
const KIND_DIGEST: &str = "gcr.io/spiffe-io/spire-agent@sha256:1e4c481d76e9ecbd3d8684891e0e46aa021a30920ca04936e1fdcc552747d941";
const FLANNEL_IMAGE: &str = "quay.io/coreos/flannel:v0.9.0-amd64";
const FLANNEL_DIGEST: &str = "docker-pullable://quay.io/coreos/flannel@sha256:1b401bf0c30bada9a539389c3be652b58fe38463361edf488e6543c8761d4970";

fn container(id: &str, pod_uid: Option<&str>) -> Container {
    Container {
        id: id.into(),
        pod_uid: pod_uid.map(Into::into),
    }
}

fn server(stand_in: &StandIn) -> KubeServer {
    let folder = stand_in.folder();
    KubeServer::kubelet()
        .at(stand_in.port())
        .with_ca(folder.join("ca.pem"))
        .with_login(KubeLogin::Token(folder.join("token").into()))
}

fn attestor(server: KubeServer) -> K8s {
    K8s::new(K8sSpec {
        kubelet: server,
        poll_interval: Duration::from_millis(1),
        max_poll_attempts: 5,
        ..K8sSpec::default()
    })
}

fn sorted(mut values: Vec<String>) -> Vec<String> {
    values.sort();
    values
}

fn expected(values: &[String]) -> Vec<String> {
    sorted(values.to_vec())
}

fn kind_pod_values() -> Vec<String> {
    vec![
        "sa:default".into(),
        "ns:default".into(),
        "node-name:kind-control-plane".into(),
        format!("pod-uid:{KIND_POD}"),
        "pod-name:sample-workload-6658cb9566-5n4b4".into(),
        "pod-image-count:1".into(),
        "pod-init-image-count:0".into(),
        format!("pod-image:{KIND_IMAGE}"),
        format!("pod-image:{KIND_DIGEST}"),
        "pod-label:app:sample-workload".into(),
        "pod-label:pod-template-hash:6658cb9566".into(),
        "pod-owner:ReplicaSet:sample-workload-6658cb9566".into(),
        "pod-owner-uid:ReplicaSet:349d135e-3781-43e3-bc25-c900aedf1d0c".into(),
    ]
}

fn kind_container_values() -> Vec<String> {
    vec![
        "container-name:workload-api-client".into(),
        format!("container-image:{KIND_IMAGE}"),
        format!("container-image:{KIND_DIGEST}"),
    ]
}

#[tokio::test]
async fn a_container_has_spires_selectors_with_the_pod_known_or_not() {
    let stand_in = StandIn::start(|_| ok(PODS)).await;
    let k8s = attestor(server(&stand_in));
    let all = [kind_pod_values(), kind_container_values()].concat();
    for pod in [Some(KIND_POD), None] {
        let values = k8s.values(&container(KIND_CONTAINER, pod)).await.unwrap();
        assert_eq!(sorted(values), expected(&all));
    }
}

#[tokio::test]
async fn an_init_container_is_found_and_images_are_told_once() {
    let stand_in = StandIn::start(|_| ok(PODS)).await;
    let k8s = attestor(server(&stand_in));
    let values = k8s.values(&container(FLANNEL_INIT, None)).await.unwrap();
    let all = [
        "sa:flannel".into(),
        "ns:kube-system".into(),
        "node-name:k8s-node-1".into(),
        "pod-uid:d488cae9-b2a0-11e7-9350-020968147796".into(),
        "pod-name:kube-flannel-ds-gp1g9".into(),
        "pod-image-count:1".into(),
        "pod-init-image-count:1".into(),
        format!("pod-image:{FLANNEL_IMAGE}"),
        format!("pod-image:{FLANNEL_DIGEST}"),
        format!("pod-init-image:{FLANNEL_IMAGE}"),
        format!("pod-init-image:{FLANNEL_DIGEST}"),
        "pod-label:app:flannel".into(),
        "pod-label:controller-revision-hash:1846323910".into(),
        "pod-label:pod-template-generation:1".into(),
        "pod-label:tier:node".into(),
        "pod-owner:DaemonSet:kube-flannel-ds".into(),
        "pod-owner-uid:DaemonSet:2f0350fc-b29d-11e7-9350-020968147796".into(),
        "container-name:install-cni".into(),
        format!("container-image:{FLANNEL_IMAGE}"),
        format!("container-image:{FLANNEL_DIGEST}"),
    ];
    assert_eq!(sorted(values), expected(&all));
}

#[tokio::test]
async fn a_container_that_is_not_listed_yet_is_waited_for_and_not_for_ever() {
    for (listed_at, found) in [(5, true), (6, false)] {
        let stand_in = StandIn::start(move |asked| {
            if asked.count < listed_at {
                ok(WITHOUT_PODS)
            } else {
                ok(PODS)
            }
        })
        .await;
        let k8s = attestor(server(&stand_in));
        let values = k8s.values(&container(KIND_CONTAINER, Some(KIND_POD))).await;
        assert_eq!(values.is_ok(), found, "{values:?}");
        assert_eq!(stand_in.asked(), 5);
        if let Err(error) = values {
            assert!(matches!(error, K8sError::NotListed), "{error}");
        }
    }
}

#[tokio::test]
async fn a_failure_of_the_kubelet_is_tried_again_too() {
    let stand_in = StandIn::start(|asked| match asked.count {
        1 => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".into(),
        2 => ok("no JSON"),
        _ => ok(PODS),
    })
    .await;
    let k8s = attestor(server(&stand_in));
    k8s.values(&container(KIND_CONTAINER, None)).await.unwrap();
    assert_eq!(stand_in.asked(), 3);
}

#[tokio::test]
async fn many_who_ask_at_once_cost_one_question() {
    let stand_in = StandIn::start(|_| ok(PODS)).await;
    let mut k8s = attestor(server(&stand_in));
    k8s.lists = PodLists::new(server(&stand_in), Duration::from_secs(600));
    let wanted = container(KIND_CONTAINER, None);
    let answers = futures_util::future::join_all((0..50).map(|_| k8s.values(&wanted))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(stand_in.asked(), 1);
}

#[tokio::test]
async fn two_pods_with_one_container_are_none_and_another_pods_container_is_not_ours() {
    let twice = PODS.replace(FLANNEL_INIT, KIND_CONTAINER);
    let stand_in = StandIn::start(move |_| ok(&twice)).await;
    let k8s = attestor(server(&stand_in));
    let error = k8s
        .values(&container(KIND_CONTAINER, None))
        .await
        .unwrap_err();
    assert!(matches!(error, K8sError::Conflict), "{error}");
    // With the pod known, it is the one.
    let known = container(KIND_CONTAINER, Some(KIND_POD));
    k8s.values(&known).await.unwrap();
    let wrong = container(KIND_CONTAINER, Some("00000000-1111-2222-3333-444444444444"));
    let error = k8s.values(&wrong).await.unwrap_err();
    assert!(matches!(error, K8sError::NotListed), "{error}");
}

#[tokio::test]
async fn without_container_selectors_a_known_pod_is_enough() {
    let stand_in = StandIn::start(|_| ok(PODS)).await;
    let mut k8s = attestor(server(&stand_in));
    k8s.spec.disable_container_selectors = true;
    let other = "f".repeat(64);
    let values = k8s
        .values(&container(&other, Some(KIND_POD)))
        .await
        .unwrap();
    assert_eq!(sorted(values), expected(&kind_pod_values()));
    let values = k8s.values(&container(KIND_CONTAINER, None)).await.unwrap();
    assert_eq!(sorted(values), expected(&kind_pod_values()));
    let error = k8s.values(&container(&other, None)).await.unwrap_err();
    assert!(matches!(error, K8sError::NotListed), "{error}");
}

#[tokio::test]
async fn labels_of_the_namespace_come_from_the_api_server_where_one_is_given() {
    let stand_in = StandIn::start(|asked| match asked.path.as_str() {
        "/pods" => ok(PODS),
        "/api/v1/namespaces/default" => {
            ok(r#"{"kind":"Namespace","metadata":{"name":"default","labels":{"tier":"gold"}}}"#)
        }
        _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
    })
    .await;
    let mut k8s = attestor(server(&stand_in));
    k8s.spec.namespace_labels = Some(server(&stand_in));
    let values = k8s.values(&container(KIND_CONTAINER, None)).await.unwrap();
    assert!(values.contains(&"ns-label:tier:gold".to_owned()));
    // As in SPIRE, without them nothing is said.
    let error = k8s
        .values(&container(FLANNEL_INIT, None))
        .await
        .unwrap_err();
    assert!(
        matches!(error, K8sError::Namespace(KubeError::Http(_))),
        "{error}"
    );
}

#[test]
fn a_group_below_user_slice_is_not_a_pods() {
    let id = KIND_CONTAINER;
    let paths = |path: String| vec!["/".to_owned(), path];
    let own = paths(format!("/user.slice/user-1000.slice/kubepods/{id}"));
    assert!(is_users_own(&own, id));
    assert!(!is_users_own(&paths(format!("/kubepods.slice/{id}")), id));
}
