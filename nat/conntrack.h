/* Destinations that a full check of the policy in force has allowed, so that `conntrack` need not look them up again. Only
 * the full check adds to the table, so what a hostile VM sends elsewhere takes no place in it. Pure: time is passed in. */
#ifndef NAT_CONNTRACK_H
#define NAT_CONNTRACK_H

#include <stdbool.h>
#include <stdint.h>

#include "nat/nat.h"

enum conntrack_limits {
    CONNTRACK_SETS = 16, /* a destination has its place in one set; */
    CONNTRACK_WAYS = 4,  /* together four times what an allowlist can hold */
    CONNTRACK_ENTRIES = CONNTRACK_SETS * CONNTRACK_WAYS,
    CONNTRACK_IDLE_MS = 300 * 1000, /* as a flow's: RFC 4787 section 4.3 */
};

/** struct conntrack_entry - One destination; free while @port is 0, which no allowed one has. The table owns it. */
struct conntrack_entry {
    struct nat_endpoint destination;
    uint64_t used_ms;
};

/**
 * struct conntrack - Owner: the NAT thread of the VM. All zeros is an empty table
 * @generation: of the policy that allowed the entries; under any other one they are worth nothing
 */
struct conntrack {
    uint64_t generation;
    struct conntrack_entry entries[CONNTRACK_ENTRIES]; /* one set after the other */
};

/*@ predicate conntrack_past(struct conntrack *table, integer now_ms) =
      \forall integer i; 0 <= i < CONNTRACK_ENTRIES ==> table->entries[i].used_ms <= now_ms;

    predicate entry_is(struct conntrack *table, integer i, struct nat_endpoint endpoint) =
      table->entries[i].destination.ip == endpoint.ip && table->entries[i].destination.port == endpoint.port;

    predicate kept{Old, New}(struct conntrack *table, integer i, integer generation) =
      \at(table->generation, Old) == generation &&
      \at(table->entries[i].destination.ip, New) == \at(table->entries[i].destination.ip, Old) &&
      \at(table->entries[i].destination.port, New) == \at(table->entries[i].destination.port, Old); */

/**
 * conntrack_hit() - Whether a full check of this generation has allowed the destination not long ago
 * @now_ms: monotonic time; notes the use
 * Return:  false under another generation, which empties the table, and after CONNTRACK_IDLE_MS without use
 * Thread:  the table's owner
 */
/*@ requires \valid(table) && conntrack_past(table, now_ms);
    assigns *table;
    ensures generation: table->generation == generation && conntrack_past(table, now_ms);
    ensures nothing_new: \forall integer i; 0 <= i < CONNTRACK_ENTRIES ==>
            table->entries[i].destination.port == 0 || kept{Pre, Post}(table, i, generation);
    ensures hit: \result != 0 ==> destination.port != 0 &&
            \exists integer i; 0 <= i < CONNTRACK_ENTRIES && entry_is(table, i, destination); */
bool conntrack_hit(struct conntrack *table, uint64_t generation, struct nat_endpoint destination, uint64_t now_ms);

/**
 * conntrack_add() - Note that a full check of this generation has allowed the destination
 *
 * A full set gives up its entry that was idle longest: that one is checked in full again.
 *
 * Thread: the table's owner
 */
/*@ requires \valid(table) && conntrack_past(table, now_ms);
    assigns *table;
    ensures generation: table->generation == generation && conntrack_past(table, now_ms);
    ensures nothing_else: \forall integer i; 0 <= i < CONNTRACK_ENTRIES ==>
            table->entries[i].destination.port == 0 || entry_is(table, i, destination) ||
            kept{Pre, Post}(table, i, generation); */
void conntrack_add(struct conntrack *table, uint64_t generation, struct nat_endpoint destination, uint64_t now_ms);

#endif
