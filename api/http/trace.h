/* Where a request stands in its caller's trace: W3C Trace Context, level 1. */
#ifndef API_HTTP_TRACE_H
#define API_HTTP_TRACE_H

#include <stdbool.h>

enum trace_limits {
    TRACE_ID_BYTES = 33, /* 32 hexadecimal digits and the NUL */
    TRACE_PARENT_BYTES = 17,
};

/** struct trace - The caller's trace and its span that asks; both "" when there is none. Begins as {0} */
struct trace {
    char id[TRACE_ID_BYTES];
    char parent[TRACE_PARENT_BYTES];
};

/**
 * trace_parse() - Read a traceparent header
 * @header:    NULL: there is none
 * @ret_trace: the trace; untouched when the header is not one
 * Return:     whether it is one. A wrong one is no fault of the request: the standard has it ignored
 * Thread:     any
 * Source:     W3C Trace Context sections 3.2 and 4.3: lower case, no zeros, later versions may be longer
 */
bool trace_parse(const char *header, struct trace *ret_trace);

#endif
