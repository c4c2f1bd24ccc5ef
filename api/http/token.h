/* Bearer tokens of the TCP listener, and the file of the first one. The file holds the token; the daemon's memory only its
 * hash. token_set.h has all of them. */
#ifndef API_HTTP_TOKEN_H
#define API_HTTP_TOKEN_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum token_limits {
    TOKEN_RANDOM_BYTES = 32, /* 256 bits */
    TOKEN_TEXT_BYTES = 48,   /* "omt_", 43 characters of base64url, the NUL */
    TOKEN_HASH_BYTES = 32,
    TOKEN_FAILURES_MAX = 30, /* wrong tokens a minute that are answered 401; a person mistypes less often */
};

/** struct token - What is known of a token. */
struct token {
    uint8_t hash[TOKEN_HASH_BYTES];
};

/**
 * token_open() - Take the token of a data folder; make one when there is none
 * @data_dir: folder of mode 0700
 * Return:    0; -EPERM when the file could be read by others or is not ours; -EINVAL when it holds no token; or what
 *            the system said. err names the file, never its content
 * Thread:    any
 */
int token_open(const char *data_dir, struct token *ret_token, struct error *err);

/** token_make() - A new token. @ret_text: with a NUL; to be wiped. Thread: any */
void token_make(char ret_text[static TOKEN_TEXT_BYTES], struct token *ret_token);

/** token_from_text() - The hash of a token's text. Thread: any */
void token_from_text(const char *text, size_t length, struct token *ret_token);

/** token_matches() - Whether this is the token; in constant time. Thread: any */
bool token_matches(const struct token *token, const char *text, size_t length);

/** struct token_limiter - Counts wrong tokens of the minute at hand. Owner: the HTTP server. */
struct token_limiter {
    pthread_mutex_t lock;
    uint64_t window_ms;
    unsigned failures;
};

/** token_limiter_init() - Begin with no failures. Thread: the owner */
void token_limiter_init(struct token_limiter *limiter);

/** token_limiter_done() - End it. Thread: the owner */
void token_limiter_done(struct token_limiter *limiter);

/**
 * token_limiter_fail() - Count one wrong token
 * @now_ms: monotonic
 * Return:  seconds until wrong tokens are answered again; 0 while they still are
 * Thread:  any
 */
unsigned token_limiter_fail(struct token_limiter *limiter, uint64_t now_ms);

#endif
