#include "nat/kernel_gate.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "nat/gate.h"

#if defined(SO_ATTACH_FILTER) && !defined(OMERTAD_PORTABLE)
#include <linux/filter.h>

_Static_assert(sizeof(struct gate_instruction) == sizeof(struct sock_filter), "handed over as it is");

enum { HAS_FILTERS = 1 };

static int attach(int fd, const struct gate_program *program)
{
    struct sock_filter code[GATE_INSTRUCTIONS_MAX];
    memcpy(code, program->code, program->count * sizeof *code);
    const struct sock_fprog filter = {.len = (unsigned short)program->count, .filter = code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) < 0 ? -errno : 0;
}

static void detach(int fd)
{
    const int unused = 0;
    /* It can only fail where none is attached. */
    (void)setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused);
}

#else

enum { HAS_FILTERS = 0 };

static int attach(int fd, const struct gate_program *program)
{
    (void)fd;
    (void)program;
    return -ENOTSUP;
}

static void detach(int fd)
{
    (void)fd;
}

#endif

void kernel_gate_init(struct kernel_gate *gate, enum nat_framing framing)
{
    *gate = (struct kernel_gate){.supported = HAS_FILTERS && framing == NAT_FRAMING_DATAGRAM, .opens_ms = UINT64_MAX};
}

static void open_gate(struct kernel_gate *gate, int fd)
{
    detach(fd);
    gate->closed = false;
    gate->dropped = 0;
    gate->opens_ms = UINT64_MAX;
}

/* Return: whether it is closed now. A system that refuses once is not asked again. */
static bool close_gate(struct kernel_gate *gate, int fd, const struct nat_policy *policy, const struct nat_link *link)
{
    struct gate_program program;
    gate_generate(policy, link, &program);
    gate->supported = attach(fd, &program) == 0;
    gate->closed = gate->supported;
    return gate->closed;
}

void kernel_gate_apply(struct kernel_gate *gate, int fd, const struct nat_policy *policy, const struct nat_link *link)
{
    gate->possible = gate_is_possible(policy);
    if (gate->closed && (!gate->possible || !close_gate(gate, fd, policy, link)))
        open_gate(gate, fd);
}

bool kernel_gate_note(struct kernel_gate *gate, int fd, const struct nat_policy *policy, const struct nat_link *link,
                      uint32_t dropped, uint64_t now_ms)
{
    if (!gate->supported || !gate->possible || gate->closed)
        return false; /* closed, these were queued before it */
    if (now_ms - gate->since_ms >= KERNEL_GATE_FLOOD_MS) {
        gate->since_ms = now_ms;
        gate->dropped = 0;
    }
    gate->dropped += dropped;
    if (gate->dropped < KERNEL_GATE_FLOOD_FRAMES || !close_gate(gate, fd, policy, link))
        return false;
    gate->opens_ms = now_ms + KERNEL_GATE_CLOSED_MS;
    return true;
}

bool kernel_gate_expire(struct kernel_gate *gate, int fd, uint64_t now_ms)
{
    if (!gate->closed || now_ms < gate->opens_ms)
        return false;
    open_gate(gate, fd);
    return true;
}

enum nat_kernel_filter kernel_gate_state(const struct kernel_gate *gate)
{
    if (!gate->supported)
        return NAT_KERNEL_FILTER_UNSUPPORTED;
    return gate->closed ? NAT_KERNEL_FILTER_ACTIVE : NAT_KERNEL_FILTER_INACTIVE;
}
