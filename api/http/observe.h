/* What is noted of each answer: a latency, by route and kind of answer, and a line in the log.
 *
 * Both are bounded whatever clients do: the labels come from the route table, and of the lines only so many are written
 * in a second; the next one that is says how many were not. */
#ifndef API_HTTP_OBSERVE_H
#define API_HTTP_OBSERVE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/http/request.h"
#include "api/http/response.h"
#include "api/http/route.h"
#include "base/histogram.h"
#include "base/log.h"

enum observe_limits {
    OBSERVE_ROUTES_MAX = 64,     /* the table has about 40; one more place for what matched none */
    OBSERVE_CLASSES = 4,         /* 2xx to 5xx */
    OBSERVE_LINES_PER_S = 50,    /* of the log: an orchestrator that polls ten leases stays below */
    OBSERVE_LINES_AT_ONCE = 200, /* after a second of silence */
};

/**
 * struct observer - Answers so far
 * @routes: the table whose order @times has
 * @lock:   guards @allowance to @left_out
 *
 * Owner: main(); outlives the HTTP server.
 */
struct observer {
    const struct route *routes;
    const struct log *log;
    struct histogram times[OBSERVE_ROUTES_MAX + 1][OBSERVE_CLASSES];
    pthread_mutex_t lock;
    uint32_t allowance;
    uint64_t refilled_ms;
    uint64_t left_out;
};

/**
 * struct observation - One answer, when it is handed to the HTTP library
 * @route:       NULL when none was found, or the request did not come so far
 * @listener:    static: "unix" or "tcp"
 * @duration_us: since the request line was read
 */
struct observation {
    const struct request *request;
    const struct response *response;
    const struct route *route;
    const char *listener;
    uint64_t duration_us;
};

/** observer_init() - Begin. @routes: fewer than OBSERVE_ROUTES_MAX, ended by a NULL pattern. Thread: the owner */
void observer_init(struct observer *observer, const struct route *routes, const struct log *log);

/** observer_done() - End. Thread: the owner */
void observer_done(struct observer *observer);

/** observer_note() - Note one answer. Thread: any */
void observer_note(struct observer *observer, const struct observation *observation);

/**
 * observer_allows_line() - Whether a line may be written now
 * @ret_left_out: lines that were not since the last one
 * Thread:        any
 */
bool observer_allows_line(struct observer *observer, uint64_t now_ms, uint64_t *ret_left_out);

#endif
