#include "nat/reporter.h"

#include <poll.h>
#include <stdio.h>

#include "nat/datagrams.h"

void reporter_init(struct reporter *reporter, int fd)
{
    *reporter = (struct reporter){.fd = fd, .due_ms = UINT64_MAX};
}

static void be_due(struct reporter *reporter, uint64_t at_ms)
{
    if (at_ms < reporter->due_ms)
        reporter->due_ms = at_ms;
}

static bool send_report(struct reporter *reporter, const struct nat_report *report)
{
    /* What a batch takes may change its head; a report is only read. */
    const struct datagram_parts message = {.head = (uint8_t *)(uintptr_t)report, .head_bytes = sizeof *report};
    return datagrams_send(reporter->fd, &message, 1) == 1;
}

static void send_policy(struct reporter *reporter, uint64_t now_ms)
{
    struct nat_report report = {.kind = NAT_REPORT_POLICY, .at_ms = now_ms, .generation = reporter->policy_generation};
    reporter->policy_owed = !send_report(reporter, &report);
    if (reporter->policy_owed)
        be_due(reporter, now_ms + REPORTER_RETRY_MS);
}

static void send_tunnel(struct reporter *reporter, uint64_t now_ms)
{
    struct nat_report report = {.kind = NAT_REPORT_TUNNEL,
                                .at_ms = reporter->tunnel_at_ms,
                                .tunnel = reporter->tunnel,
                                .ports = reporter->ports};
    reporter->tunnel_owed = !send_report(reporter, &report);
    if (reporter->tunnel_owed)
        be_due(reporter, now_ms + REPORTER_RETRY_MS);
}

static void send_detached(struct reporter *reporter, uint64_t now_ms)
{
    struct nat_report report = {.kind = NAT_REPORT_DETACHED, .at_ms = now_ms};
    reporter->detached_owed = !send_report(reporter, &report);
    if (reporter->detached_owed)
        be_due(reporter, now_ms + REPORTER_RETRY_MS);
}

/* Return: false when the reader has no room. */
static bool send_violations(struct reporter *reporter, struct violation_table *table, bool only_urgent, uint64_t now_ms)
{
    for (int i = violation_next_unreported(table, 0); i >= 0; i = violation_next_unreported(table, i + 1)) {
        const struct violation_entry *entry = &table->entries[i];
        if (only_urgent && entry->reported_count > 0 && !entry->violation.terminated)
            continue;
        struct nat_report report = {.kind = NAT_REPORT_VIOLATION, .at_ms = now_ms, .violation = entry->violation};
        if (!send_report(reporter, &report))
            return false;
        violation_reported(table, i);
    }
    return true;
}

void reporter_policy(struct reporter *reporter, uint64_t generation, uint64_t now_ms)
{
    reporter->policy_generation = generation;
    send_policy(reporter, now_ms);
}

void reporter_tunnel(struct reporter *reporter, enum nat_tunnel tunnel, struct nat_ports ports, uint64_t now_ms)
{
    reporter->tunnel = tunnel;
    reporter->ports = ports;
    reporter->tunnel_at_ms = now_ms;
    send_tunnel(reporter, now_ms);
}

void reporter_violation(struct reporter *reporter, struct violation_table *table, bool urgent, uint64_t now_ms)
{
    if (urgent && !send_violations(reporter, table, true, now_ms))
        be_due(reporter, now_ms + REPORTER_RETRY_MS);
    if (table->unreported > 0)
        be_due(reporter, now_ms + REPORTER_GROWTH_MS);
}

void reporter_detached(struct reporter *reporter, uint64_t now_ms)
{
    send_detached(reporter, now_ms);
}

void reporter_failed(struct reporter *reporter, int error_code, const char *text, uint64_t now_ms)
{
    struct nat_report report = {.kind = NAT_REPORT_FAILED, .at_ms = now_ms, .error_code = error_code};
    snprintf(report.text, sizeof report.text, "%s", text);
    /* The thread ends after this one, so it waits a little for a reader that lags. The gate is shut whether it is told or
     * not. */
    for (int tries = 0; tries < 10 && !send_report(reporter, &report); tries++) {
        struct pollfd room = {.fd = reporter->fd, .events = POLLOUT};
        (void)poll(&room, 1, REPORTER_RETRY_MS);
    }
}

void reporter_flush(struct reporter *reporter, struct violation_table *table, uint64_t now_ms)
{
    if (now_ms < reporter->due_ms)
        return;
    reporter->due_ms = UINT64_MAX;
    if (reporter->policy_owed)
        send_policy(reporter, now_ms);
    if (reporter->tunnel_owed)
        send_tunnel(reporter, now_ms);
    if (reporter->detached_owed)
        send_detached(reporter, now_ms);
    if (!send_violations(reporter, table, false, now_ms))
        be_due(reporter, now_ms + REPORTER_RETRY_MS);
}

void reporter_finish(struct reporter *reporter, struct violation_table *table, uint64_t now_ms)
{
    reporter->due_ms = now_ms;
    reporter_flush(reporter, table, now_ms);
}
