#include "api/http/idempotency.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"

enum {
    PATH_BYTES = 512,
};

/* The file may be short: a daemon that died between making and filling it. Nothing was hashed with it then. */
static int fill(int fd, const char *path, uint8_t secret[static IDEMPOTENCY_SECRET_BYTES], struct error *err)
{
    ssize_t got = pread(fd, secret, IDEMPOTENCY_SECRET_BYTES, 0);
    if (got == IDEMPOTENCY_SECRET_BYTES)
        return 0;
    randombytes_buf(secret, IDEMPOTENCY_SECRET_BYTES);
    if (got < 0 || pwrite(fd, secret, IDEMPOTENCY_SECRET_BYTES, 0) != IDEMPOTENCY_SECRET_BYTES || fsync(fd) != 0)
        return error_set(err, errno == 0 ? -EIO : -errno, "The file %s cannot be read or written: %s.", path,
                         strerror(errno));
    return 0;
}

int idempotency_open(const char *data_dir, struct idempotency *ret_it, struct error *err)
{
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/idempotency.secret", data_dir) >= PATH_BYTES)
        return error_set(err, -ENAMETOOLONG, "The path of the data folder is too long.");
    int fd SCOPED_FD = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        return error_set(err, -errno, "The file %s cannot be opened: %s.", path, strerror(errno));
    struct stat status;
    if (fstat(fd, &status) != 0)
        return error_set(err, -errno, "The file %s cannot be examined: %s.", path, strerror(errno));
    if (!S_ISREG(status.st_mode) || status.st_uid != geteuid() || (status.st_mode & 077) != 0)
        return error_set(err, -EPERM, "The file %s must be a file of this user with mode 0600; `chmod 600` it.", path);
    ret_it->count = 0;
    int result = fill(fd, path, ret_it->secret, err);
    if (result == 0)
        REQUIRE(pthread_mutex_init(&ret_it->lock, NULL) == 0);
    return result;
}

void idempotency_done(struct idempotency *it)
{
    pthread_mutex_destroy(&it->lock);
    sodium_memzero(it->secret, sizeof it->secret);
}

bool idempotency_key_valid(const char *key)
{
    size_t length = strnlen(key, STORE_KEY_BYTES);
    if (length == 0 || length == STORE_KEY_BYTES)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (key[i] < 0x21 || key[i] > 0x7e)
            return false;
    }
    return true;
}

static int add_to_hash(const char *bytes, size_t length, void *context)
{
    return crypto_generichash_update(context, (const unsigned char *)bytes, length);
}

int idempotency_hash(const struct idempotency *it, const json_t *tree,
                     uint8_t ret_hash[static STORE_REQUEST_HASH_BYTES], struct error *err)
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, it->secret, sizeof it->secret, STORE_REQUEST_HASH_BYTES);
    /* Piece by piece, so that no copy of the request is made. */
    int dumped = json_dump_callback(tree, add_to_hash, &state, JSON_COMPACT | JSON_SORT_KEYS);
    crypto_generichash_final(&state, ret_hash, STORE_REQUEST_HASH_BYTES);
    sodium_memzero(&state, sizeof state);
    return dumped == 0 ? 0 : error_set(err, -ENOMEM, "There is no memory to read the request.");
}

/* The lock is held. Return: the key's place, or the number of keys when it is not there. */
static size_t place_of(const struct idempotency *it, const char *key)
{
    size_t at = 0;
    while (at < it->count && strcmp(it->keys[at], key) != 0)
        at++;
    return at;
}

int idempotency_claim(struct idempotency *it, const char *key, struct error *err)
{
    pthread_mutex_lock(&it->lock);
    bool free = place_of(it, key) == it->count && it->count < IDEMPOTENCY_IN_FLIGHT_MAX;
    if (free)
        snprintf(it->keys[it->count++], STORE_KEY_BYTES, "%s", key);
    pthread_mutex_unlock(&it->lock);
    if (free)
        return 0;
    error_set(err, -EINPROGRESS, "A request with this Idempotency-Key is being answered at this moment.");
    return error_tag(err, "request-in-flight", "");
}

void idempotency_release(struct idempotency *it, const char *key)
{
    pthread_mutex_lock(&it->lock);
    size_t at = place_of(it, key);
    REQUIRE(at < it->count);
    it->count--;
    memmove(it->keys[at], it->keys[it->count], STORE_KEY_BYTES);
    pthread_mutex_unlock(&it->lock);
}
