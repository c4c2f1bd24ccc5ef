#include "nat/conntrack.h"

#include <stddef.h>

static void adopt_generation(struct conntrack *table, uint64_t generation)
{
    if (table->generation == generation)
        return;
    *table = (struct conntrack){.generation = generation};
}

/* Any spread will do: the allowlist chooses what comes in, not the guest. */
static struct conntrack_entry *set_of(struct conntrack *table, struct nat_endpoint destination)
{
    uint32_t mixed = (destination.ip ^ destination.port * UINT32_C(40503)) * UINT32_C(2654435769);
    return table->entries[mixed / (UINT32_MAX / CONNTRACK_SETS + 1)];
}

static struct conntrack_entry *find(struct conntrack_entry *set, struct nat_endpoint destination)
{
    for (size_t way = 0; way < CONNTRACK_WAYS; way++) {
        if (set[way].destination.port == destination.port && set[way].destination.ip == destination.ip)
            return &set[way];
    }
    return NULL;
}

bool conntrack_hit(struct conntrack *table, uint64_t generation, struct nat_endpoint destination, uint64_t now_ms)
{
    adopt_generation(table, generation);
    struct conntrack_entry *entry = find(set_of(table, destination), destination);
    if (entry == NULL || destination.port == 0)
        return false;
    if (now_ms - entry->used_ms >= CONNTRACK_IDLE_MS) {
        *entry = (struct conntrack_entry){.used_ms = 0};
        return false;
    }
    entry->used_ms = now_ms;
    return true;
}

void conntrack_add(struct conntrack *table, uint64_t generation, struct nat_endpoint destination, uint64_t now_ms)
{
    adopt_generation(table, generation);
    struct conntrack_entry *set = set_of(table, destination);
    struct conntrack_entry *place = find(set, destination);
    for (size_t way = 0; place == NULL && way < CONNTRACK_WAYS; way++)
        place = set[way].destination.port == 0 ? &set[way] : NULL;
    if (place == NULL) {
        place = &set[0];
        for (size_t way = 1; way < CONNTRACK_WAYS; way++)
            place = set[way].used_ms < place->used_ms ? &set[way] : place;
    }
    *place = (struct conntrack_entry){.destination = destination, .used_ms = now_ms};
}
