-- Lifetime of the SVIDs of a node's agent, in seconds; 0: the site's.
ALTER TABLE nodes ADD COLUMN svid_ttl INTEGER NOT NULL DEFAULT 0;
