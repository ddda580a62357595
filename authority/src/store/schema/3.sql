-- Whether a root of our bundle has come from the authority above: it goes when it is gone there. What is
-- there already is marked when it is seen above again.
ALTER TABLE x509_authorities ADD COLUMN above INTEGER NOT NULL DEFAULT 0;

-- What was revoked is looked up at each start; there are few of these lines among all.
CREATE INDEX audit_of_revocations ON audit (object)
    WHERE action IN ('authority.revoke', 'authority.revoke_upstream');
