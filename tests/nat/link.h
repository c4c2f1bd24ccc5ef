/* A network of the test's own: a fresh network namespace whose loopback device holds 198.51.100.0/24, so that real UDP
 * sockets can play the consumer at an address that a policy may hold. Nothing leaves the process. */
#ifndef TESTS_NAT_LINK_H
#define TESTS_NAT_LINK_H

#include <stdint.h>

#include "nat/nat.h"

/** link_enter() - Move this process into its own network. Call first in main(). Return: 0 or negative errno. */
int link_enter(void);

/** link_udp_socket() - A UDP socket bound to this endpoint, receiving within ten seconds or failing. */
int link_udp_socket(struct nat_endpoint endpoint);

#endif
