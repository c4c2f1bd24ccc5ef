-- Labels by key and value, so that a list can be filtered by them; what a lease is answered with stays in leases.labels.

CREATE TABLE lease_labels (
    key TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 127),
    value TEXT NOT NULL CHECK (length(value) < 64),
    number INTEGER NOT NULL REFERENCES leases (number) ON DELETE CASCADE,
    PRIMARY KEY (key, value, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX lease_labels_by_lease ON lease_labels (number);

INSERT INTO lease_labels SELECT json_each.key, json_each.value, number FROM leases, json_each(leases.labels);
