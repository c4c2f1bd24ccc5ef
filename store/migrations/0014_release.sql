-- Whoever asked for a lease has given it back, and was told so. A daemon that was killed before the end was written has left this.

ALTER TABLE leases ADD COLUMN release_asked INTEGER NOT NULL DEFAULT 0 CHECK (release_asked IN (0, 1));
