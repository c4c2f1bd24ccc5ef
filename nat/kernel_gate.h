/* The gate in the kernel: a filter on the NAT's own end of a datagram attachment, which drops in the sender's system call.
 *
 * It is open as a rule, so that every violation is seen, counted and reported. A flood of frames that are dropped closes it; what
 * it then drops nobody sees, so it opens again after a second, and the first frames of a flood that goes on are seen again:
 * some hundred a second, in whatever kinds they come. A new policy's program takes the place of the old one's in one step.
 * There is none for a stream, for a system without such filters, or for a policy that gate_is_possible() denies. */
#ifndef NAT_KERNEL_GATE_H
#define NAT_KERNEL_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "nat/nat.h"

enum kernel_gate_limits {
    KERNEL_GATE_FLOOD_FRAMES = 256, /* dropped within */
    KERNEL_GATE_FLOOD_MS = 100,     /* so long close it, for */
    KERNEL_GATE_CLOSED_MS = 1000,
};

/** struct kernel_gate - Owner: the NAT thread. */
struct kernel_gate {
    bool supported;
    bool possible; /* with the policy in force */
    bool closed;
    uint32_t dropped; /* since @since_ms */
    uint64_t since_ms;
    uint64_t opens_ms; /* UINT64_MAX while it is open */
};

/** kernel_gate_init() - An open one. Thread: any, before the NAT thread starts */
void kernel_gate_init(struct kernel_gate *gate, enum nat_framing framing);

/**
 * kernel_gate_apply() - Follow a new policy; a closed gate stays closed with the new program, or opens
 * @fd: the attachment
 * Thread: the owner
 * Source: socket(7), SO_ATTACH_FILTER
 */
void kernel_gate_apply(struct kernel_gate *gate, int fd, const struct nat_policy *policy, const struct nat_link *link);

/** kernel_gate_note() - Count dropped frames; a flood closes the gate. Return: whether it did. Thread: the owner */
bool kernel_gate_note(struct kernel_gate *gate, int fd, const struct nat_policy *policy, const struct nat_link *link,
                      uint32_t dropped, uint64_t now_ms);

/** kernel_gate_expire() - Open it again when it is time. Return: whether it did. Thread: the owner */
bool kernel_gate_expire(struct kernel_gate *gate, int fd, uint64_t now_ms);

/** kernel_gate_state() - For the counters. Thread: the owner */
enum nat_kernel_filter kernel_gate_state(const struct kernel_gate *gate);

#endif
