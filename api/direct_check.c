#include "api/direct_check.h"

#include <errno.h>

void direct_check_init(struct direct_check *check, int (*probe)(struct error *err))
{
    *check = (struct direct_check){.probe = probe};
    REQUIRE(pthread_mutex_init(&check->lock, NULL) == 0);
}

void direct_check_done(struct direct_check *check)
{
    pthread_mutex_destroy(&check->lock);
}

int direct_check_result(struct direct_check *check, uint64_t now_ms, struct error *err)
{
    pthread_mutex_lock(&check->lock);
    bool stale = check->result < 0 && now_ms - check->found_ms >= DIRECT_CHECK_AGAIN_MS;
    if (!check->known || stale) {
        check->reason = (struct error){0};
        check->result = check->probe(&check->reason);
        check->known = true;
        check->found_ms = now_ms;
    }
    int result = check->result;
    if (result < 0) {
        error_set(err, result, "%s", check->reason.message);
        error_tag(err, "direct-unavailable", "/network/mode");
    }
    pthread_mutex_unlock(&check->lock);
    return result;
}
