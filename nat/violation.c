#include "nat/violation.h"

#include <string.h>

#include "base/error.h"

/* Reason, protocol, destination port and address are 8 + 8 + 16 + 32 bits: the key is one word. */
static uint64_t key_of(const struct violation_frame *frame)
{
    return (uint64_t)frame->reason << 56 | (uint64_t)frame->packet->ip_protocol << 48 |
           (uint64_t)frame->packet->destination.port << 32 | frame->packet->destination.ip;
}

static size_t find_entry(const struct violation_table *table, uint64_t key, enum nat_reason reason)
{
    for (size_t i = 0; i < table->distinct; i++) {
        if (table->keys[i] == key)
            return i;
    }
    if (table->distinct < VIOLATION_DISTINCT_MAX)
        return table->distinct;
    return VIOLATION_DISTINCT_MAX + (size_t)reason;
}

static void fill_entry(struct nat_violation *violation, const struct violation_frame *frame, size_t index,
                       const struct nat_policy *policy, uint64_t now_ms)
{
    const struct packet *packet = frame->packet;
    bool overflow = index >= VIOLATION_DISTINCT_MAX;
    *violation = (struct nat_violation){
        .serial = (uint32_t)index,
        .reason = frame->reason,
        .mode = policy->mode,
        .sampling_ppm = policy->mode == NAT_MODE_SAMPLED ? policy->sampling_ppm : 0,
        .overflow = overflow,
        .first_ms = now_ms,
        .policy_generation = policy->generation,
        .ethertype = packet->ethertype,
        .source_mac = packet->source_mac,
        .frame_bytes = (uint32_t)frame->length,
    };
    if (overflow)
        return; /* stands for many destinations: naming the first would mislead */
    violation->ip_protocol = packet->ip_protocol;
    violation->source = packet->source;
    violation->destination = packet->destination;
    violation->evidence_bytes = (uint16_t)(frame->length < NAT_EVIDENCE_BYTES ? frame->length : NAT_EVIDENCE_BYTES);
    memcpy(violation->evidence, frame->bytes, violation->evidence_bytes);
}

struct nat_violation *violation_record(struct violation_table *table, const struct violation_frame *frame,
                                       const struct nat_policy *policy, uint64_t now_ms)
{
    uint64_t key = key_of(frame);
    size_t index = find_entry(table, key, frame->reason);
    REQUIRE(index < VIOLATION_ENTRIES);
    struct violation_entry *entry = &table->entries[index];
    bool is_new = entry->violation.count == 0;
    if (is_new) {
        fill_entry(&entry->violation, frame, index, policy, now_ms);
        table->made++;
        if (index < VIOLATION_DISTINCT_MAX) {
            table->keys[index] = key;
            table->distinct++;
        }
    }
    if (entry->violation.count == entry->reported_count)
        table->unreported++;
    entry->violation.count++;
    entry->violation.last_ms = now_ms;
    entry->violation.terminated = entry->violation.terminated || frame->terminates;
    return is_new ? &entry->violation : NULL;
}

const struct nat_violation *violation_terminating(const struct violation_table *table)
{
    for (size_t i = 0; i < VIOLATION_ENTRIES; i++) {
        if (table->entries[i].violation.terminated)
            return &table->entries[i].violation;
    }
    return NULL;
}

int violation_next_unreported(const struct violation_table *table, int from)
{
    for (int i = from; table->unreported > 0 && i < VIOLATION_ENTRIES; i++) {
        const struct violation_entry *entry = &table->entries[i];
        if (entry->violation.count > entry->reported_count)
            return i;
    }
    return -1;
}

void violation_reported(struct violation_table *table, int index)
{
    struct violation_entry *entry = &table->entries[index];
    REQUIRE(entry->violation.count > entry->reported_count);
    entry->reported_count = entry->violation.count;
    table->unreported--;
}
