#include "api/http/observe.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/id.h"

enum {
    TARGET_BYTES = 300, /* of a request that matched no route: enough to see what it was about */
};

void observer_init(struct observer *observer, const struct route *routes, const struct log *log)
{
    size_t count = 0;
    while (routes[count].pattern != NULL)
        count++;
    REQUIRE(count < OBSERVE_ROUTES_MAX);
    memset(observer, 0, sizeof *observer);
    observer->routes = routes;
    observer->log = log;
    observer->allowance = OBSERVE_LINES_AT_ONCE;
    observer->refilled_ms = clock_monotonic_ms();
    REQUIRE(pthread_mutex_init(&observer->lock, NULL) == 0);
}

void observer_done(struct observer *observer)
{
    pthread_mutex_destroy(&observer->lock);
}

bool observer_allows_line(struct observer *observer, uint64_t now_ms, uint64_t *ret_left_out)
{
    pthread_mutex_lock(&observer->lock);
    uint64_t passed_ms = now_ms > observer->refilled_ms ? now_ms - observer->refilled_ms : 0;
    uint64_t more = passed_ms * OBSERVE_LINES_PER_S / 1000;
    if (more > 0) {
        uint64_t sum = observer->allowance + more;
        observer->allowance = sum < OBSERVE_LINES_AT_ONCE ? (uint32_t)sum : (uint32_t)OBSERVE_LINES_AT_ONCE;
        observer->refilled_ms = now_ms;
    }
    bool allowed = observer->allowance > 0;
    if (allowed) {
        observer->allowance--;
        *ret_left_out = observer->left_out;
        observer->left_out = 0;
    } else {
        observer->left_out++;
    }
    pthread_mutex_unlock(&observer->lock);
    return allowed;
}

/* The lease that an answer is about: in the path that was asked, or in the one that was made. "" when there is none. */
static const char *lease_of(const struct observation *observation, struct id *ret_id)
{
    static const char leases[] = "/v1/leases/";
    const char *path = observation->request->instance;
    for (size_t i = 0; i < observation->response->header_count; i++) {
        if (strcmp(observation->response->headers[i].name, "Location") == 0)
            path = observation->response->headers[i].value;
    }
    if (strncmp(path, leases, sizeof leases - 1) != 0)
        return "";
    path += sizeof leases - 1;
    return id_parse(path, strcspn(path, "/"), ret_id) ? ret_id->text : "";
}

/* What somebody asks all the time, and got, is not worth a line. */
static bool is_routine(const struct observation *observation)
{
    static const char *const polled[] = {"/healthz", "/readyz", "/metrics"};
    if (observation->route == NULL || observation->response->status != 200)
        return false;
    for (size_t i = 0; i < sizeof polled / sizeof polled[0]; i++) {
        if (strcmp(observation->route->pattern, polled[i]) == 0)
            return true;
    }
    return false;
}

static void write_line(const struct observer *observer, const struct observation *observation, uint64_t left_out)
{
    const struct request *request = observation->request;
    char target[TARGET_BYTES] = "";
    struct id lease;
    if (observation->route == NULL)
        log_escape(request->instance, strlen(request->instance), target, sizeof target);
    log_line(observer->log, observation->response->status >= 500 ? LOG_WARNING : LOG_INFO, "http.request",
             "request=%s method=%s route=\"%s\" status=%u duration_us=%llu bytes=%zu listener=%s lease=%s trace=%s "
             "parent=%s left_out=%llu",
             request->id.text, request_method_name(request->method),
             observation->route == NULL ? target : observation->route->pattern, observation->response->status,
             (unsigned long long)observation->duration_us, observation->response->body_bytes, observation->listener,
             lease_of(observation, &lease), request->trace.id, request->trace.parent, (unsigned long long)left_out);
}

void observer_note(struct observer *observer, const struct observation *observation)
{
    size_t place = observation->route == NULL ? OBSERVE_ROUTES_MAX : (size_t)(observation->route - observer->routes);
    unsigned class = observation->response->status / 100 - 2;
    if (class < OBSERVE_CLASSES)
        histogram_add(&observer->times[place][class], observation->duration_us);
    uint64_t left_out = 0;
    if (!is_routine(observation) && observer_allows_line(observer, clock_monotonic_ms(), &left_out))
        write_line(observer, observation, left_out);
}
