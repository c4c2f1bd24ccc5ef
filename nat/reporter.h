/* Reports of one NAT to whoever started it. Nothing waits for the reader: what does not fit is owed and sent again. */
#ifndef NAT_REPORTER_H
#define NAT_REPORTER_H

#include <stdbool.h>
#include <stdint.h>

#include "nat/nat.h"
#include "nat/violation.h"

enum reporter_limits {
    REPORTER_GROWTH_MS = 1000, /* a violation that goes on is told once a second */
    REPORTER_RETRY_MS = 50,    /* when the reader lags */
};

/** struct reporter - Owner: the NAT thread, which also closes @fd. */
struct reporter {
    int fd;
    bool policy_owed;
    bool tunnel_owed;
    bool detached_owed;
    uint64_t policy_generation;
    enum nat_tunnel tunnel;
    uint64_t tunnel_at_ms;
    struct nat_ports ports;
    uint64_t due_ms; /* when reporter_flush() has something to do; UINT64_MAX never */
};

/** reporter_init() - Take the descriptor. Thread: any, before the NAT thread starts */
void reporter_init(struct reporter *reporter, int fd);

/** reporter_policy() - Tell that a policy is enforced. Thread: the owner */
void reporter_policy(struct reporter *reporter, uint64_t generation, uint64_t now_ms);

/** reporter_tunnel() - Tell that the tunnel's state changed. @ports: of an established one. Thread: the owner */
void reporter_tunnel(struct reporter *reporter, enum nat_tunnel tunnel, struct nat_ports ports, uint64_t now_ms);

/** reporter_violation() - Tell of what is urgent at once, of a grown aggregate when it is due. Thread: the owner */
void reporter_violation(struct reporter *reporter, struct violation_table *table, bool urgent, uint64_t now_ms);

/** reporter_detached() - Tell that the VM has closed its end. Thread: the owner */
void reporter_detached(struct reporter *reporter, uint64_t now_ms);

/** reporter_failed() - Tell that the thread cannot go on. Thread: the owner */
void reporter_failed(struct reporter *reporter, int error_code, const char *text, uint64_t now_ms);

/** reporter_flush() - Send what is owed and due. Thread: the owner */
void reporter_flush(struct reporter *reporter, struct violation_table *table, uint64_t now_ms);

/** reporter_finish() - Send whatever was not told yet, due or not; the last call. Thread: the owner */
void reporter_finish(struct reporter *reporter, struct violation_table *table, uint64_t now_ms);

#endif
