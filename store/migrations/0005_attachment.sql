-- Leases whose VM somebody else runs: a NAT that listens at a socket, without image, seed volume and hypervisor. Such a row
-- has '-' as its image, which is no image's name, because the first schema's CHECK wants one and SQLite cannot change it.

ALTER TABLE leases ADD COLUMN attachment TEXT NOT NULL DEFAULT 'qemu' CHECK (
    attachment = 'qemu' OR (attachment = 'external' AND image = '-' AND mode <> 'direct'));
ALTER TABLE leases ADD COLUMN socket_path TEXT NOT NULL DEFAULT '' CHECK (
    length(socket_path) < 128 AND (attachment = 'external') = (length(socket_path) > 0));
