/* The tokens of an installation: names, scopes and hashes in the file `tokens.json` of the data folder (mode 0600). Whoever
 * changes it replaces it whole, so `omertad token` works with and without a daemon; a daemon looks at each use whether it
 * has been replaced, so a token that is revoked stops working at once. No token itself is ever written there. */
#ifndef API_HTTP_TOKEN_SET_H
#define API_HTTP_TOKEN_SET_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "api/http/token.h"
#include "base/error.h"

enum token_set_limits {
    TOKENS_MAX = 64, /* revoked ones included until their place is needed */
    TOKEN_NAME_BYTES = 64,
    TOKEN_PATH_BYTES = 512,
};

/** The name of the token whose text stands in the file `token`: made at the first start, with scope admin. */
#define TOKEN_FIRST "first"

/** enum token_scope - What a token allows; each includes those before it. */
enum token_scope {
    TOKEN_READ,  /* look at everything */
    TOKEN_LEASE, /* and make, change and end leases */
    TOKEN_ADMIN, /* and change the node */
    TOKEN_SCOPE_COUNT,
};

/** token_scope_name() - "read" and so on. Thread: any */
const char *token_scope_name(enum token_scope scope);

/** token_scope_parse() - By name. Return: true when there is such a scope. Thread: any */
bool token_scope_parse(const char *name, enum token_scope *ret_scope);

/** struct token_entry - One token. @revoked_ms: wall clock, 0 while it is good */
struct token_entry {
    char name[TOKEN_NAME_BYTES];
    enum token_scope scope;
    struct token token;
    uint64_t created_ms;
    uint64_t revoked_ms;
};

/** struct token_list - All of them, in the order of their making. */
struct token_list {
    size_t count;
    struct token_entry entries[TOKENS_MAX];
};

/**
 * token_list_read() - Read the file
 * @ret_list: empty when there is no file
 * Return:    0; -EPERM when the file could be read by others or is not ours; -EINVAL when it is not such a file; or what
 *            the system said
 * Thread:    any
 */
int token_list_read(const char *data_dir, struct token_list *ret_list, struct error *err);

/**
 * token_list_prepare() - For the daemon's start: have a first token, unless that was revoked
 * Return: 0, or as token_open() and token_list_read()
 * Thread: any; other processes are kept out meanwhile
 */
int token_list_prepare(const char *data_dir, struct error *err);

/**
 * token_list_add() - Make a token
 * @name:     lower-case letters, digits, '.', '_', '-'; begins with a letter or digit
 * @ret_text: the token, to be shown once and wiped
 * Return:    0; -EINVAL for a bad name; -EEXIST when a good token has the name; -ENOSPC when there are TOKENS_MAX good ones
 * Thread:    any; other processes are kept out meanwhile
 */
int token_list_add(const char *data_dir, const char *name, enum token_scope scope,
                   char ret_text[static TOKEN_TEXT_BYTES], struct error *err);

/** token_list_revoke() - Make a token worthless. Return: 0; -ENOENT when no good token has the name. Thread: as above */
int token_list_revoke(const char *data_dir, const char *name, struct error *err);

/** struct tokens - The list as a daemon uses it. Owner: main(); outlives the HTTP server. */
struct tokens {
    char path[TOKEN_PATH_BYTES]; /* "" for a list that never changes */
    pthread_mutex_t lock;        /* for what follows */
    struct stat seen;            /* of the file that @list was read from */
    struct token_list list;
};

/** tokens_init() - A list that never changes. Thread: the owner */
void tokens_init(struct tokens *tokens, const struct token_list *list);

/** tokens_open() - Prepare a data folder and follow its file. Return: as token_list_prepare(). Thread: the owner */
int tokens_open(const char *data_dir, struct tokens *tokens, struct error *err);

/** tokens_done() - End it. Thread: the owner, once nobody uses it */
void tokens_done(struct tokens *tokens);

/**
 * tokens_find() - What a token allows at this moment; in constant time for a given number of tokens
 * Return: false when it is none, was revoked, or the file cannot be read any more
 * Thread: any
 */
bool tokens_find(struct tokens *tokens, const struct token *presented, enum token_scope *ret_scope);

#endif
