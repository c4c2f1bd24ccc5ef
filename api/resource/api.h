/* What the handlers work with. */
#ifndef API_RESOURCE_API_H
#define API_RESOURCE_API_H

#include <stdint.h>

#include "api/config/config.h"
#include "api/host/direct_check.h"
#include "api/host/image_verifier.h"
#include "api/http/idempotency.h"
#include "api/http/observe.h"
#include "api/lease/lease_service.h"
#include "api/resource/event_feed.h"
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
