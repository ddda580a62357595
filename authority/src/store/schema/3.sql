-- Whether a root of our bundle has come from the authority above: it goes when it is gone there. What is
-- there already is marked when it is seen above again.
ALTER TABLE x509_authorities ADD COLUMN above INTEGER NOT NULL DEFAULT 0;
