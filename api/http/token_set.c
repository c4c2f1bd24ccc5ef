#include "api/http/token_set.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "base/clock.h"
#include "base/scope.h"

enum {
    FILE_BYTES_MAX = 65536, /* 64 entries of about 250 bytes are a quarter of it */
};

static const char *const scope_names[TOKEN_SCOPE_COUNT] = {
    [TOKEN_READ] = "read", [TOKEN_LEASE] = "lease", [TOKEN_ADMIN] = "admin"};

const char *token_scope_name(enum token_scope scope)
{
    return scope_names[scope];
}

bool token_scope_parse(const char *name, enum token_scope *ret_scope)
{
    for (int i = 0; i < TOKEN_SCOPE_COUNT; i++) {
        if (strcmp(name, scope_names[i]) == 0) {
            *ret_scope = (enum token_scope)i;
            return true;
        }
    }
    return false;
}

static bool name_is_good(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length < TOKEN_NAME_BYTES && strchr("._-", name[0]) == NULL &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") == length;
}

static int make_path(const char *data_dir, const char *name, char ret_path[static TOKEN_PATH_BYTES], struct error *err)
{
    int length = snprintf(ret_path, TOKEN_PATH_BYTES, "%s/%s", data_dir, name);
    return length > 0 && length < TOKEN_PATH_BYTES
               ? 0
               : error_set(err, -ENAMETOOLONG, "The path of the data folder is too long.");
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

static bool decode_entry(const json_t *json, struct token_entry *ret_entry)
{
    const char *name = json_string_value(json_object_get(json, "name"));
    const char *scope = json_string_value(json_object_get(json, "scope"));
    const char *hash = json_string_value(json_object_get(json, "hash"));
    const json_t *revoked = json_object_get(json, "revoked_ms");
    size_t length = 0;
    if (name == NULL || scope == NULL || hash == NULL || !name_is_good(name) ||
        !token_scope_parse(scope, &ret_entry->scope))
        return false;
    snprintf(ret_entry->name, sizeof ret_entry->name, "%s", name);
    ret_entry->created_ms = (uint64_t)json_integer_value(json_object_get(json, "created_ms"));
    ret_entry->revoked_ms = (uint64_t)json_integer_value(revoked);
    return json_is_integer(revoked) && strlen(hash) == sizeof ret_entry->token.hash * 2 &&
           sodium_hex2bin(ret_entry->token.hash, sizeof ret_entry->token.hash, hash, strlen(hash), NULL, &length,
                          NULL) == 0 &&
           length == TOKEN_HASH_BYTES;
}

static bool decode_list(const json_t *root, struct token_list *ret_list)
{
    const json_t *tokens = json_object_get(root, "tokens");
    size_t index;
    const json_t *entry;
    if (!json_is_array(tokens) || json_array_size(tokens) > TOKENS_MAX)
        return false;
    json_array_foreach(tokens, index, entry)
    {
        if (!decode_entry(entry, &ret_list->entries[index]))
            return false;
        ret_list->count = index + 1;
    }
    return true;
}

static int read_list(int fd, const char *path, struct token_list *ret_list, struct stat *ret_status, struct error *err)
{
    static const char advice[] = "mend it, or remove it: then the token in the file `token` alone is good";
    if (fstat(fd, ret_status) != 0)
        return error_set(err, -errno, "%s cannot be examined: %s.", path, strerror(errno));
    if (!S_ISREG(ret_status->st_mode) || ret_status->st_uid != geteuid() || (ret_status->st_mode & 077) != 0)
        return error_set(err, -EPERM, "%s must be a file of this user with mode 0600; `chmod 600` it.", path);
    if (ret_status->st_size > FILE_BYTES_MAX)
        return error_set(err, -EINVAL, "%s is too large to be a list of tokens; %s.", path, advice);
    json_t *root = json_loadfd(fd, JSON_REJECT_DUPLICATES, NULL);
    *ret_list = (struct token_list){0};
    bool good = root != NULL && decode_list(root, ret_list);
    json_decref(root);
    return good ? 0 : error_set(err, -EINVAL, "%s is no list of tokens; %s.", path, advice);
}

static int open_list(const char *path)
{
    return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

int token_list_read(const char *data_dir, struct token_list *ret_list, struct error *err)
{
    char path[TOKEN_PATH_BYTES];
    struct stat status;
    int result = make_path(data_dir, "tokens.json", path, err);
    if (result < 0)
        return result;
    int fd SCOPED_FD = open_list(path);
    if (fd >= 0)
        return read_list(fd, path, ret_list, &status, err);
    if (errno != ENOENT)
        return error_set(err, -errno, "%s cannot be opened: %s.", path, strerror(errno));
    *ret_list = (struct token_list){0};
    return 0;
}

static json_t *encode_list(const struct token_list *list)
{
    json_t *tokens = json_array();
    for (size_t i = 0; i < list->count; i++) {
        const struct token_entry *entry = &list->entries[i];
        char hash[2 * TOKEN_HASH_BYTES + 1];
        sodium_bin2hex(hash, sizeof hash, entry->token.hash, TOKEN_HASH_BYTES);
        json_array_append_new(tokens,
                              json_pack("{s:s, s:s, s:s, s:I, s:I}", "name", entry->name, "scope",
                                        token_scope_name(entry->scope), "hash", hash, "created_ms",
                                        (json_int_t)entry->created_ms, "revoked_ms", (json_int_t)entry->revoked_ms));
    }
    return json_array_size(tokens) == list->count ? json_pack("{s:o}", "tokens", tokens) : NULL;
}

static int write_list(const char *data_dir, const struct token_list *list, struct error *err)
{
    char path[TOKEN_PATH_BYTES];
    char fresh[TOKEN_PATH_BYTES];
    int result = make_path(data_dir, "tokens.json", path, err);
    if (result == 0)
        result = make_path(data_dir, ".tokens.XXXXXX", fresh, err);
    if (result < 0)
        return result;
    int fd SCOPED_FD = mkostemp(fresh, O_CLOEXEC); /* mode 0600 */
    int folder SCOPED_FD = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || folder < 0)
        return error_set(err, -errno, "No file can be made in %s: %s.", data_dir, strerror(errno));
    json_t *root = encode_list(list);
    errno = ENOMEM;
    bool done = root != NULL && json_dumpfd(root, fd, JSON_INDENT(1)) == 0 && fsync(fd) == 0 &&
                rename(fresh, path) == 0 && fsync(folder) == 0;
    int cause = errno;
    json_decref(root);
    if (!done)
        unlink(fresh);
    return done ? 0 : error_set(err, -cause, "%s cannot be written: %s.", path, strerror(cause));
}

/* ---- changes ----------------------------------------------------------------------------------------------------- */

/* One change at a time, by whatever process. Return: a descriptor to be closed, or negative. */
static int lock_list(const char *data_dir, struct error *err)
{
    char path[TOKEN_PATH_BYTES];
    int result = make_path(data_dir, "tokens.lock", path, err);
    if (result < 0)
        return result;
    int fd SCOPED_FD = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) != 0)
        return error_set(err, -errno, "%s cannot be locked: %s.", path, strerror(errno));
    return fd_take(&fd);
}

/* The good entry of a name, else (with @revoked) the revoked one. */
static struct token_entry *find_name(struct token_list *list, const char *name, bool revoked)
{
    for (size_t i = 0; i < list->count; i++) {
        struct token_entry *entry = &list->entries[i];
        if (strcmp(entry->name, name) == 0 && (entry->revoked_ms != 0) == revoked)
            return entry;
    }
    return NULL;
}

/* Room for one more; the oldest revoked one gives its place, but for the first token's, which keeps it from coming again. */
static struct token_entry *append(struct token_list *list)
{
    for (size_t i = 0; list->count == TOKENS_MAX && i < list->count; i++) {
        struct token_entry *entry = &list->entries[i];
        if (entry->revoked_ms == 0 || strcmp(entry->name, TOKEN_FIRST) == 0)
            continue;
        memmove(entry, entry + 1, (list->count - i - 1) * sizeof *entry);
        list->count--;
    }
    return list->count == TOKENS_MAX ? NULL : &list->entries[list->count++];
}

int token_list_prepare(const char *data_dir, struct error *err)
{
    struct token_list list;
    struct token first;
    int lock SCOPED_FD = lock_list(data_dir, err);
    if (lock < 0)
        return lock;
    int result = token_list_read(data_dir, &list, err);
    if (result < 0 || find_name(&list, TOKEN_FIRST, true) != NULL)
        return result;
    result = token_open(data_dir, &first, err);
    if (result < 0)
        return result;
    struct token_entry *entry = find_name(&list, TOKEN_FIRST, false);
    if (entry != NULL && memcmp(entry->token.hash, first.hash, sizeof first.hash) == 0)
        return 0;
    if (entry == NULL)
        entry = append(&list);
    if (entry == NULL)
        return error_set(err, -ENOSPC, "There are %d tokens already; revoke one.", TOKENS_MAX);
    *entry =
        (struct token_entry){.name = TOKEN_FIRST, .scope = TOKEN_ADMIN, .token = first, .created_ms = clock_wall_ms()};
    return write_list(data_dir, &list, err);
}

int token_list_add(const char *data_dir, const char *name, enum token_scope scope,
                   char ret_text[static TOKEN_TEXT_BYTES], struct error *err)
{
    struct token_list list;
    struct token token;
    if (!name_is_good(name))
        return error_set(err, -EINVAL,
                         "A token's name has up to %d lower-case letters, digits, '.', '_' or '-', and begins with a "
                         "letter or digit.",
                         TOKEN_NAME_BYTES - 1);
    int lock SCOPED_FD = lock_list(data_dir, err);
    if (lock < 0)
        return lock;
    int result = token_list_read(data_dir, &list, err);
    if (result < 0)
        return result;
    if (find_name(&list, name, false) != NULL || strcmp(name, TOKEN_FIRST) == 0)
        return error_set(err, -EEXIST, "There is a token \"%s\" already.", name);
    struct token_entry *entry = append(&list);
    if (entry == NULL)
        return error_set(err, -ENOSPC, "There are %d tokens already; revoke one.", TOKENS_MAX);
    char text[TOKEN_TEXT_BYTES];
    token_make(text, &token);
    *entry = (struct token_entry){.scope = scope, .token = token, .created_ms = clock_wall_ms()};
    snprintf(entry->name, sizeof entry->name, "%s", name);
    result = write_list(data_dir, &list, err);
    if (result == 0)
        memcpy(ret_text, text, sizeof text);
    sodium_memzero(text, sizeof text);
    return result;
}

int token_list_revoke(const char *data_dir, const char *name, struct error *err)
{
    struct token_list list;
    char path[TOKEN_PATH_BYTES];
    int lock SCOPED_FD = lock_list(data_dir, err);
    if (lock < 0)
        return lock;
    int result = token_list_read(data_dir, &list, err);
    if (result < 0)
        return result;
    struct token_entry *entry = find_name(&list, name, false);
    if (entry == NULL)
        return error_set(err, -ENOENT, "There is no token of this name that could be revoked.");
    entry->revoked_ms = clock_wall_ms();
    result = write_list(data_dir, &list, err);
    /* Its text is of no use to anybody any more. */
    if (result == 0 && strcmp(name, TOKEN_FIRST) == 0 && make_path(data_dir, "token", path, err) == 0)
        unlink(path);
    return result;
}

/* ---- use --------------------------------------------------------------------------------------------------------- */

void tokens_init(struct tokens *tokens, const struct token_list *list)
{
    *tokens = (struct tokens){.list = *list};
    REQUIRE(pthread_mutex_init(&tokens->lock, NULL) == 0);
}

int tokens_open(const char *data_dir, struct tokens *tokens, struct error *err)
{
    const struct token_list none = {0};
    int result = token_list_prepare(data_dir, err);
    if (result < 0)
        return result;
    tokens_init(tokens, &none);
    return make_path(data_dir, "tokens.json", tokens->path, err);
}

void tokens_done(struct tokens *tokens)
{
    pthread_mutex_destroy(&tokens->lock);
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Under the lock. A file that is gone or damaged leaves no token good: what it would say is not known. */
static void refresh(struct tokens *tokens)
{
    struct stat status;
    if (tokens->path[0] == '\0' || (stat(tokens->path, &status) == 0 && is_same_file(&status, &tokens->seen)))
        return;
    int fd SCOPED_FD = open_list(tokens->path);
    tokens->seen = (struct stat){0};
    if (fd < 0 || read_list(fd, tokens->path, &tokens->list, &tokens->seen, NULL) < 0) {
        tokens->list.count = 0;
        tokens->seen = (struct stat){0};
    }
}

bool tokens_find(struct tokens *tokens, const struct token *presented, enum token_scope *ret_scope)
{
    bool found = false;
    pthread_mutex_lock(&tokens->lock);
    refresh(tokens);
    for (size_t i = 0; i < tokens->list.count; i++) {
        const struct token_entry *entry = &tokens->list.entries[i];
        if (sodium_memcmp(presented->hash, entry->token.hash, TOKEN_HASH_BYTES) == 0 && entry->revoked_ms == 0) {
            found = true;
            *ret_scope = entry->scope;
        }
    }
    pthread_mutex_unlock(&tokens->lock);
    return found;
}
