-- Whether new leases are refused, so that the machine can be taken out of service. Survives a restart.

CREATE TABLE drain (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    generation INTEGER NOT NULL CHECK (generation >= 1),
    draining INTEGER NOT NULL CHECK (draining IN (0, 1)),
    changed_ms INTEGER NOT NULL CHECK (changed_ms >= 0)
) STRICT;

INSERT INTO drain (one, generation, draining, changed_ms) VALUES (1, 1, 0, 0);
