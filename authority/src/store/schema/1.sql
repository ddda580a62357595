-- Times are seconds since 1970; 0 where there is none. Numbers give the order of insertion.

CREATE TABLE entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    spiffe_id TEXT NOT NULL,
    parent_id TEXT NOT NULL,
    -- The set of selectors as one text, so that no two entries have the same three.
    selector_set TEXT NOT NULL,
    x509_ttl INTEGER NOT NULL,
    jwt_ttl INTEGER NOT NULL,
    admin INTEGER NOT NULL,
    downstream INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    store_svid INTEGER NOT NULL,
    hint TEXT NOT NULL,
    no_prefetch INTEGER NOT NULL,
    jwt_id INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (spiffe_id, parent_id, selector_set)
);
CREATE INDEX entries_by_parent ON entries (parent_id);
CREATE INDEX entries_by_expiry ON entries (expires_at);

-- Names that were in use: an entry made anew under one of them begins above its last revision, or
-- agents would go on with what they have.
CREATE TABLE ended_entries (
    id TEXT PRIMARY KEY,
    revision INTEGER NOT NULL
);
CREATE TRIGGER entry_ends AFTER DELETE ON entries BEGIN
    INSERT OR REPLACE INTO ended_entries (id, revision) VALUES (OLD.id, OLD.revision);
END;

CREATE TABLE entry_selectors (
    entry INTEGER NOT NULL REFERENCES entries (number) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (entry, kind, value)
);

CREATE TABLE entry_dns_names (
    entry INTEGER NOT NULL REFERENCES entries (number) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (entry, place)
);

CREATE TABLE entry_federation (
    entry INTEGER NOT NULL REFERENCES entries (number) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    -- `*`: all.
    trust_domain TEXT NOT NULL,
    PRIMARY KEY (entry, place)
);
CREATE INDEX entry_federation_by_domain ON entry_federation (trust_domain);

CREATE TABLE bundles (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    trust_domain TEXT NOT NULL UNIQUE,
    refresh_hint INTEGER NOT NULL,
    sequence INTEGER NOT NULL
);

CREATE TABLE x509_authorities (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    bundle INTEGER NOT NULL REFERENCES bundles (number) ON DELETE CASCADE,
    der BLOB NOT NULL,
    tainted INTEGER NOT NULL,
    UNIQUE (bundle, der)
);

CREATE TABLE jwt_authorities (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    bundle INTEGER NOT NULL REFERENCES bundles (number) ON DELETE CASCADE,
    key_id TEXT NOT NULL,
    public_key BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    tainted INTEGER NOT NULL,
    UNIQUE (bundle, key_id)
);

CREATE TABLE relationships (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    trust_domain TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL,
    -- `https_web` or `https_spiffe`.
    profile TEXT NOT NULL,
    endpoint_id TEXT NOT NULL
);

CREATE TABLE nodes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    attestation_type TEXT NOT NULL,
    -- Decimal. Empty where the node is banned.
    serial TEXT NOT NULL,
    not_after INTEGER NOT NULL,
    -- Issued, and not used yet.
    next_serial TEXT NOT NULL,
    next_not_after INTEGER NOT NULL,
    can_reattest INTEGER NOT NULL,
    -- When it has to attest again whatever its certificate says; 0: never.
    reattest_at INTEGER NOT NULL,
    banned INTEGER NOT NULL,
    version TEXT NOT NULL
);

CREATE TABLE node_selectors (
    node INTEGER NOT NULL REFERENCES nodes (number) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (node, kind, value)
);

CREATE TABLE join_tokens (
    -- What is looked up, and what evidence is keyed with: both made from the token, which is not
    -- kept.
    lookup BLOB PRIMARY KEY,
    evidence_key BLOB NOT NULL,
    agent_id TEXT NOT NULL,
    expires_at INTEGER NOT NULL
);

CREATE TABLE authorities (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    -- `x509` or `jwt`.
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    -- `prepared`, `active`, `old`.
    slot TEXT NOT NULL,
    tainted INTEGER NOT NULL,
    -- X.509: the chain in DER, the authority first. JWT: its public key.
    public BLOB NOT NULL,
    upstream_id TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    UNIQUE (kind, id)
);

CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    caller TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    detail TEXT NOT NULL,
    -- SHA-256 of the line before and of this one.
    hash BLOB NOT NULL
);
