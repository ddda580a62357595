//! kubeconfig files.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sekisho_kube::{KubeLogin, KubeServer, Material};

use super::super::{ConfigErrors, kubeconfig};

/// As kubeadm and k3s write them, with what does not concern us.
const BOTH: &str = "apiVersion: v1
kind: Config
preferences: {}
clusters:
- cluster:
    certificate-authority: ca.crt
    server: https://[fd00::1]:6443
  name: lab
- cluster:
    certificate-authority-data: Q0E=
    server: https://kube.site.example/k8s/clusters/c-1/
    extensions: [{name: x, extension: {provider: y}}]
  name: campus
contexts:
- {context: {cluster: campus, user: robot, namespace: default}, name: robot@campus}
- {context: {cluster: lab, user: admin}, name: admin@lab}
current-context: robot@campus
users:
- name: admin
  user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ}
- name: robot
  user: {tokenFile: tokens/robot, token: older}
";

struct Folder(tempfile::TempDir);

impl Folder {
    fn load(&self, text: &str) -> Result<KubeServer, ConfigErrors> {
        let file = self.0.path().join("kube.conf");
        fs::write(&file, text).unwrap();
        kubeconfig::load(&file)
    }
}

fn folder() -> Folder {
    Folder(tempfile::tempdir().unwrap())
}

fn inline(text: &str) -> Material {
    Material::Inline(text.as_bytes().to_vec().into())
}

#[test]
fn the_current_context_counts_and_paths_begin_at_the_file() {
    let folder = folder();
    let api = KubeServer::api_server();
    let expected = api
        .clone()
        .named("kube.site.example")
        .below("/k8s/clusters/c-1")
        .with_ca(inline("CA"))
        .with_login(KubeLogin::Token(
            folder.0.path().join("tokens/robot").into(),
        ));
    assert_eq!(folder.load(BOTH).unwrap(), expected);

    let other = BOTH.replace(
        "current-context: robot@campus",
        "current-context: admin@lab",
    );
    let expected = api
        .named("fd00::1")
        .at(6443)
        .with_ca(folder.0.path().join("ca.crt"))
        .with_login(KubeLogin::Certificate {
            certificate: inline("CERT"),
            key: inline("KEY"),
        });
    assert_eq!(folder.load(&other).unwrap(), expected);
}

#[test]
fn a_file_in_json_with_a_token_in_it_will_do() {
    let text = format!(
        r#"{{"current-context":"c","contexts":[{{"name":"c","context":{{"cluster":"k","user":"u"}}}}],
        "clusters":[{{"name":"k","cluster":{{"server":"https://192.0.2.1:6443","certificate-authority-data":"{}",
        "insecure-skip-tls-verify":false}}}}],"users":[{{"name":"u","user":{{"token":"s3cret"}}}}]}}"#,
        BASE64.encode("CA")
    );
    let server = folder().load(&text).unwrap();
    let expected = KubeServer::api_server()
        .named("192.0.2.1")
        .at(6443)
        .with_ca(inline("CA"));
    assert_eq!(
        server,
        expected.with_login(KubeLogin::Token(inline("s3cret")))
    );
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_without_secrets() {
    let folder = folder();
    let own = "  user: {tokenFile: tokens/robot, token: older}";
    let ca = "    certificate-authority-data: Q0E=\n    server: https://kube";
    let address = "server: https://kube.site.example/k8s/clusters/c-1/";
    for (from, to, expected) in [
        (
            "current-context: robot@campus",
            "",
            "current-context: missing: expected the name of a context",
        ),
        (
            "current-context: robot@campus",
            "current-context: x",
            "contexts: there is no context \"x\"",
        ),
        (
            "user: robot, namespace",
            "namespace",
            "contexts[0].context.user: missing",
        ),
        (
            "user: robot, namespace",
            "user: y, namespace",
            "users: there is no user \"y\"",
        ),
        (
            "cluster: campus, user",
            "cluster: z, user",
            "clusters: there is no cluster \"z\"",
        ),
        (
            address,
            "server: http://kube.site.example",
            "11:13: clusters[1].cluster.server: expected the API server, as in https://",
        ),
        (
            address,
            "server: https://a:s3cret@kube.site.example",
            "clusters[1].cluster.server: an address without a name or a password in it",
        ),
        (
            address,
            "server: https://kube.site.example:0x",
            "clusters[1].cluster.server: expected",
        ),
        (
            address,
            "server: \"https://kube.site.example:\"",
            "clusters[1].cluster.server: expected",
        ),
        (
            ca,
            "    server: https://kube",
            "clusters[1].cluster.certificate-authority: missing: expected a PEM file",
        ),
        (
            ca,
            "    certificate-authority-data: s3cret!\n    server: https://kube",
            "certificate-authority-data: expected base64 of PEM",
        ),
        (
            ca,
            "    insecure-skip-tls-verify: true\n    certificate-authority-data: Q0E=\n    server: https://kube",
            "insecure-skip-tls-verify: an API server that is not verified",
        ),
        (
            ca,
            "    proxy-url: socks5://a\n    certificate-authority-data: Q0E=\n    server: https://kube",
            "proxy-url: is not understood here",
        ),
        (
            own,
            "  user: {exec: {command: aws}}",
            "users[1].user.exec: would have to start or ask a program",
        ),
        (
            own,
            "  user: {auth-provider: {name: gcp}}",
            "users[1].user.auth-provider: would have to",
        ),
        (
            own,
            "  user: {username: s3cret, password: s3cret}",
            "users[1].user.password: is not understood",
        ),
        (
            own,
            "  user: {token: s3cret, as: admin}",
            "users[1].user.as: is not understood",
        ),
        (
            own,
            "  user: {token: [s3cret]}",
            "users[1].user.token: expected a token",
        ),
        (
            own,
            "  user: {token: s3cret, client-certificate: c}",
            "users[1].user: either token or tokenFile, or",
        ),
        (
            own,
            "  user: {client-certificate: c}",
            "users[1].user: either token or tokenFile, or",
        ),
        (
            own,
            "  user: {client-certificate-data: s3cret!, client-key: k}",
            "client-certificate-data: expected base64",
        ),
        (
            own,
            "  user: {}",
            "users[1].user: either token or tokenFile, or",
        ),
        (BOTH, "[1]", "expected a kubeconfig: a map with clusters"),
        (BOTH, "a: [s3cret", "not valid YAML"),
    ] {
        assert!(BOTH.contains(from), "{from}");
        let errors = folder.load(&BOTH.replace(from, to)).expect_err(to);
        let text = errors.render(false);
        assert!(text.contains(expected), "{to}\n{text}");
        assert!(
            text.contains("kube.conf") && !text.contains("s3cret"),
            "{text}"
        );
    }
    let none = kubeconfig::load(Path::new("/nowhere/kube.conf")).unwrap_err();
    assert!(
        none.to_string()
            .contains("/nowhere/kube.conf: cannot be read"),
        "{none}"
    );
    let of_files = kubeconfig::load(folder.0.path()).unwrap_err();
    assert!(of_files.to_string().contains("expected"), "{of_files}");
}
