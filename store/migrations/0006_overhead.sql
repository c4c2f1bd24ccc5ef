-- What a lease takes beyond what its guest has: the hypervisor's own memory, and the overlay of the image's disk.
ALTER TABLE leases ADD COLUMN overhead_memory_mib INTEGER NOT NULL DEFAULT 0 CHECK (overhead_memory_mib >= 0);
ALTER TABLE leases ADD COLUMN overhead_disk_mib INTEGER NOT NULL DEFAULT 0 CHECK (overhead_disk_mib >= 0);
