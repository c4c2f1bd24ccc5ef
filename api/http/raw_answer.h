/* Answers that the HTTP library does not send: the head of a stream, and refusals of what it never sees or would wait for
 * in vain. And the headers that every answer has, whoever sends it. */
#ifndef API_HTTP_RAW_ANSWER_H
#define API_HTTP_RAW_ANSWER_H

#include "api/http/problem.h"
#include "api/http/request.h"
#include "api/http/response.h"
#include "api/http/stream.h"

enum raw_answer_limits {
    RAW_ANSWER_HEAD_BYTES = 1024, /* status line and headers */
};

/** struct raw_answer_header - One header that every answer has. */
struct raw_answer_header {
    const char *name;
    const char *value;
};

/** All of them, ended by a NULL name. */
extern const struct raw_answer_header raw_answer_headers[];

/**
 * raw_answer_head() - Status line and headers of an answer that ends with its connection
 * @status:   as "200 OK"
 * @request:  its id is told
 * @ret_text: RAW_ANSWER_HEAD_BYTES are enough
 * Thread:    any
 */
void raw_answer_head(const char *status, const struct request *request, const struct response *response,
                     struct stream_text *ret_text);

/**
 * raw_answer_send() - A whole small answer, after which our direction is shut down
 * @status: as for raw_answer_head()
 * @fd:     connected; stays the caller's. What does not fit into its queue at once is not worth a wait
 * Thread:  any
 */
void raw_answer_send(int fd, const char *status, const struct request *request, const struct response *response);

/**
 * raw_answer_refuse() - Refuse what is not handed on to the library, and shut our direction down
 * @fd:     connected; stays the caller's
 * @status: as for raw_answer_head()
 * @detail: "" for the problem's own explanation
 * Thread:  any
 */
void raw_answer_refuse(int fd, const char *status, enum problem problem, const char *detail);

#endif
