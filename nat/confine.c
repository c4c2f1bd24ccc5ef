/* How a NAT thread is confined, and what happens when it breaks out.
 *
 * It reads what a hostile guest and any stranger at the consumer's address send, so it is the thread to distrust. Before it
 * takes its first frame it has three descriptors in a table of its own (attachment, reports, wake-up; sockets of flows join
 * them), and the system calls of the table below. It cannot reach the store, another VM's sockets or a file: it has no
 * descriptor of them and no call to get one. Where the kernel has Landlock no path is left to it either, nor TCP.
 *
 * Any other call kills the thread, and only it (SECCOMP_RET_KILL_THREAD): not one instruction of it runs any more, no
 * handler of ours that it could have prepared something for. That this is safe for the rest of the process rests on three
 * things:
 * - it holds no lock that others wait for, because it takes none: it neither allocates nor frees (what it is done with goes
 *   back to its owner, nat.c), logs nothing, and uses no function of the C library that locks;
 * - it fails closed: a frame gets out only by this thread's own calls, and its sockets are in its own table of descriptors,
 *   which the kernel closes with the thread. QEMU's end of the attachment has nobody to send to;
 * - it is noticed: the end of the report socket is what the supervisor reads as "the filter's thread is gone", and it ends
 *   the lease with filter_failure. Other VMs have other threads. The kernel clears the thread's id as it does for one that
 *   returns, so nat_stop() joins it as ever.
 *
 * What this does not do: threads share memory. Who runs code of his own in this thread can write to another one's stack and
 * have that make the call. It takes away the direct way, and nearly all that exploits are made of. */
#include "nat/confine.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/socket.h>

#define ARRAY_COUNT(array) (sizeof(array) / sizeof(array)[0])

enum confine_way {
    WAY_STREAM = 1,
    WAY_LISTEN = 2, /* the attachment's peer is not known yet */
    WAYS_COUNT = 4,
};

struct nat_confinement {
    struct confine_program programs[WAYS_COUNT]; /* by the sum of the attachment's ways */
};

#ifdef OMERTAD_CONFINED

#include <asm/socket.h>
#include <sys/syscall.h>

#define IS(at, what)                                                                                                   \
    {                                                                                                                  \
        .index = (at), .mask = UINT32_MAX, .value = (uint64_t)(what)                                                   \
    }
#define NOTHING(at)                                                                                                    \
    {                                                                                                                  \
        .index = (at), .mask = UINT64_MAX, .value = 0                                                                  \
    }

static const struct confine_rule table[] = {
/* A frame's way. */
#ifdef SYS_poll
    {.call = "poll", .reason = "waits for frames, datagrams, room, commands"},
#else
    {.call = "ppoll", .reason = "waits for frames, datagrams, room, commands"},
#endif
    {.call = "recvmmsg", .reason = "takes batches of frames and datagrams, and wake-ups"},
    {.call = "sendmmsg", .reason = "hands on batches of both, and reports"},
    {.call = "sendmsg", .reason = "hands on frames of a stream", .ways = WAY_STREAM},
    {.call = "recvfrom",
     .reason = "reads a stream; sorts out an attachment's first datagrams",
     .ways = WAY_STREAM | WAY_LISTEN},
    {.call = "sendto",
     .reason = "the rest of a stream's frame: to the socket's peer alone",
     .ways = WAY_STREAM,
     .arguments = {NOTHING(4)}},

    /* A flow's life. */
    {.call = "socket",
     .reason = "a flow's: UDP over IPv4 and no other",
     .arguments = {IS(0, AF_INET), {.index = 1, .mask = 0xf, .value = SOCK_DGRAM}}},
    {.call = "setsockopt", .reason = "size of a flow's queue", .arguments = {IS(1, SOL_SOCKET), IS(2, SO_RCVBUF)}},
    {.call = "setsockopt",
     .reason = "a forged ICMP must not change how the tunnel is sent",
     .arguments = {IS(1, IPPROTO_IP), IS(2, IP_MTU_DISCOVER)}},
    {.call = "setsockopt", .reason = "joined datagrams", .arguments = {IS(1, IPPROTO_UDP), IS(2, UDP_GRO)}},
    {.call = "setsockopt",
     .reason = "the kernel drops a flood of forbidden frames",
     .arguments = {IS(1, SOL_SOCKET), IS(2, SO_ATTACH_FILTER)}},
    {.call = "setsockopt", .reason = "and no longer", .arguments = {IS(1, SOL_SOCKET), IS(2, SO_DETACH_FILTER)}},
    {.call = "connect", .reason = "binds a flow to its consumer, an attachment to its first sender"},
    {.call = "getsockname", .reason = "the port that a flow keeps when its consumer has moved"},
    {.call = "bind", .reason = "takes that port again"},
    {.call = "close", .reason = "a flow's end"},

    /* The peer of an attachment at a path. */
    {.call = "getpeername", .reason = "whether a datagram is the peer's", .ways = WAY_LISTEN},
    {.call = "accept4", .reason = "a stream's peer", .ways = WAY_LISTEN},

    /* What lies beneath: the kernel and the C library. */
    {.call = "restart_syscall", .reason = "the kernel goes on with a poll after the process was stopped"},
    {.call = "clock_gettime", .reason = "the time, on machines whose clock is not readable without the kernel"},
    {.call = "exit", .reason = "the thread's own end (confine_end_thread())"},
};

const struct confine_rule *nat_confine_table(size_t *ret_count)
{
    *ret_count = ARRAY_COUNT(table);
    return table;
}

#else

const struct confine_rule *nat_confine_table(size_t *ret_count)
{
    *ret_count = 0;
    return NULL;
}

#endif

int nat_confinement_make(struct nat_confinement **ret_confinement, struct error *err)
{
    size_t count;
    const struct confine_rule *rules = nat_confine_table(&count);
    struct nat_confinement *confinement = calloc(1, sizeof *confinement);
    if (confinement == NULL)
        return error_set(err, -ENOMEM, "no memory for the tables of system calls");
    int rc = 0;
    for (unsigned ways = 0; rc == 0 && ways < WAYS_COUNT; ways++)
        rc = confine_allow(rules, count, ways, CONFINE_KILL_THREAD, &confinement->programs[ways], err);
    if (rc < 0) {
        nat_confinement_free(confinement);
        return rc;
    }
    *ret_confinement = confinement;
    return 0;
}

void nat_confinement_free(struct nat_confinement *confinement)
{
    free(confinement);
}

const struct confine_program *nat_confinement_program(const struct nat_confinement *confinement,
                                                      const struct nat_config *config)
{
    const unsigned ways =
        (config->framing == NAT_FRAMING_STREAM ? WAY_STREAM : 0U) | (config->peer_known ? 0U : WAY_LISTEN);
    return &confinement->programs[ways];
}

size_t nat_confined_calls(void)
{
    size_t count;
    const struct confine_rule *rules = nat_confine_table(&count);
    return confine_count(rules, count);
}
