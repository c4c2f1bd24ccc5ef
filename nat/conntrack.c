#include "nat/conntrack.h"

#include <stddef.h>

/*@ requires \valid(table);
    assigns table->generation, table->entries[0 .. CONNTRACK_ENTRIES - 1].destination.port;
    ensures table->generation == generation;
    ensures \forall integer i; 0 <= i < CONNTRACK_ENTRIES ==> table->entries[i].used_ms == \old(table->entries[i].used_ms);
    ensures \forall integer i; 0 <= i < CONNTRACK_ENTRIES ==>
            table->entries[i].destination.port == 0 || kept{Pre, Post}(table, i, generation); */
static void adopt_generation(struct conntrack *table, uint64_t generation)
{
    if (table->generation == generation)
        return;
    /*@ loop invariant 0 <= i <= CONNTRACK_ENTRIES;
        loop invariant \forall integer k; 0 <= k < i ==> table->entries[k].destination.port == 0;
        loop assigns i, table->entries[0 .. CONNTRACK_ENTRIES - 1].destination.port;
        loop variant CONNTRACK_ENTRIES - i; */
    for (size_t i = 0; i < CONNTRACK_ENTRIES; i++)
        table->entries[i].destination.port = 0;
    table->generation = generation;
}

/* First entry of the destination's set. Any spread will do: the allowlist chooses what comes in, not the guest. */
/*@ assigns \nothing;
    ensures \result <= CONNTRACK_ENTRIES - CONNTRACK_WAYS; */
static size_t set_of(struct nat_endpoint destination)
{
    const uint64_t span = UINT64_C(1) << 32;
    uint64_t mixed = (destination.ip + destination.port * UINT64_C(40503)) % span;
    return mixed * 2654435769u % span / (span / CONNTRACK_SETS) * CONNTRACK_WAYS;
}

/* Index of the destination's entry, or CONNTRACK_ENTRIES. */
/*@ requires \valid_read(table) && first <= CONNTRACK_ENTRIES - CONNTRACK_WAYS;
    assigns \nothing;
    ensures \result == CONNTRACK_ENTRIES || (\result < CONNTRACK_ENTRIES && entry_is(table, \result, destination)); */
static size_t find(const struct conntrack *table, size_t first, struct nat_endpoint destination)
{
    /*@ loop invariant first <= i <= first + CONNTRACK_WAYS;
        loop assigns i;
        loop variant first + CONNTRACK_WAYS - i; */
    for (size_t i = first; i < first + CONNTRACK_WAYS; i++) {
        if (table->entries[i].destination.port == destination.port &&
            table->entries[i].destination.ip == destination.ip)
            return i;
    }
    return CONNTRACK_ENTRIES;
}

/* A free entry of the set, or the one that was idle longest. */
/*@ requires \valid_read(table) && first <= CONNTRACK_ENTRIES - CONNTRACK_WAYS;
    assigns \nothing;
    ensures \result < CONNTRACK_ENTRIES; */
static size_t place_in(const struct conntrack *table, size_t first)
{
    size_t oldest = first;
    /*@ loop invariant first <= i <= first + CONNTRACK_WAYS && oldest < CONNTRACK_ENTRIES;
        loop assigns i, oldest;
        loop variant first + CONNTRACK_WAYS - i; */
    for (size_t i = first; i < first + CONNTRACK_WAYS; i++) {
        if (table->entries[i].destination.port == 0)
            return i;
        if (table->entries[i].used_ms < table->entries[oldest].used_ms)
            oldest = i;
    }
    return oldest;
}

bool conntrack_hit(struct conntrack *table, uint64_t generation, struct nat_endpoint destination, uint64_t now_ms)
{
    adopt_generation(table, generation);
    size_t i = find(table, set_of(destination), destination);
    if (i == CONNTRACK_ENTRIES || destination.port == 0)
        return false;
    if (now_ms - table->entries[i].used_ms >= CONNTRACK_IDLE_MS) {
        table->entries[i].destination.port = 0;
        return false;
    }
    table->entries[i].used_ms = now_ms;
    return true;
}

void conntrack_add(struct conntrack *table, uint64_t generation, struct nat_endpoint destination, uint64_t now_ms)
{
    adopt_generation(table, generation);
    size_t first = set_of(destination);
    size_t i = find(table, first, destination);
    if (i == CONNTRACK_ENTRIES)
        i = place_in(table, first);
    table->entries[i].destination.ip = destination.ip;
    table->entries[i].destination.port = destination.port;
    table->entries[i].used_ms = now_ms;
}
