/* Answers that go on: server-sent events. One thread writes to all of them and sleeps while nothing happens, so that
 * followers cost ordinary requests neither a thread nor a turn.
 *
 * A source says what comes next whenever it is asked; it is asked after streams_wake(), and every poll_ms if it wants
 * that. A follower that takes nothing for STREAM_STALL_MS is dropped, and one whose end is closed at once; a comment
 * every STREAM_KEEPALIVE_MS finds those that went without a word. */
#ifndef API_HTTP_STREAM_H
#define API_HTTP_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"

enum stream_limits {
    STREAMS_MAX = 256,           /* of all listeners; further ones are told to come back */
    STREAM_BUFFER_BYTES = 32768, /* holds the largest event; touched only as far as it is used */
    STREAM_SEND_BYTES = 65536,   /* of the kernel's, per follower */
    STREAM_KEEPALIVE_MS = 15000, /* proxies and clients count half a minute of silence as an end */
    STREAM_STALL_MS = 10000,     /* without a byte taken although there are some */
};

/** struct stream_text - What a source writes into. Owner: the stream. */
struct stream_text {
    char *bytes;
    size_t used;
    size_t capacity;
};

/** stream_text_add() - Append bytes. Return: false, and nothing was added, when they do not fit. Thread: the text's */
bool stream_text_add(struct stream_text *text, const char *bytes, size_t length);

/** stream_text_print() - As stream_text_add() with printf's format */
bool stream_text_print(struct stream_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

enum stream_step {
    STREAM_WAIT, /* nothing more before the next streams_wake() or poll */
    STREAM_MORE, /* ask again once this is sent */
    STREAM_END,  /* end the stream once this is sent */
};

/**
 * struct stream_source - Where a stream's bytes come from
 * @read:    appends whole frames to an empty text; must not wait. Runs on the streams' thread
 * @done:    frees @state; runs on the streams' thread, or on the caller's if the stream never began
 * @poll_ms: ask that often without being woken; 0 for not at all
 *
 * A NULL @read means that there is no stream.
 */
struct stream_source {
    enum stream_step (*read)(void *state, struct stream_text *text);
    void (*done)(void *state);
    void *state;
    unsigned poll_ms;
};

struct streams;
struct stream;

/**
 * streams_open() - Start the thread
 * @log:         lines about followers that are dropped; may be NULL
 * @ret_streams: owned by the caller until streams_close()
 * Return:       0 or negative
 * Thread:       any
 */
int streams_open(const struct log *log, struct streams **ret_streams, struct error *err);

/** streams_end() - End every stream, and each that would begin from now on; returns when all are. Thread: the owner */
void streams_end(struct streams *streams);

/** streams_close() - As streams_end(), then end the thread and free. @streams: NULL is allowed. Thread: the owner */
void streams_close(struct streams *streams);

/** streams_wake() - Have every source asked again. Thread: any; takes no lock and never waits */
void streams_wake(struct streams *streams);

/** streams_count() - Followers at present. Thread: any */
size_t streams_count(struct streams *streams);

/**
 * struct stream_order - A stream to be
 * @fd:     connected socket, not owned; untouched by others until @closed was called
 * @allowed: asked before each turn whether the stream may go on; NULL: always
 * @closed: called once, from the streams' thread or from stream_begin()
 */
struct stream_order {
    int fd;
    struct stream_source source;
    bool (*allowed)(void *context);
    void (*closed)(void *context);
    void *context;
};

/**
 * stream_prepare() - Take a place
 * @head:   what is sent before anything of the source
 * Return:  0; -EAGAIN when STREAMS_MAX are taken, -ENOMEM, -ESHUTDOWN. The source stays the caller's then
 * Thread:  any
 */
int stream_prepare(struct streams *streams, const struct stream_order *order, const char *head, size_t head_bytes,
                   struct stream **ret_stream);

/** stream_begin() - Let it run; it belongs to the streams from now on. Thread: any */
void stream_begin(struct stream *stream);

#endif
