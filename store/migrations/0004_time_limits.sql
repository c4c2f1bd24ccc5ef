-- A lease's end by the boot clock of one boot (the wall clock may be set), and how long whoever asked for it may be
-- silent. Leases of the schema before have neither a deadline of a known boot nor a watch over heartbeats.

ALTER TABLE leases ADD COLUMN heartbeat_timeout_s INTEGER NOT NULL DEFAULT 0 CHECK (heartbeat_timeout_s >= 0);
ALTER TABLE leases ADD COLUMN deadline_ms INTEGER NOT NULL DEFAULT 0 CHECK (deadline_ms >= 0);
ALTER TABLE leases ADD COLUMN deadline_boot_id TEXT NOT NULL DEFAULT '' CHECK (length(deadline_boot_id) IN (0, 36));
