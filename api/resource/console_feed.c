#include "api/resource/console_feed.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>

/* One follower. Owner: its stream. */
struct follower {
    struct lease_service *service;
    struct store *store;
    struct id id;
    uint64_t next; /* position of the next byte to tell */
    bool of_kept;  /* ... in the kept tail of an ended lease, which is told from its beginning */
    uint8_t bytes[VMM_CONSOLE_BYTES];
    char text[sodium_base64_ENCODED_LEN(CONSOLE_FEED_CHUNK_BYTES, sodium_base64_VARIANT_ORIGINAL)];
};

/* Bytes from the follower's place up to @before are gone. */
static bool add_gap(struct follower *follower, struct stream_text *text, uint64_t before)
{
    if (!stream_text_print(text,
                           "id: %" PRIu64 "\nevent: stream.gap\ndata: {\"first_missing\":%" PRIu64
                           ",\"last_missing\":%" PRIu64 "}\n\n",
                           before, follower->next, before - 1))
        return false;
    follower->next = before;
    return true;
}

static bool add_output(struct follower *follower, struct stream_text *text, const uint8_t *bytes, size_t length)
{
    sodium_bin2base64(follower->text, sizeof follower->text, bytes, length, sodium_base64_VARIANT_ORIGINAL);
    if (!stream_text_print(
            text, "id: %" PRIu64 "\nevent: console.output\ndata: {\"offset\":%" PRIu64 ",\"base64\":\"%s\"}\n\n",
            follower->next + length, follower->next, follower->text))
        return false;
    follower->next += length;
    return true;
}

/* The follower's place is one of an earlier daemon, which counted what this one did not see: positions begin anew. */
static bool add_restart(struct follower *follower, struct stream_text *text, uint64_t offset)
{
    if (!stream_text_print(
            text, "id: %" PRIu64 "\nevent: stream.gap\ndata: {\"first_missing\":null,\"last_missing\":null}\n\n",
            offset))
        return false;
    follower->next = offset;
    return true;
}

/* Tell what of @length bytes, the first of which is at @offset, was not told yet. */
static enum stream_step tell(struct follower *follower, struct stream_text *text, uint64_t offset, size_t length)
{
    uint64_t end = offset + length;
    if (follower->next == CONSOLE_FEED_OLDEST)
        follower->next = offset;
    if (follower->next > end && !add_restart(follower, text, offset))
        return STREAM_MORE;
    if (follower->next < offset && !add_gap(follower, text, offset))
        return STREAM_MORE;
    while (follower->next < end) {
        uint64_t left = end - follower->next;
        size_t chunk = left < CONSOLE_FEED_CHUNK_BYTES ? (size_t)left : CONSOLE_FEED_CHUNK_BYTES;
        if (!add_output(follower, text, follower->bytes + (follower->next - offset), chunk))
            return STREAM_MORE;
    }
    return STREAM_WAIT;
}

/* What is kept of an ended lease's console. It is its last bytes, and where they stood is known as long as they are all. */
static enum stream_step tell_kept(struct follower *follower, struct stream_text *text)
{
    int64_t length =
        store_console_get(follower->store, follower->id.text, follower->bytes, sizeof follower->bytes, NULL);
    if (length == -ENOENT)
        length = 0;
    if (length < 0)
        return STREAM_END; /* the reader comes again with its last id */
    bool is_all = length < VMM_CONSOLE_BYTES;
    if (follower->next == CONSOLE_FEED_OLDEST)
        follower->of_kept = true;
    if ((is_all || follower->of_kept) && tell(follower, text, 0, (size_t)length) == STREAM_MORE)
        return STREAM_MORE;
    return stream_text_print(text, "id: %" PRIu64 "\nevent: console.ended\ndata: {\"complete\":%s}\n\n", follower->next,
                             is_all ? "true" : "false")
               ? STREAM_END
               : STREAM_MORE;
}

static enum stream_step follower_read(void *state, struct stream_text *text)
{
    struct follower *follower = state;
    struct store_lease lease;
    uint64_t offset = 0;
    uint64_t end = 0;
    int64_t length = lease_service_console_live(follower->service, &follower->id, NULL, 0, &end);
    if (length >= 0 && end == follower->next)
        return STREAM_WAIT;
    if (length >= 0)
        length = lease_service_console_live(follower->service, &follower->id, follower->bytes, sizeof follower->bytes,
                                            &offset);
    if (length >= 0)
        return tell(follower, text, offset, (size_t)length);
    if (store_lease_get(follower->store, follower->id.text, &lease, NULL) < 0)
        return STREAM_END;
    return lease_is_final(lease.state) ? tell_kept(follower, text) : STREAM_WAIT;
}

static void follower_done(void *state)
{
    free(state);
}

int console_feed_follow(struct lease_service *service, struct store *store, const struct id *id, uint64_t after,
                        struct stream_source *ret_source)
{
    struct follower *follower = calloc(1, sizeof *follower);
    if (follower == NULL)
        return -ENOMEM;
    follower->service = service;
    follower->store = store;
    follower->id = *id;
    follower->next = after;
    *ret_source = (struct stream_source){
        .read = follower_read, .done = follower_done, .state = follower, .poll_ms = CONSOLE_FEED_POLL_MS};
    return 0;
}
