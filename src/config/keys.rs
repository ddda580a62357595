//! Every key there is.

mod nearest;
mod side;

pub(super) use nearest::nearest;
pub(super) use side::{KEEPALIVE, PATH, PATH_SIDE, SOCKET, SOCKET_SIDE};

/// The keys of one map.
#[derive(Debug)]
pub(super) struct Keys {
    /// What the map is, for messages.
    pub(super) of: &'static str,
    /// The keys read by this version.
    pub(super) known: &'static [&'static str],
    /// Keys of later versions.
    pub(super) later: &'static [&'static str],
}

/// The top level.
pub(super) const TOP: Keys = Keys {
    of: "a map with `site`, and `endpoints`, `authority`, `agent` or `oidc`",
    known: &[
        "site",
        "identity",
        "bundles",
        "policy",
        "endpoints",
        "workers",
        "admin",
        "drain",
        "log",
        "record",
        "buffers",
        "authority",
        "agent",
        "oidc",
        "federation",
        "user",
    ],
    later: &["tenants"],
};

/// `authority`.
pub(super) const AUTHORITY: Keys = Keys {
    of: "a map such as {listen: ADDRESS:PORT}",
    known: &[
        "listen",
        "socket",
        "data",
        "encrypt",
        "attest",
        "ca_ttl",
        "x509_ttl",
        "jwt_ttl",
        "agent_ttl",
        "jwt_issuer",
        "admins",
        "entries",
        "upstream",
        "user",
    ],
    later: &["ca_subject", "policy"],
};

/// `authority.upstream`.
pub(super) const UPSTREAM: Keys = Keys {
    of: "{disk: {…}} or {spire: {…}}",
    known: &["disk", "spire"],
    later: &[],
};

/// `authority.upstream.disk`.
pub(super) const UPSTREAM_DISK: Keys = Keys {
    of: "{cert: FILE, key: FILE}, with {bundle: FILE} where the certificate is no root",
    known: &["cert", "key", "bundle"],
    later: &[],
};

/// `authority.upstream.spire`.
pub(super) const UPSTREAM_SPIRE: Keys = Keys {
    of: "{authority: [HOST:PORT], identity: unix:///SOCKET}",
    known: &["authority", "identity", "as"],
    later: &[],
};

/// `federation`.
pub(super) const FEDERATION: Keys = Keys {
    of: "a map such as {directory: URL, root: FILE}, or {endpoint: {listen: ADDRESS:PORT}, peers: \
         {TRUST DOMAIN: {…}}}",
    known: &[
        "directory",
        "root",
        "threshold",
        "member",
        "services",
        "max_stale",
        "rekey_wait",
        "endpoint",
        "peers",
        "allow",
    ],
    later: &[],
};

/// `federation.endpoint`.
pub(super) const BUNDLE_ENDPOINT: Keys = Keys {
    of: "a map such as {listen: ADDRESS:PORT, profile: https_spiffe}",
    known: &["listen", "profile", "refresh", "cert", "key", "acme"],
    later: &[],
};

/// `federation.endpoint.acme`.
pub(super) const ACME: Keys = Keys {
    of: "a map such as {directory: URL, domain: NAME}",
    known: &["directory", "domain", "email", "ca"],
    later: &[],
};

/// One of `federation.peers`.
pub(super) const PEER: Keys = Keys {
    of: "a map such as {url: https://HOST:PORT, profile: https_spiffe, id: SPIFFE ID, bundle: FILE}",
    known: &["url", "profile", "id", "bundle"],
    later: &[],
};

/// `oidc`.
pub(super) const OIDC: Keys = Keys {
    of: "a map such as {listen: ADDRESS:PORT, domains: [DOMAIN], cert: FILE, key: FILE}",
    known: &[
        "listen", "domains", "cert", "key", "issuer", "jwks_uri", "source", "user",
    ],
    later: &[],
};

/// `agent`.
pub(super) const AGENT: Keys = Keys {
    of: "a map such as {authority: [HOST:PORT], bootstrap: FILE, join_token: {file: FILE}}",
    known: &[
        "authority",
        "bootstrap",
        "socket",
        "listen",
        "data",
        "join_token",
        "x509pop",
        "k8s_psat",
        "evidence",
        "workloads",
        "availability",
        "seal",
        "delegated",
        "user",
    ],
    later: &["sds"],
};

/// `agent.x509pop`.
pub(super) const NODE_X509POP: Keys = Keys {
    of: "{cert: FILE, key: FILE}",
    known: &["cert", "key"],
    later: &[],
};

/// `agent.k8s_psat`.
pub(super) const NODE_K8S_PSAT: Keys = Keys {
    of: "{cluster: NAME} or {cluster: NAME, token: FILE}",
    known: &["cluster", "token"],
    later: &[],
};

/// An item of `agent.workloads`, as a map.
pub(super) const WORKLOAD: Keys = Keys {
    of: "a kind of attestation, or {docker: {…}} with settings",
    known: &["unix", "systemd", "docker", "k8s"],
    later: &[],
};

/// `agent.workloads[].unix`.
pub(super) const UNIX: Keys = Keys {
    of: "{path, sha256, size_limit}",
    known: &["path", "sha256", "size_limit"],
    later: &[],
};

/// `agent.workloads[].systemd`.
pub(super) const SYSTEMD: Keys = Keys {
    of: "{bus: PATH}",
    known: &["bus"],
    later: &[],
};

/// `agent.workloads[].docker`.
pub(super) const DOCKER: Keys = Keys {
    of: "{socket: PATH}",
    known: &["socket"],
    later: &[],
};

/// `agent.workloads[].k8s`.
pub(super) const K8S: Keys = Keys {
    of: "{node, port, ca, token, cert, key, read_only_port, namespace_labels}",
    known: &[
        "node",
        "port",
        "ca",
        "token",
        "cert",
        "key",
        "read_only_port",
        "namespace_labels",
    ],
    later: &[],
};

/// `agent.delegated`.
pub(super) const DELEGATED: Keys = Keys {
    of: "{socket: PATH, delegates: {SPIFFE-ID: [SPIFFE-ID, …]}}",
    known: &["socket", "delegates"],
    later: &[],
};

/// `authority.encrypt`.
pub(super) const SECRET: Keys = Keys {
    of: "{file: FILE} or {env: NAME}",
    known: &["file", "env"],
    later: &[],
};

/// An item of `authority.attest`, as a map.
pub(super) const ATTEST: Keys = Keys {
    of: "join_token, {x509pop: {ca: FILE}}, {x509pop: spiffe} or {k8s_psat: {clusters: {NAME: {…}}}}",
    known: &["x509pop", "k8s_psat", "sekisho_evidence"],
    later: &[],
};

/// An item of `sekisho_evidence.evidence`, as a map.
pub(super) const EVIDENCE_PIECE: Keys = Keys {
    of: "join_token, {x509pop: {ca: FILE}}, {x509pop: spiffe} or {k8s_psat: {clusters: {NAME: {…}}}}",
    known: &["x509pop", "k8s_psat"],
    later: &[],
};

/// `sekisho_evidence` of an authority.
pub(super) const EVIDENCE: Keys = Keys {
    of: "{evidence: [join_token, {x509pop: {ca: FILE}}], policy: DIR}",
    known: &["evidence", "policy"],
    later: &[],
};

/// An item of `agent.evidence`, as a map.
pub(super) const NODE_EVIDENCE: Keys = Keys {
    of: "{join_token: {file: FILE}}, {x509pop: {cert: FILE, key: FILE}} or {k8s_psat: {cluster: NAME}}",
    known: &["join_token", "x509pop", "k8s_psat"],
    later: &[],
};

/// `k8s_psat` of an authority.
pub(super) const K8S_PSAT: Keys = Keys {
    of: "{clusters: {NAME: {kubeconfig: FILE, accounts: [NAMESPACE:NAME]}}}",
    known: &["clusters"],
    later: &[],
};

/// `k8s_psat.clusters.NAME`.
pub(super) const CLUSTER: Keys = Keys {
    of: "{kubeconfig: FILE, accounts: [NAMESPACE:NAME]}",
    known: &[
        "kubeconfig",
        "accounts",
        "audience",
        "node_labels",
        "pod_labels",
        "name_by",
    ],
    later: &[],
};

/// `x509pop`, as a map.
pub(super) const X509POP: Keys = Keys {
    of: "spiffe or {ca: FILE}",
    known: &["ca"],
    later: &[],
};

/// A file of entries.
pub(super) const ENTRIES_FILE: Keys = Keys {
    of: "a map with `entries`",
    known: &["site", "entries"],
    later: &[],
};

/// An item of `entries` in a file of entries.
pub(super) const ENTRY: Keys = Keys {
    of: "a map with `spiffe_id` and `selectors`",
    known: &[
        "id",
        "spiffe_id",
        "parent",
        "selectors",
        "federates_with",
        "dns_names",
        "x509_ttl",
        "jwt_ttl",
        "hint",
        "admin",
        "downstream",
        "on_demand",
        "jwt_id",
    ],
    later: &[],
};

/// A file of services.
pub(super) const SERVICES_FILE: Keys = Keys {
    of: "a map with `services`",
    known: &["site", "services"],
    later: &[],
};

/// An item of `services` in a file of services.
pub(super) const SERVICE: Keys = Keys {
    of: "a map with `name` and `gateways`",
    known: &["name", "gateways", "spiffe_id", "marks"],
    later: &[],
};

/// `endpoints.NAME`.
pub(super) const ENDPOINT: Keys = Keys {
    of: "a map with `listen` and `forward`",
    known: &[
        "listen",
        "forward",
        "as",
        "accept",
        "expect",
        "local",
        "from",
        "identity",
        "bundles",
        "policy",
        "name",
        "default",
        "tls",
        "balance",
        "health",
        "timeouts",
        "limits",
        "max_age",
        "cut_at_expiry",
        "proxy_protocol",
        "protocol",
        "record",
        "socket",
        "path",
    ],
    later: &[],
};

/// `identity`, as a map.
pub(super) const IDENTITY: Keys = Keys {
    of: "unix:///SOCKET, {cert, key, bundles}, {embedded: {data: DIR}} or {delegated, selectors}",
    known: &[
        "cert",
        "key",
        "bundles",
        "embedded",
        "delegated",
        "selectors",
    ],
    later: &[],
};

/// `identity.embedded`.
pub(super) const EMBEDDED: Keys = Keys {
    of: "{data: DIR}",
    known: &["data"],
    later: &[],
};

/// `policy`, as a map.
pub(super) const POLICY: Keys = Keys {
    of: "a folder, or {dir: DIR, decision: NAME}",
    known: &["dir", "decision"],
    later: &[],
};

/// `log`.
pub(super) const LOG: Keys = Keys {
    of: "{format, level, access}",
    known: &["format", "level", "access"],
    later: &[],
};

/// `endpoints.NAME.tls`.
pub(super) const TLS: Keys = Keys {
    of: "{min, resumption}",
    known: &["min", "resumption"],
    later: &[],
};

/// `endpoints.NAME.health`, as a map.
pub(super) const HEALTH: Keys = Keys {
    of: "true, false or {interval, timeout, fall, rise}",
    known: &["interval", "timeout", "fall", "rise"],
    later: &[],
};

/// `endpoints.NAME.timeouts`.
pub(super) const TIMEOUTS: Keys = Keys {
    of: "{connect, handshake, idle}",
    known: &["connect", "handshake", "idle"],
    later: &[],
};

/// `endpoints.NAME.limits`.
pub(super) const LIMITS: Keys = Keys {
    of: "{connections, handshakes, lanes}",
    known: &["connections", "handshakes", "lanes"],
    later: &[],
};

/// `endpoints.NAME.proxy_protocol`.
pub(super) const PROXY_PROTOCOL: Keys = Keys {
    of: "{in: true, from: [CIDR], out: true}",
    known: &["in", "from", "out"],
    later: &[],
};

/// All of them, with the path that leads to each: what `docs/configuration.md` must name.
#[cfg(test)]
pub(super) const ALL: &[(&str, &Keys)] = &[
    ("", &TOP),
    ("", &ENDPOINT),
    ("", &AUTHORITY),
    ("", &AGENT),
    ("oidc.", &OIDC),
    ("federation.", &FEDERATION),
    ("federation.endpoint.", &BUNDLE_ENDPOINT),
    ("federation.endpoint.acme.", &ACME),
    ("", &PEER),
    ("upstream.", &UPSTREAM),
    ("upstream.disk.", &UPSTREAM_DISK),
    ("upstream.spire.", &UPSTREAM_SPIRE),
    ("", &ENTRIES_FILE),
    ("", &ENTRY),
    ("", &SERVICES_FILE),
    ("", &SERVICE),
    ("", &NODE_X509POP),
    ("sekisho_evidence.", &EVIDENCE),
    ("k8s_psat.", &NODE_K8S_PSAT),
    ("k8s_psat.", &K8S_PSAT),
    ("", &CLUSTER),
    ("delegated.", &DELEGATED),
    ("", &WORKLOAD),
    ("unix.", &UNIX),
    ("systemd.", &SYSTEMD),
    ("docker.", &DOCKER),
    ("k8s.", &K8S),
    ("identity.", &IDENTITY),
    ("identity.embedded.", &EMBEDDED),
    ("policy.", &POLICY),
    ("log.", &LOG),
    ("tls.", &TLS),
    ("health.", &HEALTH),
    ("timeouts.", &TIMEOUTS),
    ("limits.", &LIMITS),
    ("proxy_protocol.", &PROXY_PROTOCOL),
    ("socket.", &SOCKET),
    ("socket.listen.", &SOCKET_SIDE),
    ("socket.listen.keepalive.", &KEEPALIVE),
    ("path.", &PATH),
    ("path.listen.", &PATH_SIDE),
];
