/* A policy as a program for the kernel's socket filter (classic BPF): what it drops never reaches the NAT's thread. Pure.
 *
 * The program knows only conditions that a frame must meet to be forwarded or answered at all, so that it never drops what the
 * verdict would let pass; it lets much pass that the verdict then drops (lengths and checksums are none of its business).
 * The verdict stays the one decision: the program saves the cost of waking up for a flood of frames that cannot pass. */
#ifndef NAT_GATE_H
#define NAT_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nat/nat.h"

enum gate_limits {
    GATE_INSTRUCTIONS_MAX = 24 + 4 * (NAT_ALLOW_MAX + 1), /* jumps reach 255 */
    GATE_PASS = 0xffff, /* what a program that lets a frame pass returns: all of its bytes */
};

/** enum gate_code - The instructions used. Source: linux/filter.h, bpf(4) of the BSDs. */
enum gate_code {
    GATE_LOAD_WORD =
        0x20, /* of four bytes at a fixed place of the frame, big-endian; beyond its end the frame is dropped */
    GATE_LOAD_HALF = 0x28,
    GATE_LOAD_BYTE = 0x30,
    GATE_JUMP_EQUAL = 0x15,
    GATE_JUMP_BITS = 0x45,
    GATE_RETURN = 0x06,
};

/** struct gate_instruction - As the kernel's struct sock_filter. */
struct gate_instruction {
    uint16_t code;
    uint8_t jump_true;
    uint8_t jump_false;
    uint32_t value;
};

/** struct gate_program - Owner: the caller. */
struct gate_program {
    size_t count;
    struct gate_instruction code[GATE_INSTRUCTIONS_MAX];
};

/**
 * gate_is_possible() - Whether a policy can do with a gate
 * Return: false while the gate is shut (everything is dropped anyway), for `sampled` (it forwards what no list holds), and
 *         when a violation ends the VM (each must be seen)
 * Thread: any
 */
bool gate_is_possible(const struct nat_policy *policy);

/**
 * gate_generate() - The program of a policy
 * @link: without a guest's address the program does not look at the source's
 * Thread: any
 */
void gate_generate(const struct nat_policy *policy, const struct nat_link *link, struct gate_program *ret_program);

#endif
