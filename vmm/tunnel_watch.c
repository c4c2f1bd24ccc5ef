#include "vmm/tunnel_watch.h"

void tunnel_watch_init(struct tunnel_watch *watch, uint32_t timeout_ms, uint32_t lost_ms)
{
    *watch = (struct tunnel_watch){.timeout_ms = timeout_ms, .lost_ms = lost_ms};
}

void tunnel_watch_running(struct tunnel_watch *watch, uint64_t now_ms)
{
    if (!watch->established && watch->timeout_ms > 0)
        watch->due_ms = now_ms + watch->timeout_ms;
}

void tunnel_watch_established(struct tunnel_watch *watch, uint64_t now_ms)
{
    if (watch->established)
        return; /* its silence is measured from what was heard */
    watch->established = true;
    watch->due_ms = watch->lost_ms > 0 ? now_ms + watch->lost_ms : 0;
}

enum tunnel_watch_verdict tunnel_watch_look(struct tunnel_watch *watch, uint64_t heard_ms, uint64_t now_ms)
{
    if (watch->due_ms == 0 || now_ms < watch->due_ms)
        return TUNNEL_WATCH_WELL;
    if (!watch->established) {
        watch->due_ms = 0;
        return TUNNEL_WATCH_NEVER_UP;
    }
    watch->due_ms = heard_ms + watch->lost_ms; /* the earliest time at which it can have been silent so long */
    if (now_ms < watch->due_ms)
        return TUNNEL_WATCH_WELL;
    watch->due_ms = 0;
    return TUNNEL_WATCH_SILENT;
}
