/* One running NAT with its guest, its consumer and the reader of its reports, for the tests of the thread. */
#ifndef TESTS_NAT_LAB_H
#define TESTS_NAT_LAB_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "nat/nat.h"
#include "tests/nat/frames.h"

/** struct lab - Owner: the test, which calls lab_stop(). */
struct lab {
    struct nat *nat;
    enum nat_framing framing;
    int guest;
    int reports;
    int consumer;
    struct sockaddr_in guest_uplink; /* whence the consumer got its last datagram */
};

/** lab_start() - A NAT whose gate is shut. */
void lab_start(struct lab *lab, const struct nat_link *link);

/** lab_start_with() - The same with a framing and a time to look for work. */
void lab_start_with(struct lab *lab, const struct nat_link *link, enum nat_framing framing, uint32_t busy_poll_us);

/** lab_start_under() - A NAT whose gate is shut, confined by what the test has made. */
void lab_start_under(struct lab *lab, const struct nat_confinement *confinement);

/** lab_resume() - A NAT that takes another one's place, with the ports of its tunnel. */
void lab_resume(struct lab *lab, struct nat_ports ports);

/** lab_apply() - Apply a policy and wait until it is enforced. */
void lab_apply(const struct lab *lab, const struct nat_policy *policy);

/** lab_open_gate() - Apply the test's policy. */
void lab_open_gate(const struct lab *lab);

/** lab_open() - What most tests begin with: a NAT whose gate is open. */
struct lab lab_open(void);

/** lab_stop() - End it. */
void lab_stop(struct lab *lab);

/** lab_report() - The next report of this kind; others are passed over. */
struct nat_report lab_report(const struct lab *lab, enum nat_report_kind kind);

/** lab_guest_sends() - One frame into the NAT. */
void lab_guest_sends(const struct lab *lab, const struct frame *frame);

/** lab_guest_gets() - The next frame for the VM. Return: its length, negative when none comes. */
ssize_t lab_guest_gets(const struct lab *lab, uint8_t *bytes, size_t capacity);

/** lab_consumer_gets() - The next datagram at the consumer; notes the uplink's address. */
ssize_t lab_consumer_gets(struct lab *lab, uint8_t *bytes, size_t capacity);

/** lab_open_flow() - Send one frame out, so that there is a flow and its uplink's address is known. */
void lab_open_flow(struct lab *lab);

/** lab_consumer_sends() - One datagram back into the newest flow. */
void lab_consumer_sends(const struct lab *lab, const void *bytes, size_t length);

/** lab_silent() - Whether nothing arrives at a socket for a moment. */
bool lab_silent(int fd);

/** lab_await() - Wait until the NAT has counted so many frames for a reason. */
void lab_await(const struct lab *lab, enum nat_reason reason, uint64_t count);

/** lab_await_inbound() - Wait until the NAT has counted so many inbound packets. */
void lab_await_inbound(const struct lab *lab, enum nat_inbound what, uint64_t count);

/** lab_limit_guest() - How long lab_guest_gets() waits. */
void lab_limit_guest(const struct lab *lab, int limit_ms);

/** lab_is_asleep() - Whether this process, the NAT's thread in it, uses next to no processor for a moment. */
bool lab_is_asleep(void);

#endif
