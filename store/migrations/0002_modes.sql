-- Network modes, what a violation brings, and how long its evidence stays. Leases of the first schema were all filtered
-- with nothing but drops, which is what the defaults say.

ALTER TABLE leases ADD COLUMN sampling_ppm INTEGER NOT NULL DEFAULT 0 CHECK (sampling_ppm BETWEEN 0 AND 1000000);
ALTER TABLE leases ADD COLUMN boot_isolation TEXT NOT NULL DEFAULT 'prebuilt' CHECK (
    boot_isolation IN ('prebuilt', 'offline_packages', 'online_install'));
ALTER TABLE leases ADD COLUMN on_violation TEXT NOT NULL DEFAULT 'drop' CHECK (on_violation IN ('drop', 'terminate'));
ALTER TABLE leases ADD COLUMN require_wireguard INTEGER NOT NULL DEFAULT 0 CHECK (require_wireguard IN (0, 1));
ALTER TABLE leases ADD COLUMN egress_bits_per_s INTEGER NOT NULL DEFAULT 0 CHECK (egress_bits_per_s >= 0);
ALTER TABLE leases ADD COLUMN ingress_bits_per_s INTEGER NOT NULL DEFAULT 0 CHECK (ingress_bits_per_s >= 0);
ALTER TABLE leases ADD COLUMN egress_packets_per_s INTEGER NOT NULL DEFAULT 0 CHECK (egress_packets_per_s >= 0);
ALTER TABLE leases ADD COLUMN ingress_packets_per_s INTEGER NOT NULL DEFAULT 0 CHECK (ingress_packets_per_s >= 0);
ALTER TABLE leases ADD COLUMN exposed_ms INTEGER NOT NULL DEFAULT 0 CHECK (exposed_ms >= 0);

ALTER TABLE violations ADD COLUMN sampling_ppm INTEGER NOT NULL DEFAULT 0 CHECK (sampling_ppm BETWEEN 0 AND 1000000);
ALTER TABLE violations ADD COLUMN stop_latency_ms INTEGER NOT NULL DEFAULT 0 CHECK (stop_latency_ms >= 0);
ALTER TABLE violations ADD COLUMN evidence_purged INTEGER NOT NULL DEFAULT 0 CHECK (
    evidence_purged = 0 OR (evidence_purged = 1 AND length(evidence) = 0));

-- Both ways of finding evidence that has to go; what is gone already is in neither.
CREATE INDEX violations_with_evidence ON violations (number) WHERE length(evidence) > 0;
CREATE INDEX violations_evidence_age ON violations (first_seen_ms) WHERE length(evidence) > 0;

-- A tunnel may be lost now. SQLite cannot change a CHECK, so the table is made anew; nothing refers to it.
CREATE TABLE peers_new (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    lease_id TEXT NOT NULL UNIQUE REFERENCES leases (id) ON DELETE CASCADE,
    public_key TEXT NOT NULL CHECK (length(public_key) = 44),
    endpoint TEXT NOT NULL CHECK (length(endpoint) BETWEEN 9 AND 21),
    tunnel_ip TEXT NOT NULL CHECK (length(tunnel_ip) < 22),
    vm_public_key TEXT NOT NULL CHECK (length(vm_public_key) IN (0, 44)),
    vm_tunnel_ip TEXT NOT NULL CHECK (length(vm_tunnel_ip) < 22),
    tunnel_state TEXT NOT NULL CHECK (tunnel_state IN ('waiting', 'handshaking', 'established', 'lost')),
    established_ms INTEGER NOT NULL CHECK (established_ms >= 0),
    last_handshake_ms INTEGER NOT NULL CHECK (last_handshake_ms >= 0)
) STRICT;

INSERT INTO peers_new SELECT number, lease_id, public_key, endpoint, tunnel_ip, vm_public_key, vm_tunnel_ip,
    tunnel_state, established_ms, last_handshake_ms FROM peers;
DROP TABLE peers;
ALTER TABLE peers_new RENAME TO peers;

CREATE INDEX peers_by_public_key ON peers (public_key, number);

CREATE TRIGGER peer_ended_is_final BEFORE UPDATE ON peers
WHEN EXISTS (SELECT 1 FROM leases WHERE id = OLD.lease_id AND state = 'terminated')
BEGIN
    SELECT RAISE(ABORT, 'the peer of a lease that has ended never changes');
END;
