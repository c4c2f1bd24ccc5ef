/* The ring belongs to the streams' thread; what other threads touch is @commits alone. Sequences have no gaps, so an
 * event's place in the ring follows from its sequence. */
#include "api/resource/event_feed.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/lease/encode.h"

/* One event, ready to be sent. */
struct frame {
    char lease_id[ID_TEXT_BYTES];
    char *bytes; /* owned */
    size_t length;
};

struct event_feed {
    struct store *store;
    struct streams *streams;
    atomic_uint_fast64_t commits; /* transactions with events since the start */
    uint64_t seen;                /* value of @commits that the ring is up to */
    uint64_t newest;              /* sequence of the newest frame, or of the newest event before there were any */
    size_t count;                 /* frames in the ring, up to @newest */
    size_t bytes;
    struct frame ring[EVENT_FEED_FRAMES];
    char scratch[STREAM_BUFFER_BYTES];
};

/* One follower. Owner: its stream. */
struct follower {
    struct event_feed *feed;
    uint64_t after;
    bool greeted;
    char lease_id[ID_TEXT_BYTES]; /* "" for all */
    /* while the store is read */
    struct stream_text *text;
    const struct store_event_bounds *bounds;
    size_t rows;
};

/* ---- frames ------------------------------------------------------------------------------------------------------ */

static bool add_event(struct stream_text *text, const char *epoch, const struct store_event *event)
{
    size_t before = text->used;
    json_t *json = encode_event(event, epoch);
    bool added = json != NULL &&
                 stream_text_print(text, "id: %s-%" PRIu64 "\nevent: %s\ndata: ", epoch, event->sequence, event->type);
    if (added) {
        size_t room = text->capacity - text->used;
        size_t needed = json_dumpb(json, text->bytes + text->used, room, JSON_COMPACT);
        added = needed > 0 && needed <= room;
        text->used += added ? needed : 0;
    }
    json_decref(json);
    added = added && stream_text_add(text, "\n\n", 2);
    if (!added)
        text->used = before;
    return added;
}

/* Events from @from to @to will never be told to this follower. */
static bool add_gap(struct stream_text *text, const char *epoch, uint64_t from, uint64_t to)
{
    return stream_text_print(text,
                             "id: %s-%" PRIu64 "\nevent: stream.gap\ndata: {\"first_missing\":\"%s-%" PRIu64
                             "\",\"last_missing\":\"%s-%" PRIu64 "\"}\n\n",
                             epoch, to, epoch, from, epoch, to);
}

static bool add_greeting(struct stream_text *text, const char *epoch, uint64_t after)
{
    return stream_text_print(text,
                             "id: %s-%" PRIu64 "\nevent: stream.opened\ndata: {\"cursor\":\"%s-%" PRIu64 "\"}\n\n",
                             epoch, after, epoch, after);
}

/* ---- the ring ---------------------------------------------------------------------------------------------------- */

static struct frame *frame_at(struct event_feed *feed, uint64_t sequence)
{
    return &feed->ring[sequence % EVENT_FEED_FRAMES];
}

static void drop_oldest(struct event_feed *feed)
{
    struct frame *oldest = frame_at(feed, feed->newest - feed->count + 1);
    feed->bytes -= oldest->length;
    free(oldest->bytes);
    *oldest = (struct frame){0};
    feed->count--;
}

static void empty_ring(struct event_feed *feed)
{
    while (feed->count > 0)
        drop_oldest(feed);
}

static int take_event(void *context, const struct store_event *event)
{
    struct event_feed *feed = context;
    struct stream_text text = {.bytes = feed->scratch, .capacity = sizeof feed->scratch};
    bool fits = add_event(&text, store_epoch(feed->store), event) ||
                add_gap(&text, store_epoch(feed->store), event->sequence, event->sequence);
    char *bytes = fits ? malloc(text.used) : NULL;
    if (bytes == NULL)
        return -ENOMEM;
    memcpy(bytes, text.bytes, text.used);
    if (event->sequence != feed->newest + 1)
        empty_ring(feed); /* some were pruned unread; whoever wants them is told by the store's bounds */
    while (feed->count > 0 && (feed->count == EVENT_FEED_FRAMES || feed->bytes + text.used > EVENT_FEED_BYTES))
        drop_oldest(feed);
    struct frame *frame = frame_at(feed, event->sequence);
    frame->bytes = bytes;
    frame->length = text.used;
    memcpy(frame->lease_id, event->lease_id, sizeof frame->lease_id);
    feed->bytes += text.used;
    feed->newest = event->sequence;
    feed->count++;
    return 0;
}

/* Bring the ring up to date. */
static int refresh(struct event_feed *feed)
{
    uint64_t commits = atomic_load(&feed->commits);
    int result = 0;
    while (feed->seen != commits && result == 0) {
        struct store_event_bounds bounds;
        const struct store_follow follow = {.after = feed->newest, .limit = STORE_PAGE_MAX};
        result = store_event_follow(feed->store, &follow, take_event, feed, &bounds, NULL);
        if (result == 0 && feed->newest >= bounds.newest)
            feed->seen = commits;
    }
    return result;
}

/* ---- a follower -------------------------------------------------------------------------------------------------- */

static enum stream_step read_ring(struct follower *follower, struct stream_text *text)
{
    struct event_feed *feed = follower->feed;
    while (follower->after < feed->newest) {
        const struct frame *frame = frame_at(feed, follower->after + 1);
        bool wanted = follower->lease_id[0] == '\0' || strcmp(follower->lease_id, frame->lease_id) == 0;
        if (wanted && !stream_text_add(text, frame->bytes, frame->length))
            return STREAM_MORE;
        follower->after++;
    }
    return STREAM_WAIT;
}

/* Tell of events that were pruned before this follower had them. Return: false when the text is full. */
static bool tell_gap(struct follower *follower, struct stream_text *text, const struct store_event_bounds *bounds)
{
    if (follower->after + 1 >= bounds->oldest)
        return true;
    if (!add_gap(text, store_epoch(follower->feed->store), follower->after + 1, bounds->oldest - 1))
        return false;
    follower->after = bounds->oldest - 1;
    return true;
}

static int tell_event(void *context, const struct store_event *event)
{
    struct follower *follower = context;
    const char *epoch = store_epoch(follower->feed->store);
    follower->rows++;
    if (!tell_gap(follower, follower->text, follower->bounds))
        return 1;
    bool told = add_event(follower->text, epoch, event);
    if (!told && follower->text->used > 0)
        return 1; /* full: once this is sent there is room */
    if (!told)
        add_gap(follower->text, epoch, event->sequence, event->sequence);
    follower->after = event->sequence;
    return 0;
}

static enum stream_step read_store(struct follower *follower, struct stream_text *text)
{
    struct store_event_bounds bounds;
    const struct store_follow follow = {.after = follower->after,
                                        .lease_id = follower->lease_id[0] == '\0' ? NULL : follower->lease_id,
                                        .limit = STORE_PAGE_MAX};
    follower->text = text;
    follower->bounds = &bounds;
    follower->rows = 0;
    int result = store_event_follow(follower->feed->store, &follow, tell_event, follower, &bounds, NULL);
    if (result < 0)
        return STREAM_END; /* the reader comes again with the id of its last event, and misses nothing */
    if (result > 0 || follower->rows == STORE_PAGE_MAX || !tell_gap(follower, text, &bounds))
        return STREAM_MORE;
    follower->after = bounds.newest; /* what is left up to there is not wanted; what is newer comes with a wake */
    return STREAM_WAIT;
}

static enum stream_step follower_read(void *state, struct stream_text *text)
{
    struct follower *follower = state;
    struct event_feed *feed = follower->feed;
    if (!follower->greeted && !add_greeting(text, store_epoch(feed->store), follower->after))
        return STREAM_MORE;
    follower->greeted = true;
    if (refresh(feed) < 0)
        return STREAM_END;
    if (follower->after + feed->count >= feed->newest)
        return read_ring(follower, text);
    return read_store(follower, text);
}

static void follower_done(void *state)
{
    free(state);
}

int event_feed_follow(struct event_feed *feed, uint64_t after, const char *lease_id, struct stream_source *ret_source)
{
    struct follower *follower = calloc(1, sizeof *follower);
    if (follower == NULL)
        return -ENOMEM;
    follower->feed = feed;
    follower->after = after;
    if (lease_id != NULL)
        snprintf(follower->lease_id, sizeof follower->lease_id, "%s", lease_id);
    *ret_source = (struct stream_source){.read = follower_read, .done = follower_done, .state = follower};
    return 0;
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void note_commit(void *context)
{
    struct event_feed *feed = context;
    atomic_fetch_add(&feed->commits, 1);
    streams_wake(feed->streams);
}

int event_feed_open(struct store *store, struct streams *streams, struct event_feed **ret_feed, struct error *err)
{
    struct store_event_bounds bounds;
    int result = store_event_bounds(store, &bounds, err);
    if (result < 0)
        return result;
    struct event_feed *feed = calloc(1, sizeof *feed);
    if (feed == NULL)
        return error_set(err, -ENOMEM, "There is no memory for the events.");
    feed->store = store;
    feed->streams = streams;
    feed->newest = bounds.newest;
    store_on_event(store, note_commit, feed);
    *ret_feed = feed;
    return 0;
}

void event_feed_close(struct event_feed *feed)
{
    if (feed == NULL)
        return;
    store_on_event(feed->store, NULL, NULL);
    empty_ring(feed);
    free(feed);
}
