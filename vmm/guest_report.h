/* What a guest's own firewall says that it blocked: lines of the kernel's packet log on the console, with our prefix. The
 * guest writes what it likes there, so a line is parsed strictly, counted in a fixed table, and told rarely. Pure: time is
 * passed in. */
#ifndef VMM_GUEST_REPORT_H
#define VMM_GUEST_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/vmm.h"

/* The --log-prefix of the guest's firewall. */
#define GUEST_REPORT_PREFIX "ROGUE-ATTEMPT: "

enum guest_report_limits {
    GUEST_REPORT_ENTRIES = VMM_GUEST_REPORTS_MAX + 1, /* the last takes what has no entry of its own */
    GUEST_REPORT_GROWTH_MS = 1000,                    /* an entry that grows is told so often */
};

/** struct guest_packet - One line of the packet log. Ports are zero where the line has none. */
struct guest_packet {
    uint8_t ip_protocol;
    struct nat_endpoint source;
    struct nat_endpoint destination;
};

/** struct guest_report_entry - One aggregate; free while its count is 0. The table owns it. */
struct guest_report_entry {
    struct vmm_guest_report report;
    uint64_t told_count;
    uint64_t told_ms;
};

/**
 * struct guest_reports - One machine's aggregates, per destination, port and protocol
 * @untold: entries whose count is above what was told
 *
 * Owner: the machine. All zeros is an empty table.
 */
struct guest_reports {
    size_t made;
    size_t untold;
    struct guest_report_entry entries[GUEST_REPORT_ENTRIES];
};

/**
 * guest_report_parse() - Find a line of the packet log in a line of the console
 * @line:       terminated
 * @ret_packet: filled on success
 * Return:      true for a line with our prefix whose every value that is used has the kernel's form
 * Thread:      any
 * Source:      Linux net/netfilter/nf_log_syslog.c, dump_ipv4_packet()
 */
bool guest_report_parse(const char *line, struct guest_packet *ret_packet);

/** guest_reports_count() - Count one packet. Thread: the table's owner */
void guest_reports_count(struct guest_reports *reports, const struct guest_packet *packet);

/**
 * guest_reports_next() - Take an aggregate that is due to be told: a new one at once, a grown one when its time has come
 * Return: valid until the table changes; NULL when none is due
 * Thread: the table's owner
 */
const struct vmm_guest_report *guest_reports_next(struct guest_reports *reports, uint64_t now_ms);

/** guest_reports_due_ms() - When guest_reports_next() has one; UINT64_MAX never. Thread: the table's owner */
uint64_t guest_reports_due_ms(const struct guest_reports *reports);

/** guest_reports_finish() - Make every untold count due, for the end of the machine. Thread: the table's owner */
void guest_reports_finish(struct guest_reports *reports);

#endif
