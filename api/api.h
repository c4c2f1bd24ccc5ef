/* What the handlers work with. */
#ifndef API_API_H
#define API_API_H

#include <stdint.h>

#include "api/config.h"
#include "api/direct_check.h"
#include "api/event_feed.h"
#include "api/idempotency.h"
#include "api/image_verifier.h"
#include "api/lease_service.h"
#include "api/observe.h"
#include "base/log.h"
#include "store/store.h"

/**
 * struct api - The handlers' context
 * @started_ms: wall clock
 *
 * Owner: main(); outlives the HTTP server.
 */
struct api {
    const struct config *config;
    const struct log *log;
    struct store *store;
    struct lease_service *service;
    struct direct_check *direct;
    struct event_feed *feed;
    struct idempotency *idempotency;
    const struct observer *observer;
    struct image_verifier *verifier;
    uint64_t started_ms;
};

#endif
