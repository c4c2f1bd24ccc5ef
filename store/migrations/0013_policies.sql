-- Policies that change while a lease runs. What is in force stands in `leases` and `peers`; what has been asked and is not
-- enforced yet stands here, at most one of a lease, and is gone once it is enforced or has failed.

-- Endpoints with a space between them; '' is the peer's endpoint alone.
ALTER TABLE leases ADD COLUMN allowlist TEXT NOT NULL DEFAULT '' CHECK (length(allowlist) < 384);
-- The consumer as the VM was told of it; '' is the peer's endpoint, which has not changed since.
ALTER TABLE leases ADD COLUMN vm_endpoint TEXT NOT NULL DEFAULT '' CHECK (length(vm_endpoint) < 22);

CREATE TABLE policies (
    lease_id TEXT PRIMARY KEY NOT NULL REFERENCES leases (id) ON DELETE CASCADE,
    generation INTEGER NOT NULL CHECK (generation > 1),
    mode TEXT NOT NULL CHECK (mode IN ('filtered', 'conntrack', 'sampled')),
    sampling_ppm INTEGER NOT NULL CHECK (sampling_ppm BETWEEN 0 AND 1000000),
    on_violation TEXT NOT NULL CHECK (on_violation IN ('drop', 'terminate')),
    require_wireguard INTEGER NOT NULL CHECK (require_wireguard IN (0, 1)),
    egress_bits_per_s INTEGER NOT NULL CHECK (egress_bits_per_s >= 0),
    ingress_bits_per_s INTEGER NOT NULL CHECK (ingress_bits_per_s >= 0),
    egress_packets_per_s INTEGER NOT NULL CHECK (egress_packets_per_s >= 0),
    ingress_packets_per_s INTEGER NOT NULL CHECK (ingress_packets_per_s >= 0),
    allowlist TEXT NOT NULL CHECK (length(allowlist) BETWEEN 9 AND 383),
    endpoint TEXT NOT NULL CHECK (length(endpoint) BETWEEN 9 AND 21)
) STRICT;
