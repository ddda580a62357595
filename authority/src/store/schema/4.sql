-- Relationships that the configuration file names stand beside those that administrators have made, and
-- hide them: when the file names one no more, the other is there again.
CREATE TABLE relationships_4 (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    trust_domain TEXT NOT NULL,
    url TEXT NOT NULL,
    -- `https_web` or `https_spiffe`.
    profile TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    -- Whether the configuration file names it.
    file INTEGER NOT NULL DEFAULT 0,
    -- When its endpoint last said that what is stored is what counts; 0: never.
    confirmed INTEGER NOT NULL DEFAULT 0,
    -- Whether an administrator lets its sequence go down, once.
    rollback INTEGER NOT NULL DEFAULT 0,
    UNIQUE (trust_domain, file)
);
INSERT INTO relationships_4 (number, trust_domain, url, profile, endpoint_id)
    SELECT number, trust_domain, url, profile, endpoint_id FROM relationships;
DROP TABLE relationships;
ALTER TABLE relationships_4 RENAME TO relationships;

-- SHA-256 of the public key of a CA, by which it is seen that two domains have the same; empty for one that
-- was stored before, until the database is opened the next time.
ALTER TABLE x509_authorities ADD COLUMN spki BLOB NOT NULL DEFAULT x'';
CREATE INDEX x509_authorities_by_spki ON x509_authorities (spki);
