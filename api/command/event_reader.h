/* Takes events out of a stream of server-sent events, in whatever pieces it comes. */
#ifndef API_COMMAND_EVENT_READER_H
#define API_COMMAND_EVENT_READER_H

#include <stdbool.h>
#include <stddef.h>

enum event_reader_limits {
    EVENT_READER_LINE_BYTES = 32768, /* an event's JSON is a tenth of it; a longer line is left out */
    EVENT_READER_ID_BYTES = 64,
};

/** struct event_reader - Where in the stream we are. Begins as {0}. Owner: the caller. */
struct event_reader {
    char line[EVENT_READER_LINE_BYTES];
    size_t used;
    bool overlong; /* the rest of this line is left out */
    char id[EVENT_READER_ID_BYTES];
    char data[EVENT_READER_LINE_BYTES]; /* of the event that is being read; "" while there is none */
};

/**
 * event_reader_feed() - Take the next bytes
 * @on_event: called for each whole event with its id ("" for none) and its data; both are good for the call alone
 * Thread:    the owner
 * Source:    HTML Living Standard, section 9.2.6. Of several `data` lines of an event, which ours do not have, the last
 *            holds
 */
void event_reader_feed(struct event_reader *reader, const char *bytes, size_t length,
                       void (*on_event)(void *context, const char *id, const char *data), void *context);

#endif
