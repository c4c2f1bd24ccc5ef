/* The listening sockets: a unix socket that only our user can reach, and a TCP port on loopback. */
#ifndef API_HTTP_LISTEN_H
#define API_HTTP_LISTEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum listen_limits {
    LISTEN_TCP_BACKLOG = 4096, /* past it the kernel drops a client's SYN, and the client waits a second */
    LISTEN_UNIX_BACKLOG = 128, /* past it a client waits for its turn */
    LISTEN_HOST_BYTES = 20,    /* "255.255.255.255" or "[::1]" */
    LISTEN_TEXT_BYTES = 28,    /* with :65535 */
    LISTEN_PATH_BYTES = 108,   /* sun_path of Linux; macOS has 104 and says so itself */
};

/** struct listen_address - A loopback address and port; port 0 lets the kernel choose. */
struct listen_address {
    bool ipv6; /* ::1 */
    uint32_t ip;
    uint16_t port;
};

/**
 * listen_parse() - "127.0.0.1:8470" or "[::1]:8470"
 * Return: 0; -EINVAL for other text or for an address that is not loopback (err says which)
 * Thread: any
 */
int listen_parse(const char *text, struct listen_address *ret_address, struct error *err);

/** listen_host() - The address as it stands in a URL. Return: @ret_text. Thread: any */
const char *listen_host(const struct listen_address *address, char ret_text[static LISTEN_HOST_BYTES]);

/**
 * listen_tcp() - Open the port
 * @address: its port is replaced by the one the kernel chose when it was 0
 * Return:   a descriptor owned by the caller; or negative, as the system said
 * Thread:   any
 */
int listen_tcp(struct listen_address *address, struct error *err);

/**
 * listen_unix() - Open the socket with mode 0600
 * @path:  in a folder of mode 0700 that only one daemon uses; a socket that is there is a dead one and is removed
 * Return: a descriptor owned by the caller; or negative, as the system said
 * Thread: any
 */
int listen_unix(const char *path, struct error *err);

/** listen_peer_uid() - Who is at a unix socket's other end. Return: its uid, UINT32_MAX when it cannot be told. Thread: any */
uint32_t listen_peer_uid(int fd);

#endif
