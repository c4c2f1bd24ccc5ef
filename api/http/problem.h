/* Problem documents (RFC 9457): the one table of what can go wrong, and the answers made from it. */
#ifndef API_HTTP_PROBLEM_H
#define API_HTTP_PROBLEM_H

#include <stdbool.h>

#include "api/http/request.h"
#include "api/http/response.h"
#include "api/json/decode.h"
#include "base/error.h"
#include "base/log.h"

enum problem {
    PROBLEM_BAD_REQUEST,
    PROBLEM_MALFORMED_JSON,
    PROBLEM_UNEXPECTED_BODY,
    PROBLEM_QUERY_INVALID,
    PROBLEM_IDEMPOTENCY_NOT_SUPPORTED,
    PROBLEM_IDEMPOTENCY_KEY_INVALID,
    PROBLEM_IDEMPOTENCY_KEY_REUSED,
    PROBLEM_REQUEST_IN_FLIGHT,
    PROBLEM_TOO_MANY_KEYS,
    PROBLEM_UNAUTHORIZED,
    PROBLEM_INSUFFICIENT_SCOPE,
    PROBLEM_ORIGIN_FORBIDDEN,
    PROBLEM_PEER_FORBIDDEN,
    PROBLEM_NOT_FOUND,
    PROBLEM_LEASE_NOT_FOUND,
    PROBLEM_VIOLATION_NOT_FOUND,
    PROBLEM_PEER_NOT_FOUND,
    PROBLEM_IMAGE_NOT_FOUND,
    PROBLEM_RANGE_NOT_SATISFIABLE,
    PROBLEM_EVIDENCE_ABSENT,
    PROBLEM_CURSOR_UNKNOWN,
    PROBLEM_EVENTS_AHEAD,
    PROBLEM_EVENTS_PRUNED,
    PROBLEM_EVENTS_EPOCH_CHANGED,
    PROBLEM_TOO_MANY_STREAMS,
    PROBLEM_EVIDENCE_PURGED,
    PROBLEM_METHOD_NOT_ALLOWED,
    PROBLEM_NOT_ACCEPTABLE,
    PROBLEM_MACHINE_ABSENT,
    PROBLEM_COUNTERS_ABSENT,
    PROBLEM_POLICY_ABSENT,
    PROBLEM_LEASE_NOT_RUNNING,
    PROBLEM_PEER_IN_USE,
    PROBLEM_LEASE_ENDED,
    PROBLEM_HEARTBEAT_NOT_WATCHED,
    PROBLEM_DIRECT_UNAVAILABLE,
    PROBLEM_IMAGE_MANIFEST_INVALID,
    PROBLEM_IMAGE_FILE_MISSING,
    PROBLEM_IMAGE_DIGEST_MISMATCH,
    PROBLEM_PRECONDITION_FAILED,
    PROBLEM_PRECONDITION_REQUIRED,
    PROBLEM_BODY_TOO_LARGE,
    PROBLEM_EXPECTATION_FAILED,
    PROBLEM_TARGET_TOO_LONG,
    PROBLEM_UNSUPPORTED_MEDIA_TYPE,
    PROBLEM_MISDIRECTED_REQUEST,
    PROBLEM_VALIDATION_FAILED,
    PROBLEM_ENDPOINT_FORBIDDEN,
    PROBLEM_MODE_NOT_ALLOWED,
    PROBLEM_PACKAGES_UNUSABLE,
    PROBLEM_ONLINE_INSTALL_NOT_ALLOWED,
    PROBLEM_TOO_MANY_FAILURES,
    PROBLEM_HEADERS_TOO_LARGE,
    PROBLEM_INTERNAL_ERROR,
    PROBLEM_NOT_READY,
    PROBLEM_SHUTTING_DOWN,
    PROBLEM_DRAINING,
    PROBLEM_STORE_UNAVAILABLE,
    PROBLEM_VERIFICATION_BUSY,
    PROBLEM_POLICY_BUSY,
    PROBLEM_POLICY_NOT_ENFORCED,
    PROBLEM_INSUFFICIENT_CAPACITY,
    PROBLEM_COUNT,
};

enum problem_limits {
    PROBLEM_RETRY_AFTER_S = 2, /* for what passes by itself within seconds: probes, a busy store, a verification */
    PROBLEM_DRAINING_RETRY_AFTER_S = 60, /* an operator decides */
};

/** struct problem_type - One kind of failure as the API names it. */
struct problem_type {
    const char *slug;        /* last part of the type's URI */
    unsigned status;         /* usual status; a request that fails validation answers 422 whatever the type */
    const char *title;       /* the same for every occurrence */
    bool retryable;          /* the same request may succeed later, unchanged */
    const char *explanation; /* what it means and what to do; served at /v1/problems/{slug} */
};

/** problem_type() - The entry of one problem. Thread: any */
const struct problem_type *problem_type(enum problem problem);

/** problem_find() - By slug. Return: true when there is such a problem. Thread: any */
bool problem_find(const char *slug, enum problem *ret_problem);

/**
 * problem_respond() - Answer with a problem
 * @request: its path becomes the instance
 * @format:  printf format of the detail, a sentence about this occurrence; for "" it is the type's explanation
 * Thread:   the exchange's
 */
void problem_respond(struct response *response, const struct request *request, enum problem problem, const char *format,
                     ...) __attribute__((format(printf, 4, 5)));

/**
 * problem_respond_error() - Answer with the problem that a failed call stands for
 * @err:      slug decides, else code. What has no problem of its own is a 500 whose cause goes to the log alone
 * @lease_id: or NULL
 * Thread:    the exchange's
 */
void problem_respond_error(struct response *response, const struct request *request, const struct error *err,
                           const char *lease_id, const struct log *log);

/**
 * problem_respond_invalid() - Answer 422 with every error found in a document
 * @errors: at least one. When all of them carry one slug, that is the problem's type, else `validation-failed`
 * Thread:  the exchange's
 */
void problem_respond_invalid(struct response *response, const struct request *request,
                             const struct decode_errors *errors);

/**
 * problem_respond_query() - Answer 400 `query-invalid`; `errors` names the parameter
 * @name:   the query parameter
 * @format: printf format of what is wrong with it, a sentence that begins after its name ("must be ...")
 * Thread:  the exchange's
 */
void problem_respond_query(struct response *response, const struct request *request, const char *name,
                           const char *format, ...) __attribute__((format(printf, 4, 5)));

/**
 * problem_parse_body() - Read the body of a request as one JSON object
 * @ret_tree: owned by the caller
 * Return:    true; false when the response says what is wrong with it
 * Thread:    the exchange's
 */
bool problem_parse_body(struct response *response, const struct request *request, json_t **ret_tree,
                        const struct log *log);

/** problem_respond_unready() - Answer 503 `not-ready` with a reason for each part that is not. As above. */
void problem_respond_unready(struct response *response, const struct request *request,
                             const struct decode_errors *reasons);

#endif
