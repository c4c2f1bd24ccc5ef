/* vfkit's control interface: HTTP over a unix socket, one request on each connection. The hypervisor is not trusted further
 * than the guest that may have taken it over: an answer is bounded, and never waited for. */
#ifndef VMM_REST_H
#define VMM_REST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum rest_limits {
    REST_ANSWER_BYTES = 4096, /* what we ask for takes 400 */
    REST_STATE_BYTES = 40,
    REST_PENDING_MS = 2000, /* without an answer for so long a question is asked again */
};

enum rest_request { REST_GET_STATE, REST_STOP, REST_HARD_STOP };

/**
 * struct rest - One request at most, and its answer as far as it has come
 * @fd:      non-blocking; -1 while nothing is asked
 * @sent_ms: monotonic
 *
 * Owner: the machine.
 */
struct rest {
    int fd;
    enum rest_request request;
    uint64_t sent_ms;
    size_t used;
    char buffer[REST_ANSWER_BYTES];
};

/**
 * struct rest_answer - What came back
 * @request: what it answers
 * @status:  HTTP's
 * @state:   of the machine, as "Running"; "" when the answer names none
 */
struct rest_answer {
    enum rest_request request;
    int status;
    char state[REST_STATE_BYTES];
};

/** rest_init() - Nothing is asked. Thread: the owner */
void rest_init(struct rest *rest);

/**
 * rest_send() - Ask; what was asked before is not waited for any more
 * @path:   where vfkit listens
 * @now_ms: monotonic
 * Return:  0; negative when nobody listens there or the request could not be sent as a whole
 * Thread:  the owner
 */
int rest_send(struct rest *rest, const char *path, enum rest_request request, uint64_t now_ms, struct error *err);

/** rest_is_pending() - Whether an answer may still come. @now_ms: monotonic. Thread: the owner */
bool rest_is_pending(const struct rest *rest, uint64_t now_ms);

/**
 * rest_receive() - Take in what has come; the connection is closed with the answer's end
 * @ret_answer: filled when the answer is there
 * Return:      1 for an answer; 0 when more has to come first; -EPROTO for what is no answer, -EPIPE when nothing is asked
 * Thread:      the owner; one read(2)
 */
int rest_receive(struct rest *rest, struct rest_answer *ret_answer, struct error *err);

/** rest_close() - Ask no more. Thread: the owner */
void rest_close(struct rest *rest);

#endif
