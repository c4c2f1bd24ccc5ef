/* A lease's console as a stream of text/event-stream frames, until the lease has ended. */
#ifndef API_RESOURCE_CONSOLE_FEED_H
#define API_RESOURCE_CONSOLE_FEED_H

#include <stdint.h>

#include "api/http/stream.h"
#include "api/lease/lease_service.h"
#include "store/store.h"

enum console_feed_limits {
    CONSOLE_FEED_CHUNK_BYTES = 16384, /* of one frame; in base64 it fits into a stream's buffer */
    CONSOLE_FEED_POLL_MS = 200,
};

#define CONSOLE_FEED_OLDEST UINT64_MAX /* a place: the oldest byte that is kept */

/**
 * console_feed_follow() - A source that tells what a lease's console prints
 * @after:      position of the first byte that is wanted, in all that the console ever printed, or CONSOLE_FEED_OLDEST
 * @ret_source: owned by the caller until a stream begins with it
 *
 * Frames: `console.output` with an offset and the bytes in base64, for they may be anything; `stream.gap` when bytes from
 * @after on are gone; `console.ended` once the lease has ended and all was told, and then the stream ends. The id of a frame
 * is the position behind it.
 *
 * Return:      0, -ENOMEM
 * Thread:      any; the services outlive the stream
 */
int console_feed_follow(struct lease_service *service, struct store *store, const struct id *id, uint64_t after,
                        struct stream_source *ret_source);

#endif
