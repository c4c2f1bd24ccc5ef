#include "api/http/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "api/http/wake.h"
#include "base/clock.h"

/* Only Linux tells a closed other end without a read; elsewhere the next write finds it. */
#ifndef POLLRDHUP
#define POLLRDHUP 0
#endif

struct stream {
    struct streams *streams;
    struct stream_order order;
    struct stream_text text; /* what is being sent, from @sent on */
    size_t sent;
    bool dirty;           /* the source has to be asked */
    bool ending;          /* the source has nothing after this */
    uint64_t asked_ms;    /* when the source was last asked */
    uint64_t progress_ms; /* when the follower last took something, or something was first there to take */
    uint64_t spoken_ms;   /* when something was last sent */
};

struct streams {
    const struct log *log;
    pthread_t thread;
    struct wake wake;
    pthread_mutex_t lock;   /* for what follows */
    pthread_cond_t emptied; /* taken is 0 */
    bool ending;
    bool closing;
    size_t taken; /* prepared, begun or running */
    size_t fresh_count;
    struct stream *fresh[STREAMS_MAX];
    /* the thread's own */
    size_t count;
    struct stream *running[STREAMS_MAX];
    struct pollfd polled[STREAMS_MAX + 1];
};

/* ---- text -------------------------------------------------------------------------------------------------------- */

bool stream_text_add(struct stream_text *text, const char *bytes, size_t length)
{
    if (length > text->capacity - text->used)
        return false;
    memcpy(text->bytes + text->used, bytes, length);
    text->used += length;
    return true;
}

bool stream_text_print(struct stream_text *text, const char *format, ...)
{
    size_t room = text->capacity - text->used;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text->bytes + text->used, room, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= room)
        return false;
    text->used += (size_t)length;
    return true;
}

/* ---- one stream -------------------------------------------------------------------------------------------------- */

static void stream_free(struct stream *stream)
{
    free(stream->text.bytes);
    free(stream);
}

/* The stream's end, whatever brought it. */
static void finish(struct stream *stream)
{
    struct streams *streams = stream->streams;
    stream->order.source.done(stream->order.source.state);
    stream->order.closed(stream->order.context);
    stream_free(stream);
    pthread_mutex_lock(&streams->lock);
    if (--streams->taken == 0)
        pthread_cond_broadcast(&streams->emptied);
    pthread_mutex_unlock(&streams->lock);
}

static bool has_pending(const struct stream *stream)
{
    return stream->sent < stream->text.used;
}

static bool wants_poll(const struct stream *stream, uint64_t now_ms)
{
    unsigned poll_ms = stream->order.source.poll_ms;
    return poll_ms != 0 && now_ms - stream->asked_ms >= poll_ms;
}

/* Fill the empty text with what there is to say. */
static void refill(struct stream *stream, uint64_t now_ms)
{
    static const char keepalive[] = ": keep-alive\n\n";
    stream->text.used = 0;
    stream->sent = 0;
    if (stream->dirty || wants_poll(stream, now_ms)) {
        enum stream_step step = stream->order.source.read(stream->order.source.state, &stream->text);
        stream->dirty = step == STREAM_MORE;
        stream->ending = step == STREAM_END;
        stream->asked_ms = now_ms;
    }
    if (stream->text.used == 0 && !stream->ending && now_ms - stream->spoken_ms >= STREAM_KEEPALIVE_MS)
        stream_text_add(&stream->text, keepalive, sizeof keepalive - 1);
    stream->progress_ms = now_ms;
}

/* Send what is there. Return: false when the follower is gone. */
static bool push(struct stream *stream, uint64_t now_ms)
{
    while (has_pending(stream)) {
        ssize_t sent = send(stream->order.fd, stream->text.bytes + stream->sent, stream->text.used - stream->sent,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK;
        stream->sent += (size_t)sent;
        stream->progress_ms = now_ms;
        stream->spoken_ms = now_ms;
    }
    return true;
}

/* One turn. Return: false when the stream is over. */
static bool advance(struct stream *stream, short events, uint64_t now_ms)
{
    if ((events & (POLLHUP | POLLERR | POLLNVAL | POLLRDHUP)) != 0)
        return false;
    if (stream->order.allowed != NULL && !stream->order.allowed(stream->order.context)) {
        log_line(stream->streams->log, LOG_INFO, "stream.dropped", "reason=token");
        return false;
    }
    if (!has_pending(stream))
        refill(stream, now_ms);
    if (!push(stream, now_ms))
        return false;
    if (!has_pending(stream))
        return !stream->ending;
    if (now_ms - stream->progress_ms < STREAM_STALL_MS)
        return true;
    log_line(stream->streams->log, LOG_WARNING, "stream.dropped", "reason=slow pending_bytes=%zu",
             stream->text.used - stream->sent);
    return false;
}

/* Monotonic time of the stream's next turn if nothing happens before. */
static uint64_t next_turn_ms(const struct stream *stream)
{
    if (has_pending(stream))
        return stream->progress_ms + STREAM_STALL_MS;
    if (stream->dirty)
        return 0;
    uint64_t at_ms = stream->spoken_ms + STREAM_KEEPALIVE_MS;
    unsigned poll_ms = stream->order.source.poll_ms;
    return poll_ms != 0 && stream->asked_ms + poll_ms < at_ms ? stream->asked_ms + poll_ms : at_ms;
}

/* ---- the thread -------------------------------------------------------------------------------------------------- */

static void drain_wake(struct streams *streams)
{
    wake_take(&streams->wake);
    for (size_t i = 0; i < streams->count; i++)
        streams->running[i]->dirty = true;
}

/* Take in what has begun. Return: false when the thread has to end. */
static bool take_fresh(struct streams *streams, bool *ret_ending)
{
    pthread_mutex_lock(&streams->lock);
    for (size_t i = 0; i < streams->fresh_count; i++)
        streams->running[streams->count++] = streams->fresh[i];
    streams->fresh_count = 0;
    *ret_ending = streams->ending;
    bool goes_on = !streams->closing;
    pthread_mutex_unlock(&streams->lock);
    return goes_on;
}

static void drop_all(struct streams *streams)
{
    for (size_t i = 0; i < streams->count; i++)
        finish(streams->running[i]);
    streams->count = 0;
}

static void wait_for_something(struct streams *streams)
{
    uint64_t until_ms = UINT64_MAX;
    streams->polled[0] = (struct pollfd){.fd = streams->wake.fds[0], .events = POLLIN};
    for (size_t i = 0; i < streams->count; i++) {
        const struct stream *stream = streams->running[i];
        short out = has_pending(stream) ? POLLOUT : 0;
        streams->polled[i + 1] = (struct pollfd){.fd = stream->order.fd, .events = (short)(POLLRDHUP | out)};
        uint64_t at_ms = next_turn_ms(stream);
        until_ms = at_ms < until_ms ? at_ms : until_ms;
    }
    uint64_t now_ms = clock_monotonic_ms();
    int timeout = until_ms == UINT64_MAX ? -1 : until_ms <= now_ms ? 0 : (int)(until_ms - now_ms);
    if (poll(streams->polled, (nfds_t)streams->count + 1, timeout) < 0) {
        for (size_t i = 0; i <= streams->count; i++)
            streams->polled[i].revents = 0; /* EINTR, or no memory for a moment: everybody gets a turn */
    }
}

static void give_turns(struct streams *streams)
{
    uint64_t now_ms = clock_monotonic_ms();
    size_t kept = 0;
    for (size_t i = 0; i < streams->count; i++) {
        struct stream *stream = streams->running[i];
        if (advance(stream, streams->polled[i + 1].revents, now_ms))
            streams->running[kept++] = stream;
        else
            finish(stream);
    }
    streams->count = kept;
}

static void *run(void *context)
{
    struct streams *streams = context;
    bool ending = false;
    while (take_fresh(streams, &ending)) {
        if (ending)
            drop_all(streams);
        wait_for_something(streams);
        if (streams->polled[0].revents != 0)
            drain_wake(streams);
        give_turns(streams);
    }
    drop_all(streams);
    return NULL;
}

/* ---- from outside ------------------------------------------------------------------------------------------------ */

static void streams_free(struct streams *streams)
{
    wake_close(&streams->wake);
    pthread_cond_destroy(&streams->emptied);
    pthread_mutex_destroy(&streams->lock);
    free(streams);
}

int streams_open(const struct log *log, struct streams **ret_streams, struct error *err)
{
    struct streams *streams = calloc(1, sizeof *streams);
    if (streams == NULL)
        return error_set(err, -ENOMEM, "There is no memory for the streams.");
    streams->log = log;
    REQUIRE(pthread_mutex_init(&streams->lock, NULL) == 0);
    REQUIRE(pthread_cond_init(&streams->emptied, NULL) == 0);
    int result = wake_open(&streams->wake);
    if (result == 0)
        result = -pthread_create(&streams->thread, NULL, run, streams);
    if (result < 0) {
        streams_free(streams);
        return error_set(err, result, "The thread of the streams could not be started: %s.", strerror(-result));
    }
    *ret_streams = streams;
    return 0;
}

static void end_streams(struct streams *streams, bool closing)
{
    pthread_mutex_lock(&streams->lock);
    streams->ending = true;
    streams->closing = closing;
    streams_wake(streams);
    while (streams->taken > 0)
        pthread_cond_wait(&streams->emptied, &streams->lock);
    pthread_mutex_unlock(&streams->lock);
}

void streams_end(struct streams *streams)
{
    end_streams(streams, false);
}

void streams_close(struct streams *streams)
{
    if (streams == NULL)
        return;
    end_streams(streams, true);
    pthread_join(streams->thread, NULL);
    streams_free(streams);
}

void streams_wake(struct streams *streams)
{
    wake_up(&streams->wake);
}

size_t streams_count(struct streams *streams)
{
    pthread_mutex_lock(&streams->lock);
    size_t count = streams->taken;
    pthread_mutex_unlock(&streams->lock);
    return count;
}

int stream_prepare(struct streams *streams, const struct stream_order *order, const char *head, size_t head_bytes,
                   struct stream **ret_stream)
{
    struct stream *stream = calloc(1, sizeof *stream);
    char *bytes = malloc(STREAM_BUFFER_BYTES);
    if (stream == NULL || bytes == NULL || head_bytes > STREAM_BUFFER_BYTES) {
        free(stream);
        free(bytes);
        return -ENOMEM;
    }
    uint64_t now_ms = clock_monotonic_ms();
    *stream = (struct stream){.streams = streams,
                              .order = *order,
                              .text = {.bytes = bytes, .capacity = STREAM_BUFFER_BYTES},
                              .dirty = true,
                              .asked_ms = now_ms,
                              .progress_ms = now_ms,
                              .spoken_ms = now_ms};
    stream_text_add(&stream->text, head, head_bytes);
    pthread_mutex_lock(&streams->lock);
    int result = streams->ending ? -ESHUTDOWN : streams->taken == STREAMS_MAX ? -EAGAIN : 0;
    if (result == 0)
        streams->taken++;
    pthread_mutex_unlock(&streams->lock);
    if (result < 0)
        stream_free(stream);
    else
        *ret_stream = stream;
    return result;
}

void stream_begin(struct stream *stream)
{
    struct streams *streams = stream->streams;
    const int bytes = STREAM_SEND_BYTES;
    /* A bounded queue, so that a follower that does not read is noticed; a kernel that refuses has its own bound. */
    setsockopt(stream->order.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    const int on = 1;
    setsockopt(stream->order.fd, IPPROTO_TCP, TCP_NODELAY, &on,
               sizeof on); /* fails on a unix socket, which needs none */
    pthread_mutex_lock(&streams->lock);
    streams->fresh[streams->fresh_count++] = stream; /* as many fit as may be taken */
    pthread_mutex_unlock(&streams->lock);
    streams_wake(streams);
}
