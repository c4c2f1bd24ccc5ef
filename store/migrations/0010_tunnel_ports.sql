-- Both ports of a tunnel that is up: the guest's, and the one that its consumer sends to. Another daemon goes on with them.

ALTER TABLE peers ADD COLUMN guest_port INTEGER NOT NULL DEFAULT 0 CHECK (guest_port BETWEEN 0 AND 65535);
ALTER TABLE peers ADD COLUMN local_port INTEGER NOT NULL DEFAULT 0 CHECK (local_port BETWEEN 0 AND 65535);
