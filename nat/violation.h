/* Violations of one VM, aggregated: the first frame of a kind makes an entry, later ones only count. A fixed table, so that
 * a hostile VM cannot fill memory, store or event stream. Pure: time is passed in. */
#ifndef NAT_VIOLATION_H
#define NAT_VIOLATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nat/nat.h"
#include "nat/packet.h"

enum violation_limits {
    VIOLATION_DISTINCT_MAX = 128, /* kinds with an entry of their own; a scan shows its pattern in far fewer */
    VIOLATION_ENTRIES = VIOLATION_DISTINCT_MAX + NAT_REASON_COUNT, /* then one overflow entry a reason */
};

/** struct violation_entry - One aggregate; free while its count is 0. The table owns it. */
struct violation_entry {
    struct nat_violation violation;
    uint64_t reported_count; /* what the last report said */
};

/** struct violation_table - Owner: the NAT thread of the VM. All zeros is an empty table. */
struct violation_table {
    uint64_t keys[VIOLATION_DISTINCT_MAX]; /* of the first @distinct entries, packed for a fast scan */
    size_t distinct;
    size_t made;       /* entries in use, overflow included */
    size_t unreported; /* entries whose count is above what was reported */
    struct violation_entry entries[VIOLATION_ENTRIES];
};

/** struct violation_frame - The frame that broke the promise, as violation_record() keeps it. */
struct violation_frame {
    enum nat_reason reason;
    bool terminates;
    const struct packet *packet;
    const uint8_t *bytes;
    size_t length;
};

/**
 * violation_record() - Count one forbidden frame
 * @policy: in force
 * @now_ms: monotonic time of the frame's batch
 * Return:  the new entry's violation when it is the first of its kind (the caller sets detection_latency_us), else NULL
 * Thread:  the table's owner
 */
struct nat_violation *violation_record(struct violation_table *table, const struct violation_frame *frame,
                                       const struct nat_policy *policy, uint64_t now_ms);

/** violation_terminating() - The entry that ended the machine, or NULL. Thread: the table's owner */
const struct nat_violation *violation_terminating(const struct violation_table *table);

/**
 * violation_next_unreported() - An entry that has grown since it was reported
 * @from:  index to begin at; 0 for the first call
 * Return: index, or -1
 * Thread: the table's owner
 */
int violation_next_unreported(const struct violation_table *table, int from);

/**
 * violation_reported() - Note that the entry's count as it is now was told
 * Thread: the table's owner
 */
void violation_reported(struct violation_table *table, int index);

#endif
