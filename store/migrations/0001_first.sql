-- The first schema: leases and what belongs to them, and the events that tell of each change.
-- `number` and `sequence` are the order of making. The ids sort by the wall clock, which may step back.
-- JSON is judged by the statements that insert it: before 3.41 SQLite refuses json_valid() in a schema that is not
-- trusted (PRAGMA trusted_schema = OFF).

PRAGMA application_id = 1869443700; -- "omrt"

CREATE TABLE leases (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE CHECK (length(id) = 36),
    generation INTEGER NOT NULL DEFAULT 1 CHECK (generation >= 1),
    state TEXT NOT NULL CHECK (
        state IN ('pending', 'preparing', 'starting', 'running', 'stopping', 'terminated', 'recovering')),
    state_detail TEXT NOT NULL CHECK (length(state_detail) < 320),
    image TEXT NOT NULL CHECK (length(image) BETWEEN 1 AND 64),
    image_digest TEXT NOT NULL CHECK (length(image_digest) IN (0, 64)),
    vcpus INTEGER NOT NULL CHECK (vcpus BETWEEN 1 AND 4096),
    memory_mib INTEGER NOT NULL CHECK (memory_mib BETWEEN 1 AND 1073741824),
    disk_mib INTEGER NOT NULL CHECK (disk_mib BETWEEN 0 AND 1099511627776),
    mode TEXT NOT NULL CHECK (mode IN ('filtered', 'conntrack', 'sampled', 'direct')),
    guest_mac TEXT NOT NULL CHECK (length(guest_mac) IN (0, 17)),
    guest_ip TEXT NOT NULL CHECK (length(guest_ip) < 22),
    ssh_user TEXT NOT NULL CHECK (length(ssh_user) < 33),
    labels TEXT NOT NULL CHECK (length(labels) < 4096 AND labels GLOB '{*}'),
    accelerator TEXT NOT NULL CHECK (length(accelerator) < 32),
    ttl_s INTEGER NOT NULL CHECK (ttl_s >= 0),
    created_ms INTEGER NOT NULL CHECK (created_ms >= 0),
    started_ms INTEGER NOT NULL CHECK (started_ms >= 0),
    expires_ms INTEGER NOT NULL CHECK (expires_ms >= 0),
    policy_desired INTEGER NOT NULL CHECK (policy_desired >= 0),
    policy_observed INTEGER NOT NULL CHECK (policy_observed >= 0),
    pid INTEGER NOT NULL CHECK (pid >= 0),
    pid_start_ticks INTEGER NOT NULL CHECK (pid_start_ticks >= 0),
    boot_id TEXT NOT NULL CHECK (length(boot_id) IN (0, 36))
) STRICT;

CREATE INDEX leases_by_state ON leases (state, number);
-- Holds all that the sum of taken capacity reads (state too, or SQLite goes to the row for it).
CREATE INDEX leases_live ON leases (state, vcpus, memory_mib, disk_mib) WHERE state <> 'terminated';

CREATE TABLE peers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    lease_id TEXT NOT NULL UNIQUE REFERENCES leases (id) ON DELETE CASCADE,
    public_key TEXT NOT NULL CHECK (length(public_key) = 44),
    endpoint TEXT NOT NULL CHECK (length(endpoint) BETWEEN 9 AND 21),
    tunnel_ip TEXT NOT NULL CHECK (length(tunnel_ip) < 22),
    vm_public_key TEXT NOT NULL CHECK (length(vm_public_key) IN (0, 44)),
    vm_tunnel_ip TEXT NOT NULL CHECK (length(vm_tunnel_ip) < 22),
    tunnel_state TEXT NOT NULL CHECK (tunnel_state IN ('waiting', 'handshaking', 'established')),
    established_ms INTEGER NOT NULL CHECK (established_ms >= 0),
    last_handshake_ms INTEGER NOT NULL CHECK (last_handshake_ms >= 0)
) STRICT;

CREATE INDEX peers_by_public_key ON peers (public_key, number);

CREATE TABLE terminations (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    lease_id TEXT NOT NULL UNIQUE REFERENCES leases (id) ON DELETE CASCADE,
    reason TEXT NOT NULL CHECK (
        reason IN ('released', 'lease_expired', 'heartbeat_lost', 'policy_violation', 'tunnel_timeout', 'tunnel_lost',
                   'guest_shutdown', 'guest_crash', 'vmm_crash', 'filter_failure', 'start_failed', 'start_timeout',
                   'image_rejected', 'provider_shutdown', 'recovery_failed')),
    initiated_by TEXT NOT NULL CHECK (initiated_by IN ('orchestrator', 'provider', 'guest', 'filter')),
    detail TEXT NOT NULL CHECK (length(detail) < 320),
    -- Not a foreign key: a violation that could not be written must not keep its lease from ending.
    violation_id TEXT CHECK (length(violation_id) = 36),
    exit_code INTEGER NOT NULL CHECK (exit_code >= -1),
    signal INTEGER NOT NULL CHECK (signal >= 0),
    detected_ms INTEGER NOT NULL CHECK (detected_ms >= 0),
    stopped_ms INTEGER NOT NULL CHECK (stopped_ms >= 0)
) STRICT;

CREATE TABLE consoles (
    lease_id TEXT PRIMARY KEY NOT NULL REFERENCES leases (id) ON DELETE CASCADE,
    tail BLOB NOT NULL CHECK (length(tail) <= 65536)
) STRICT;

CREATE TABLE violations (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE CHECK (length(id) = 36),
    lease_id TEXT NOT NULL REFERENCES leases (id) ON DELETE CASCADE,
    serial INTEGER NOT NULL CHECK (serial BETWEEN 0 AND 4294967295),
    first_seen_ms INTEGER NOT NULL CHECK (first_seen_ms >= 0),
    last_seen_ms INTEGER NOT NULL CHECK (last_seen_ms >= 0),
    count INTEGER NOT NULL CHECK (count >= 1),
    code TEXT NOT NULL CHECK (
        code IN ('destination_not_allowed', 'port_not_allowed', 'protocol_not_allowed', 'source_mac_spoofed',
                 'source_ip_spoofed', 'arp_spoofed', 'fragment', 'ip_options', 'ipv6', 'vlan', 'malformed',
                 'not_wireguard', 'rate_exceeded')),
    mode TEXT NOT NULL CHECK (mode IN ('filtered', 'conntrack', 'sampled', 'direct')),
    verdict TEXT NOT NULL CHECK (verdict IN ('dropped', 'terminated')),
    source TEXT NOT NULL CHECK (source IN ('filter', 'guest_firewall')),
    overflow INTEGER NOT NULL CHECK (overflow IN (0, 1)),
    ethertype INTEGER NOT NULL CHECK (ethertype BETWEEN 0 AND 65535),
    ip_protocol INTEGER NOT NULL CHECK (ip_protocol BETWEEN 0 AND 255),
    source_mac TEXT NOT NULL CHECK (length(source_mac) IN (0, 17)),
    source_ip TEXT NOT NULL CHECK (length(source_ip) < 22),
    source_port INTEGER NOT NULL CHECK (source_port BETWEEN 0 AND 65535),
    destination_ip TEXT NOT NULL CHECK (length(destination_ip) < 22),
    destination_port INTEGER NOT NULL CHECK (destination_port BETWEEN 0 AND 65535),
    frame_bytes INTEGER NOT NULL CHECK (frame_bytes BETWEEN 0 AND 4294967295),
    policy_generation INTEGER NOT NULL CHECK (policy_generation >= 0),
    detection_latency_us INTEGER NOT NULL CHECK (detection_latency_us BETWEEN 0 AND 4294967295),
    evidence BLOB NOT NULL CHECK (length(evidence) <= 96),
    UNIQUE (lease_id, serial)
) STRICT;

CREATE INDEX violations_by_lease ON violations (lease_id, number);

-- Events outlive their leases, so lease_id is no foreign key. The types are the API's list, which grows: their shape
-- is checked here, not their number.
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL CHECK (at_ms >= 0),
    type TEXT NOT NULL CHECK (length(type) < 32 AND type GLOB '[a-z]*.[a-z]*' AND type NOT GLOB '*[^a-z_.]*'),
    lease_id TEXT CHECK (length(lease_id) = 36),
    data TEXT NOT NULL CHECK (length(data) < 16384 AND data GLOB '{*}')
) STRICT;

CREATE INDEX events_by_lease ON events (lease_id, sequence) WHERE lease_id IS NOT NULL;

-- What no statement may do, whoever wrote it.

CREATE TRIGGER lease_begins_pending BEFORE INSERT ON leases WHEN NEW.state <> 'pending'
BEGIN
    SELECT RAISE(ABORT, 'a lease begins as pending');
END;

CREATE TRIGGER lease_generation_rises BEFORE UPDATE ON leases WHEN NEW.generation <> OLD.generation + 1
BEGIN
    SELECT RAISE(ABORT, 'each change of a lease raises its generation by one');
END;

CREATE TRIGGER lease_ends_with_cause BEFORE UPDATE OF state ON leases
WHEN NEW.state = 'terminated' AND NOT EXISTS (SELECT 1 FROM terminations WHERE lease_id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'a lease ends together with its termination');
END;

CREATE TRIGGER lease_ended_is_final BEFORE UPDATE ON leases WHEN OLD.state = 'terminated'
BEGIN
    SELECT RAISE(ABORT, 'a lease that has ended never changes');
END;

CREATE TRIGGER lease_living_stays BEFORE DELETE ON leases WHEN OLD.state <> 'terminated'
BEGIN
    SELECT RAISE(ABORT, 'a lease that has not ended is never deleted');
END;

CREATE TRIGGER peer_ended_is_final BEFORE UPDATE ON peers
WHEN EXISTS (SELECT 1 FROM leases WHERE id = OLD.lease_id AND state = 'terminated')
BEGIN
    SELECT RAISE(ABORT, 'the peer of a lease that has ended never changes');
END;

CREATE TRIGGER termination_is_final BEFORE UPDATE ON terminations
BEGIN
    SELECT RAISE(ABORT, 'a termination never changes');
END;

CREATE TRIGGER termination_stays BEFORE DELETE ON terminations
WHEN EXISTS (SELECT 1 FROM leases WHERE id = OLD.lease_id)
BEGIN
    SELECT RAISE(ABORT, 'a termination goes only with its lease');
END;

CREATE TRIGGER console_is_final BEFORE UPDATE ON consoles
BEGIN
    SELECT RAISE(ABORT, 'the console tail of a lease that has ended never changes');
END;

CREATE TRIGGER event_is_final BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'an event never changes');
END;
