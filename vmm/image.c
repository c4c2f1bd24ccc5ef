/* Guest images.
 *
 * The image folder may be written by people who are not the daemon: what is opened is a regular file in the image's own
 * folder, never a link, and a disk names no other file. Digests are made from the descriptor that the hypervisor gets later. */
#include "vmm/image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/scope.h"
#include "vmm/manifest.h"
#include "vmm/overlay.h"

enum image_internal_limits {
    SHOWN_DIGEST_BYTES = 12, /* of a digest, in a message */
    SHOWN_NAME_BYTES = 80,   /* of a name that somebody else chose, in a message */
    SETTLED_MS =
        100, /* the kernel stamps changes once a tick, 10 ms at most: a file changed twice within one looks unchanged */
};

#define MANIFEST "manifest.json"

bool vmm_image_name_valid(const char *name)
{
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-");
    return length > 0 && length < VMM_NAME_BYTES && name[length] == '\0' && strchr("._-", name[0]) == NULL;
}

/* @code: a negative errno. Want of descriptors or memory says nothing about an image. */
static int not_found(const char *name, int code, const char *why, struct error *err)
{
    char shown[SHOWN_NAME_BYTES];
    if (code == -EMFILE || code == -ENFILE || code == -ENOMEM)
        return error_set(err, -ENOMEM, "An image cannot be looked at: %s.", why);
    error_set(err, -ENOENT, "image %s: %s", log_escape(name, strlen(name), shown, sizeof shown), why);
    error_tag(err, "image-not-found", NULL);
    return -ENOENT;
}

static int missing(const char *file, const char *why, struct error *err)
{
    error_set(err, -ENOENT, "%s: %s", file, why);
    error_tag(err, "image-file-missing", file);
    return -ENOENT;
}

static const char *open_failure(int code)
{
    switch (code) {
    case -ELOOP:
        return "a link, where a file is wanted";
    case -EINVAL:
        return "not a regular file";
    default:
        return strerror(-code);
    }
}

static int mismatch(const char *file, struct error *err)
{
    error_tag(err, "image-digest-mismatch", file);
    return -EBADMSG;
}

/* ---- opening ---- */

/* Who may write to the folder may put another manifest there, and with it any image. */
static bool others_may_write(int folder)
{
    struct stat found;
    return fstat(folder, &found) != 0 || (found.st_mode & (S_IWGRP | S_IWOTH)) != 0;
}

static int unsafe(const char *path, struct error *err)
{
    error_set(err, -EPERM, "the image folder %.200s can be written to by others: `chmod go-w` it", path);
    error_tag(err, "image-manifest-invalid", NULL);
    return -EPERM;
}

static int open_folder(const char *image_dir, const char *name, int *ret_fd, struct error *err)
{
    if (!vmm_image_name_valid(name))
        return not_found(name, -ENOENT, "not an image name", err);
    int folder SCOPED_FD = open(image_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return not_found(name, -errno, strerror(errno), err);
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return not_found(name, -errno, strerror(errno), err);
    bool shared = others_may_write(folder);
    if (!shared && !others_may_write(fd)) {
        *ret_fd = fd;
        return 0;
    }
    close(fd);
    return unsafe(shared ? image_dir : name, err);
}

/* Return: a descriptor of a regular file, or a negative errno. O_NONBLOCK: a FIFO must not hold us. */
static int open_regular(int folder, const char *file, struct stat *ret_found)
{
    int fd SCOPED_FD = openat(folder, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, ret_found) != 0)
        return -errno;
    return S_ISREG(ret_found->st_mode) ? fd_take(&fd) : -EINVAL;
}

/* ---- manifest ---- */

static void digest_format(const uint8_t digest[static crypto_hash_sha256_BYTES], char ret_text[static VMM_DIGEST_BYTES])
{
    sodium_bin2hex(ret_text, VMM_DIGEST_BYTES, digest, crypto_hash_sha256_BYTES);
}

/* Read the whole of a manifest. */
static int read_manifest(int folder, const char *name, char *ret_text, size_t *ret_length, struct error *err)
{
    struct stat found;
    int fd SCOPED_FD = open_regular(folder, MANIFEST, &found);
    if (fd < 0)
        return not_found(name, fd, open_failure(fd), err);
    size_t length = 0;
    while (length < IMAGE_MANIFEST_BYTES) {
        ssize_t got = read(fd, ret_text + length, IMAGE_MANIFEST_BYTES - length);
        if (got < 0)
            return not_found(name, -errno, strerror(errno), err);
        if (got == 0) {
            *ret_length = length;
            return 0;
        }
        length += (size_t)got;
    }
    return manifest_invalid("", "is longer than 64 KiB", err);
}

static int load(int folder, const char *name, struct vmm_image *ret_image, struct error *err)
{
    char *text SCOPED_FREE = malloc(IMAGE_MANIFEST_BYTES);
    if (text == NULL)
        return error_set(err, -ENOMEM, "out of memory");
    size_t length = 0;
    int rc = read_manifest(folder, name, text, &length, err);
    if (rc != 0)
        return rc;
    struct vmm_image image = {0};
    rc = manifest_parse(text, length, name, &image, err);
    if (rc != 0)
        return rc;
    uint8_t digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(digest, (const unsigned char *)text, length);
    digest_format(digest, image.digest);
    *ret_image = image;
    return 0;
}

int vmm_image_load(const char *image_dir, const char *name, struct vmm_image *ret_image, struct error *err)
{
    int folder SCOPED_FD = -1;
    int rc = open_folder(image_dir, name, &folder, err);
    return rc != 0 ? rc : load(folder, name, ret_image, err);
}

/* ---- digests ---- */

static struct image_seen seen_make(const struct stat *found, const char *sha256)
{
#ifdef __APPLE__
    struct timespec modified = found->st_mtimespec, changed = found->st_ctimespec;
#else
    struct timespec modified = found->st_mtim, changed = found->st_ctim;
#endif
    struct image_seen seen = {.device = (uint64_t)found->st_dev,
                              .inode = (uint64_t)found->st_ino,
                              .bytes = (uint64_t)found->st_size,
                              .modified_ns = (int64_t)modified.tv_sec * 1000000000 + modified.tv_nsec,
                              .changed_ns = (int64_t)changed.tv_sec * 1000000000 + changed.tv_nsec};
    snprintf(seen.sha256, sizeof seen.sha256, "%s", sha256);
    return seen;
}

static bool seen_equal(const struct image_seen *a, const struct image_seen *b)
{
    return a->device == b->device && a->inode == b->inode && a->bytes == b->bytes && a->modified_ns == b->modified_ns &&
           a->changed_ns == b->changed_ns && strcmp(a->sha256, b->sha256) == 0;
}

static bool cache_holds(const struct image_cache *cache, const struct image_seen *seen)
{
    for (size_t i = 0; cache != NULL && i < IMAGE_CACHE_ENTRIES; i++)
        if (seen_equal(&cache->entries[i], seen))
            return true;
    return false;
}

/* Keep a file that was compared, unless it was changed so lately that a further change could look the same. */
static void cache_keep(struct image_cache *cache, const struct image_seen *seen)
{
    int64_t age_ms = (int64_t)clock_wall_ms() - seen->changed_ns / 1000000;
    if (cache == NULL || age_ms < SETTLED_MS)
        return;
    cache->entries[cache->next] = *seen;
    cache->next = (cache->next + 1) % IMAGE_CACHE_ENTRIES;
}

static int hash_file(int fd, const char *file, char ret_sha256[static VMM_DIGEST_BYTES], struct error *err)
{
    uint8_t *block SCOPED_FREE = malloc(IMAGE_BLOCK_BYTES);
    if (block == NULL)
        return error_set(err, -ENOMEM, "out of memory");
    crypto_hash_sha256_state state;
    crypto_hash_sha256_init(&state);
    off_t at = 0;
    while (true) { /* pread: the descriptor stays at its start for the hypervisor */
        ssize_t got = pread(fd, block, IMAGE_BLOCK_BYTES, at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(err, -errno, "%s: %s", file, strerror(errno));
        if (got == 0)
            break;
        crypto_hash_sha256_update(&state, block, (size_t)got);
        at += got;
    }
    uint8_t digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_final(&state, digest);
    digest_format(digest, ret_sha256);
    return 0;
}

/* Compare a file with what the manifest says. */
static int compare(int fd, const struct stat *found, const char *file, const char *sha256, uint64_t bytes,
                   struct image_cache *cache, struct error *err)
{
    if ((uint64_t)found->st_size != bytes) {
        error_set(err, -EBADMSG, "%s: %" PRIu64 " bytes, the manifest says %" PRIu64, file, (uint64_t)found->st_size,
                  bytes);
        return mismatch(file, err);
    }
    struct image_seen seen = seen_make(found, sha256);
    if (cache_holds(cache, &seen))
        return 0;
    char actual[VMM_DIGEST_BYTES];
    int rc = hash_file(fd, file, actual, err);
    if (rc != 0)
        return rc;
    if (strcmp(actual, sha256) != 0) {
        error_set(err, -EBADMSG, "%s: SHA-256 is %.*s..., the manifest says %.*s...", file, SHOWN_DIGEST_BYTES, actual,
                  SHOWN_DIGEST_BYTES, sha256);
        return mismatch(file, err);
    }
    struct stat after;
    if (fstat(fd, &after) == 0) {
        struct image_seen same = seen_make(&after, sha256);
        if (seen_equal(&seen, &same)) /* else it was written to meanwhile */
            cache_keep(cache, &seen);
    }
    return 0;
}

static int open_compared(int folder, const char *file, const char *sha256, uint64_t bytes, struct image_cache *cache,
                         int *ret_fd, struct error *err)
{
    struct stat found = {0};
    int fd SCOPED_FD = open_regular(folder, file, &found);
    if (fd < 0)
        return missing(file, open_failure(fd), err);
    int rc = compare(fd, &found, file, sha256, bytes, cache, err);
    if (rc == 0)
        *ret_fd = fd_take(&fd);
    return rc;
}

static int open_disk(int folder, const struct vmm_image *image, struct image_cache *cache,
                     struct image_files *ret_files, struct error *err)
{
    if (image->disk_file[0] == '\0')
        return 0;
    int fd SCOPED_FD = -1;
    int rc = open_compared(folder, image->disk_file, image->disk_sha256, image->disk_bytes, cache, &fd, err);
    if (rc == 0)
        rc = overlay_measure_base(fd, image->disk_file, image->disk_format, &ret_files->disk_size_bytes, err);
    if (rc == 0)
        ret_files->disk_fd = fd_take(&fd);
    return rc;
}

static int open_files(int folder, const struct vmm_image *image, struct image_cache *cache,
                      struct image_files *ret_files, struct error *err)
{
    struct image_files files = {.image = *image, .kernel_fd = -1, .initrd_fd = -1, .disk_fd = -1};
    int rc = open_compared(folder, image->kernel_file, image->kernel_sha256, image->kernel_bytes, cache,
                           &files.kernel_fd, err);
    if (rc == 0)
        rc = open_compared(folder, image->initrd_file, image->initrd_sha256, image->initrd_bytes, cache,
                           &files.initrd_fd, err);
    if (rc == 0)
        rc = open_disk(folder, image, cache, &files, err);
    if (rc == 0)
        *ret_files = files;
    else
        image_files_close(&files);
    return rc;
}

int vmm_image_disk_mib(const char *image_dir, const struct vmm_image *image, uint64_t *ret_mib, struct error *err)
{
    int folder SCOPED_FD = -1;
    struct stat found;
    uint64_t bytes = 0;
    int rc = image->disk_file[0] == '\0' ? 0 : open_folder(image_dir, image->name, &folder, err);
    if (rc != 0)
        return rc;
    int fd SCOPED_FD = folder < 0 ? -1 : open_regular(folder, image->disk_file, &found);
    if (folder >= 0 && fd < 0)
        return missing(image->disk_file, open_failure(fd), err);
    if (folder >= 0)
        rc = overlay_measure_base(fd, image->disk_file, image->disk_format, &bytes, err);
    if (rc == 0)
        *ret_mib = (bytes + 1048575) / 1048576;
    return rc;
}

int vmm_image_verify(const char *image_dir, const struct vmm_image *image, struct error *err)
{
    int folder SCOPED_FD = -1;
    struct image_files files;
    int rc = open_folder(image_dir, image->name, &folder, err);
    if (rc == 0)
        rc = open_files(folder, image, NULL, &files, err);
    if (rc == 0)
        image_files_close(&files);
    return rc;
}

int image_open_verified(const char *image_dir, const char *name, struct image_cache *cache,
                        struct image_files *ret_files, struct error *err)
{
    int folder SCOPED_FD = -1;
    struct vmm_image image = {0};
    int rc = open_folder(image_dir, name, &folder, err);
    if (rc == 0)
        rc = load(folder, name, &image, err);
    return rc != 0 ? rc : open_files(folder, &image, cache, ret_files, err);
}

void image_files_close(struct image_files *files)
{
    fd_close(&files->kernel_fd);
    fd_close(&files->initrd_fd);
    fd_close(&files->disk_fd);
}

/* ---- listing ---- */

static bool has_manifest(int folder, const char *name)
{
    struct stat found;
    int image SCOPED_FD = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return image >= 0 && fstatat(image, MANIFEST, &found, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(found.st_mode);
}

/* Put a name in its place; the last of a full list gives way. Return: the new count. */
static size_t insert_name(char (*names)[VMM_NAME_BYTES], size_t count, size_t capacity, const char *name)
{
    size_t at = count;
    while (at > 0 && strcmp(names[at - 1], name) > 0)
        at--;
    if (at == capacity)
        return count;
    size_t kept = count < capacity ? count : capacity - 1;
    memmove(names[at + 1], names[at], (kept - at) * sizeof *names);
    memcpy(names[at], name, strlen(name) + 1);
    return kept + 1;
}

int vmm_image_list(const char *image_dir, char (*ret_names)[VMM_NAME_BYTES], size_t capacity, struct error *err)
{
    DIR *folder = opendir(image_dir);
    if (folder == NULL)
        return error_set(err, -errno, "%.200s: %s", image_dir, strerror(errno));
    size_t count = 0;
    struct dirent *entry;
    while ((entry = readdir(folder)) != NULL)
        if (vmm_image_name_valid(entry->d_name) && has_manifest(dirfd(folder), entry->d_name))
            count = insert_name(ret_names, count, capacity, entry->d_name);
    closedir(folder);
    return (int)count;
}
