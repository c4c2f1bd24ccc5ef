/* Entity tags: the generation of a resource in quotes, and the conditions that clients put on it. One set of rules for
 * every resource that has a generation. */
#ifndef API_HTTP_ETAG_H
#define API_HTTP_ETAG_H

#include <stdbool.h>
#include <stdint.h>

#include "api/http/request.h"
#include "api/http/response.h"

enum etag_limits {
    ETAG_BYTES = 24, /* a quoted 64-bit number and the NUL */
};

/** etag_format() - The tag of a generation. Return: @ret_text. Thread: any */
const char *etag_format(uint64_t generation, char ret_text[static ETAG_BYTES]);

/** etag_header() - Put the ETag of a generation on an answer. Thread: the exchange's */
void etag_header(struct response *response, uint64_t generation);

/**
 * etag_matches() - Whether an If-Match lets a change of @generation go on
 * @if_match: the header's value: "*", or a list of tags of which one has to be the same, none of them weak
 * Return:    false also when it is neither; what cannot be read must not let a change through
 * Thread:    any
 * Source:    RFC 9110 sections 8.8.3.2 (strong comparison) and 13.1.1
 */
bool etag_matches(const char *if_match, uint64_t generation);

/**
 * etag_unchanged() - Answer a GET with 304 when If-None-Match names the present generation
 * Return: true when it was answered so
 * Thread: the exchange's
 * Source: RFC 9110 section 13.1.2 (weak comparison)
 */
bool etag_unchanged(const struct request *request, struct response *response, uint64_t generation);

/**
 * etag_allows() - For changes that take If-Match but do not need it
 * Return: true without the header or when it matches; else the answer is 412
 * Thread: the exchange's
 */
bool etag_allows(const struct request *request, struct response *response, uint64_t generation);

/**
 * etag_required() - For PUT and PATCH, which need If-Match
 * Return: true when it matches; else the answer is 428 without the header and 412 with another one
 * Thread: the exchange's
 *
 * A change that races with another one checks the generation once more in its transaction, and answers 412 with
 * etag_refuse() when that fails.
 */
bool etag_required(const struct request *request, struct response *response, uint64_t generation);

/** etag_refuse() - Answer 412; @generation is the present one. Thread: the exchange's */
void etag_refuse(const struct request *request, struct response *response, uint64_t generation);

#endif
