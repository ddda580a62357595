use super::{INBOUND, OUTBOUND, endpoint, site};

fn warnings(lines: &str) -> Vec<String> {
    let endpoint = endpoint(&site(lines));
    let lines = endpoint.warnings.iter().map(ToString::to_string);
    lines
        .map(|line| line.strip_prefix("etc/f.yaml:").unwrap().to_owned())
        .collect()
}

#[test]
fn what_is_wise_has_no_warnings() {
    assert_eq!(warnings(INBOUND), [""; 0]);
    assert_eq!(warnings(OUTBOUND), [""; 0]);
    let own = INBOUND.replace(
        "spiffe://a.example/w",
        "spiffe://b.example/*, spiffe://a.example/k/*",
    );
    assert_eq!(warnings(&own), [""; 0]);
}

#[test]
fn a_listener_for_any_user_is_named_with_who_it_speaks_as() {
    let tcp = OUTBOUND.replace("unix:///run/out.sock", "tcp://127.0.0.1:1");
    assert_eq!(
        warnings(&format!("{tcp}as: /w\n")),
        [
            "4:13: endpoints.x.listen: warning: no `local`: any user of the host could speak as \
             spiffe://b.example/w"
        ]
    );
    assert_eq!(
        warnings(&tcp),
        [
            "4:13: endpoints.x.listen: warning: no `local`: any user of the host could speak as \
             this endpoint's identity in b.example"
        ]
    );
    assert_eq!(warnings(&format!("{tcp}local: [user:kafka]\n")), [""; 0]);
}

#[test]
fn what_lets_everybody_in_is_named() {
    let tcp = OUTBOUND.replace("unix:///run/out.sock", "tcp://0.0.0.0:1");
    assert_eq!(
        warnings(&format!("{tcp}local: [user:a]\nfrom: [0.0.0.0/0]\n")),
        ["9:11: endpoints.x.from: warning: anybody who reaches this address may use it"]
    );
    assert_eq!(
        warnings(&format!(
            "{INBOUND}proxy_protocol: {{in: true, from: ['::/0']}}\n"
        )),
        ["8:21: endpoints.x.proxy_protocol: warning: anybody may say where they come from"]
    );
    let federated = INBOUND.replace("spiffe://a.example/w", "federated");
    assert_eq!(
        warnings(&format!("{federated}policy: p\n")),
        [
            "6:13: endpoints.x.accept: warning: every workload of every trusted domain: only the \
             policy decides"
        ]
    );
    let all = INBOUND.replace("spiffe://a.example/w", "spiffe://a.example/*");
    assert_eq!(
        warnings(&all),
        [
            "6:13: endpoints.x.accept: warning: spiffe://a.example/* is every workload of \
             a.example"
        ]
    );
    assert_eq!(
        warnings("listen: unix:///run/s\nforward: tcp://127.0.0.1:1\n"),
        [
            "5:14: endpoints.x.forward: warning: neither side speaks mTLS: nobody proves who they \
             are here"
        ]
    );
}

#[test]
fn tls_1_2_is_named() {
    for base in [INBOUND, OUTBOUND] {
        assert_eq!(
            warnings(&format!("{base}tls: {{min: '1.2'}}\n")),
            [
                "8:10: endpoints.x.tls: warning: TLS 1.2 shows certificates to anybody on the \
                 way: only for peers that cannot do better"
            ]
        );
    }
}

#[test]
fn a_named_domain_without_a_bundle_is_named_where_that_is_certain() {
    let files = INBOUND.replace("unix:///run/a.sock", "{cert: c, key: k}");
    let warning = "6:13: endpoints.x.accept: warning: there is no bundle of a.example: its peers \
                   will be refused";
    assert_eq!(warnings(&files), [warning]);
    assert_eq!(
        warnings(&format!("{files}bundles: {{a.example: a.pem}}\n")),
        [""; 0]
    );
    assert_eq!(warnings(&format!("{files}bundles: folder/\n")), [""; 0]);
    let embedded = INBOUND
        .replace("unix:///run/a.sock", "{embedded: {data: d}}\nas: /w")
        .replace("[spiffe://a", "[spiffe://b.example/x, spiffe://a");
    assert_eq!(warnings(&embedded), [warning]);
}
