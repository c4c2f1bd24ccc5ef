#include "api/http/token.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/scope.h"

enum {
    WINDOW_MS = 60000,
    PATH_BYTES = 512,
};

static const char prefix[] = "omt_";

void token_from_text(const char *text, size_t length, struct token *ret_token)
{
    crypto_generichash(ret_token->hash, sizeof ret_token->hash, (const unsigned char *)text, length, NULL, 0);
}

bool token_matches(const struct token *token, const char *text, size_t length)
{
    /* Comparing hashes of equal length says nothing about the length of what was presented. */
    struct token presented;
    token_from_text(text, length, &presented);
    return sodium_memcmp(presented.hash, token->hash, sizeof token->hash) == 0;
}

static int read_token(int fd, const char *path, struct token *ret_token, struct error *err)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return error_set(err, -errno, "The token file %s cannot be examined: %s.", path, strerror(errno));
    if (!S_ISREG(status.st_mode) || status.st_uid != geteuid() || (status.st_mode & 077) != 0)
        return error_set(err, -EPERM,
                         "The token file %s must be a file of this user with mode 0600; `chmod 600` it, or remove it "
                         "and a new one is made.",
                         path);
    char text[TOKEN_TEXT_BYTES + 1];
    ssize_t got = read(fd, text, sizeof text);
    size_t length = got > 0 && text[got - 1] == '\n' ? (size_t)got - 1 : (size_t)(got < 0 ? 0 : got);
    bool good = length == TOKEN_TEXT_BYTES - 1 && memcmp(text, prefix, sizeof prefix - 1) == 0;
    if (good)
        token_from_text(text, length, ret_token);
    sodium_memzero(text, sizeof text);
    return good ? 0
                : error_set(err, -EINVAL, "The token file %s holds no token; remove it and a new one is made.", path);
}

void token_make(char ret_text[static TOKEN_TEXT_BYTES], struct token *ret_token)
{
    uint8_t random[TOKEN_RANDOM_BYTES];
    randombytes_buf(random, sizeof random);
    memcpy(ret_text, prefix, sizeof prefix - 1);
    sodium_bin2base64(ret_text + sizeof prefix - 1, TOKEN_TEXT_BYTES - sizeof prefix + 1, random, sizeof random,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    token_from_text(ret_text, TOKEN_TEXT_BYTES - 1, ret_token);
    sodium_memzero(random, sizeof random);
}

static int write_token(const char *data_dir, const char *path, struct token *ret_token, struct error *err)
{
    char fresh[PATH_BYTES];
    snprintf(fresh, sizeof fresh, "%s/.token.XXXXXX", data_dir);
    int fd SCOPED_FD = mkostemp(fresh, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return error_set(err, -errno, "No token can be made in %s: %s.", data_dir, strerror(errno));

    char text[TOKEN_TEXT_BYTES];
    token_make(text, ret_token);
    text[TOKEN_TEXT_BYTES - 1] = '\n';
    /* link() and not rename(): a token that another process has just made stays. */
    bool done = write(fd, text, TOKEN_TEXT_BYTES) == TOKEN_TEXT_BYTES && fsync(fd) == 0 && link(fresh, path) == 0;
    int cause = errno;
    unlink(fresh);
    sodium_memzero(text, sizeof text);
    return done ? 0 : error_set(err, -cause, "The token file %s cannot be written: %s.", path, strerror(cause));
}

int token_open(const char *data_dir, struct token *ret_token, struct error *err)
{
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/token", data_dir) >= PATH_BYTES - 16)
        return error_set(err, -ENAMETOOLONG, "The path of the data folder is too long.");
    int fd SCOPED_FD = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0)
        return read_token(fd, path, ret_token, err);
    if (errno != ENOENT)
        return error_set(err, -errno, "The token file %s cannot be opened: %s.", path, strerror(errno));
    return write_token(data_dir, path, ret_token, err);
}

void token_limiter_init(struct token_limiter *limiter)
{
    *limiter = (struct token_limiter){0};
    REQUIRE(pthread_mutex_init(&limiter->lock, NULL) == 0);
}

void token_limiter_done(struct token_limiter *limiter)
{
    pthread_mutex_destroy(&limiter->lock);
}

unsigned token_limiter_fail(struct token_limiter *limiter, uint64_t now_ms)
{
    pthread_mutex_lock(&limiter->lock);
    if (limiter->failures == 0 || now_ms - limiter->window_ms >= WINDOW_MS) {
        limiter->window_ms = now_ms;
        limiter->failures = 0;
    }
    if (limiter->failures <= TOKEN_FAILURES_MAX)
        limiter->failures++;
    bool over = limiter->failures > TOKEN_FAILURES_MAX;
    uint64_t left_ms = WINDOW_MS - (now_ms - limiter->window_ms);
    pthread_mutex_unlock(&limiter->lock);
    return over ? (unsigned)(left_ms / 1000 + 1) : 0;
}
