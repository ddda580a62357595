-- The domains whose stored bundle is the directory's word: when that ends, so does the bundle.
CREATE TABLE directory_bundles (
    trust_domain TEXT PRIMARY KEY
) WITHOUT ROWID;
