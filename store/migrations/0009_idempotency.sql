-- What requests with an Idempotency-Key were answered with, kept for a day. Of the request only a keyed hash is here.

CREATE TABLE idempotency_keys (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 255),
    request_hash BLOB NOT NULL CHECK (length(request_hash) = 32),
    lease_id TEXT NOT NULL CHECK (length(lease_id) = 36), -- no foreign key: the answer stays when its lease's row is pruned
    answer TEXT NOT NULL CHECK (length(answer) < 16384),
    created_ms INTEGER NOT NULL CHECK (created_ms >= 0)
) STRICT;

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_ms);
