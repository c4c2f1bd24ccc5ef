-- The trace of the request that made a lease (W3C Trace Context), which its events are told with.

ALTER TABLE leases ADD COLUMN trace_id TEXT NOT NULL DEFAULT '' CHECK (length(trace_id) IN (0, 32));
