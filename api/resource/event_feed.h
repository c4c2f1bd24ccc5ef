/* Events as a stream of text/event-stream frames. The newest ones are kept ready as text, so that an event is read from
 * the store and put into words once, however many follow; a follower that is further behind reads the store itself. */
#ifndef API_RESOURCE_EVENT_FEED_H
#define API_RESOURCE_EVENT_FEED_H

#include <stdint.h>

#include "api/http/stream.h"
#include "base/error.h"
#include "store/store.h"

enum event_feed_limits {
    EVENT_FEED_FRAMES = 512,    /* kept ready; followers that live are within the last few */
    EVENT_FEED_BYTES = 1048576, /* of them all */
};

struct event_feed;

/**
 * event_feed_open() - Begin to follow the store's events
 * @store:    outlives the feed; its store_on_event() is the feed's from now on
 * @streams:  woken when there are events; outlives the feed's followers
 * @ret_feed: owned by the caller until event_feed_close()
 * Return:    0 or negative
 * Thread:    the owner, before other threads use the store
 */
int event_feed_open(struct store *store, struct streams *streams, struct event_feed **ret_feed, struct error *err);

/** event_feed_close() - Let the store go, free. @feed: NULL is allowed. Thread: the owner, without followers left */
void event_feed_close(struct event_feed *feed);

/**
 * event_feed_follow() - A source that tells every event after a place
 * @after:      sequence, as checked by store_event_place()
 * @lease_id:   or NULL
 * @ret_source: owned by the caller until a stream begins with it
 *
 * It begins with a frame `stream.opened` that says the place. Should events be pruned before they were told, a frame
 * `stream.gap` says which.
 *
 * Return:      0, -ENOMEM
 * Thread:      any
 */
int event_feed_follow(struct event_feed *feed, uint64_t after, const char *lease_id, struct stream_source *ret_source);

#endif
