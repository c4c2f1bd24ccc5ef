/* libisofs lays the volume out; the secret never passes through it.
 *
 * The library copies contents through buffers of its own that it does not wipe. A secret file is therefore given to it as
 * a blank: random bytes of the same length. On the way from the library to the file, each sector that starts the blank is
 * recognised and the secret is written in its place, from memory that is wiped. Sectors of one file are consecutive
 * (ECMA-119 section 6.4.2), and a volume in which a blank was not found, or not found as a whole, is refused.
 *
 * Large files are streams of our own that read a descriptor piece by piece. */
#include "vmm/volume.h"

#define LIBISOFS_WITHOUT_LIBBURN yes /* libisofs.h then brings struct burn_source itself */
#include <errno.h>
#include <inttypes.h>
#include <libisofs/libisofs.h>
#include <sodium.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum volume_internal_limits {
    SECRET_BYTES_MIN = 32,   /* shorter, a blank could stand somewhere else by chance */
    STREAM_FS_ID = 0x6f6d65, /* unlike the library's own, which count from 1 */
};

/* One secret and what stands for it. Owner: volume_write(). */
struct blank {
    const struct volume_file *file;
    uint8_t *bytes;
    size_t found; /* bytes that came by so far */
};

/* @failed: set on the library's thread when a file could not be read as a whole. */
struct volume {
    _Atomic bool failed;
    size_t blank_count;
    struct blank blanks[VOLUME_FILES_MAX];
};

static int library_error(struct error *err, const char *step, int code)
{
    return error_set(err, code == (int)ISO_OUT_OF_MEM ? -ENOMEM : -EIO, "seed volume, %s: %s", step,
                     iso_error_to_msg(code));
}

static bool label_is_valid(const char *label)
{
    size_t length = strspn(label, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    return length > 0 && length <= VOLUME_ID_BYTES && label[length] == '\0';
}

static bool name_is_valid(const char *name)
{
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.");
    return length > 0 && length < VOLUME_NAME_BYTES && name[length] == '\0' && name[0] != '.';
}

static bool file_is_valid(const struct volume_file *file)
{
    uint64_t most = file->bytes != NULL ? VOLUME_FILE_BYTES : VOLUME_BYTES_MAX;
    return name_is_valid(file->name) && (file->folder == NULL || name_is_valid(file->folder)) && file->length > 0 &&
           file->length <= most && (!file->secret || (file->bytes != NULL && file->length >= SECRET_BYTES_MIN));
}

static int blank_add(struct volume *volume, const struct volume_file *file, const uint8_t **ret_bytes,
                     struct error *err)
{
    struct blank *blank = &volume->blanks[volume->blank_count];
    blank->bytes = malloc(file->length);
    if (blank->bytes == NULL)
        return error_set(err, -ENOMEM, "out of memory");
    blank->file = file;
    randombytes_buf(blank->bytes, file->length);
    volume->blank_count++;
    *ret_bytes = blank->bytes;
    return 0;
}

/* ---- streams ----------------------------------------------------------------------------------------------- */

/* What a stream of a descriptor knows. Owner: its stream. */
struct source {
    struct volume *volume;
    int fd;
    off_t at;
    off_t length;
    ino_t number; /* sources of one number would become one file */
};

static int source_open(IsoStream *stream)
{
    ((struct source *)stream->data)->at = 0;
    return 1;
}

static int source_close(IsoStream *stream)
{
    (void)stream;
    return 1;
}

static off_t source_size(IsoStream *stream)
{
    return ((const struct source *)stream->data)->length;
}

/* The library fills what cannot be read with zeros, so the failure is noted here. */
static int source_read(IsoStream *stream, void *bytes, size_t count)
{
    struct source *source = stream->data;
    size_t left = (size_t)(source->length - source->at);
    size_t want = count < left ? count : left;
    size_t done = 0;
    while (done < want) {
        ssize_t got = pread(source->fd, (uint8_t *)bytes + done, want - done, source->at + (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            source->volume->failed = true;
            return (int)ISO_FILE_READ_ERROR;
        }
        done += (size_t)got;
    }
    source->at += (off_t)done;
    return (int)done;
}

static int source_is_repeatable(IsoStream *stream)
{
    (void)stream;
    return 1;
}

static void source_id(IsoStream *stream, unsigned *ret_fs, dev_t *ret_device, ino_t *ret_inode)
{
    *ret_fs = STREAM_FS_ID;
    *ret_device = 0;
    *ret_inode = ((const struct source *)stream->data)->number;
}

static void source_free(IsoStream *stream)
{
    free(stream->data);
}

static int source_update_size(IsoStream *stream)
{
    (void)stream;
    return 1;
}

static IsoStream *source_input(IsoStream *stream, int flag)
{
    (void)stream;
    (void)flag;
    return NULL;
}

static int stream_of_descriptor(struct volume *volume, const struct volume_file *file, size_t number,
                                IsoStream **ret_stream, struct error *err)
{
    static const IsoStreamIface class = {.version = 3,
                                         .type = {'u', 's', 'e', 'r'},
                                         .open = source_open,
                                         .close = source_close,
                                         .get_size = source_size,
                                         .read = source_read,
                                         .is_repeatable = source_is_repeatable,
                                         .get_id = source_id,
                                         .free = source_free,
                                         .update_size = source_update_size,
                                         .get_input_stream = source_input};
    struct source *source = malloc(sizeof *source);
    IsoStream *stream = malloc(sizeof *stream);
    if (source == NULL || stream == NULL) {
        free(source);
        free(stream);
        return error_set(err, -ENOMEM, "out of memory");
    }
    *source =
        (struct source){.volume = volume, .fd = file->fd, .length = (off_t)file->length, .number = (ino_t)number + 1};
    *stream = (IsoStream){.class = (IsoStreamIface *)&class, .refcount = 1, .data = source};
    *ret_stream = stream;
    return 0;
}

static int stream_of_memory(struct volume *volume, const struct volume_file *file, IsoStream **ret_stream,
                            struct error *err)
{
    const uint8_t *bytes = file->bytes;
    if (file->secret) {
        int rc = blank_add(volume, file, &bytes, err);
        if (rc != 0)
            return rc;
    }
    /* The stream frees its memory with free(3), so it gets its own. */
    unsigned char *copy = malloc(file->length);
    if (copy == NULL)
        return error_set(err, -ENOMEM, "out of memory");
    memcpy(copy, bytes, file->length);
    int rc = iso_memory_stream_new(copy, file->length, ret_stream);
    if (rc >= 0)
        return 0;
    free(copy);
    return library_error(err, file->name, rc);
}

/* ---- laying out -------------------------------------------------------------------------------------------- */

static int find_folder(IsoImage *image, const char *name, IsoDir **ret_folder, struct error *err)
{
    IsoDir *root = iso_image_get_root(image);
    IsoNode *found = NULL;
    *ret_folder = root;
    if (name == NULL)
        return 0;
    if (iso_dir_get_node(root, name, &found) == 1) {
        *ret_folder = (IsoDir *)found;
        return 0;
    }
    int rc = iso_tree_add_new_dir(root, name, ret_folder);
    return rc < 0 ? library_error(err, name, rc) : 0;
}

static int add_file(IsoImage *image, struct volume *volume, const struct volume_file *file, size_t number,
                    struct error *err)
{
    IsoDir *folder = NULL;
    IsoStream *stream = NULL;
    int rc = find_folder(image, file->folder, &folder, err);
    if (rc == 0)
        rc = file->bytes != NULL ? stream_of_memory(volume, file, &stream, err)
                                 : stream_of_descriptor(volume, file, number, &stream, err);
    if (rc != 0)
        return rc;
    IsoFile *node = NULL;
    rc = iso_tree_add_new_file(folder, file->name, stream, &node);
    if (rc < 0) {
        iso_stream_unref(stream);
        return library_error(err, file->name, rc);
    }
    iso_node_set_permissions((IsoNode *)node, file->secret ? 0400 : 0444);
    return 0;
}

/* The length of this sector's part of a blank; 0 when the sector is no part of one. */
static size_t blank_match(const struct blank *blank, const uint8_t *sector)
{
    size_t left = blank->file->length - blank->found;
    size_t length = left < VOLUME_SECTOR_BYTES ? left : VOLUME_SECTOR_BYTES;
    return length > 0 && memcmp(sector, blank->bytes + blank->found, length) == 0 ? length : 0;
}

/* Put the secret where its blank is. */
static int replace_blank(struct volume *volume, uint8_t *sector, struct error *err)
{
    for (size_t i = 0; i < volume->blank_count; i++) {
        struct blank *blank = &volume->blanks[i];
        size_t length = blank_match(blank, sector);
        if (length > 0) {
            memcpy(sector, (const uint8_t *)blank->file->bytes + blank->found, length);
            blank->found += length;
            return 0;
        }
        if (blank->found > 0 && blank->found < blank->file->length)
            return error_set(err, -EIO, "seed volume: %s is not in one piece", blank->file->name);
    }
    return 0;
}

static int write_sector(int fd, const uint8_t *sector, uint64_t number, struct error *err)
{
    size_t done = 0;
    while (done < VOLUME_SECTOR_BYTES) {
        ssize_t written =
            pwrite(fd, sector + done, VOLUME_SECTOR_BYTES - done, (off_t)(number * VOLUME_SECTOR_BYTES + done));
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return error_set(err, written < 0 ? -errno : -EIO, "seed volume: %s", strerror(written < 0 ? errno : EIO));
        done += (size_t)written;
    }
    return 0;
}

static int copy_sectors(struct burn_source *source, struct volume *volume, int fd, struct error *err)
{
    uint8_t sector[VOLUME_SECTOR_BYTES];
    int rc = 0;
    for (uint64_t number = 0; rc == 0; number++) {
        int length = source->read_xt(source, sector, sizeof sector);
        if (length == 0)
            break;
        if (length != (int)sizeof sector || number >= VOLUME_BYTES_MAX / VOLUME_SECTOR_BYTES)
            rc = error_set(err, -EIO, "seed volume: sector %" PRIu64 " cannot be made", number);
        else
            rc = replace_blank(volume, sector, err);
        if (rc == 0)
            rc = write_sector(fd, sector, number, err);
    }
    sodium_memzero(sector, sizeof sector);
    for (size_t i = 0; rc == 0 && i < volume->blank_count; i++)
        if (volume->blanks[i].found != volume->blanks[i].file->length)
            rc = error_set(err, -EIO, "seed volume: no place was found for %s", volume->blanks[i].file->name);
    if (rc == 0 && volume->failed)
        rc = error_set(err, -EIO, "seed volume: a file could not be read as a whole");
    return rc;
}

static int write_image(IsoImage *image, struct volume *volume, int fd, struct error *err)
{
    IsoWriteOpts *options = NULL;
    int rc = iso_write_opts_new(&options, 0);
    if (rc < 0)
        return library_error(err, "options", rc);
    iso_write_opts_set_iso_level(options, 2); /* names of 31 characters */
    iso_write_opts_set_rockridge(options, 1);
    iso_write_opts_set_joliet(options, 1);
    struct burn_source *source = NULL;
    rc = iso_image_create_burn_source(image, options, &source);
    if (rc < 0) {
        rc = library_error(err, "layout", rc);
    } else {
        rc = copy_sectors(source, volume, fd, err);
        source->free_data(source); /* also ends the library's thread when it has not come to its end */
        free(source);
    }
    iso_write_opts_free(options);
    return rc;
}

static int make_image(const char *label, const struct volume_file *files, size_t count, struct volume *volume, int fd,
                      struct error *err)
{
    IsoImage *image = NULL;
    int made = iso_image_new(label, &image);
    if (made < 0)
        return library_error(err, "start", made);
    iso_image_set_volume_id(image, label);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = add_file(image, volume, &files[i], i, err);
    if (rc == 0)
        rc = write_image(image, volume, fd, err);
    iso_image_unref(image);
    return rc;
}

int volume_write(int fd, const char *label, const struct volume_file *files, size_t count, struct error *err)
{
    if (!label_is_valid(label) || count == 0 || count > VOLUME_FILES_MAX)
        return error_set(err, -EINVAL, "seed volume: not a label of capital letters, or not 1 to %d files",
                         (int)VOLUME_FILES_MAX);
    for (size_t i = 0; i < count; i++)
        if (!file_is_valid(&files[i]))
            return error_set(err, -EINVAL, "seed volume: file %zu has a name or a length that does not fit", i);
    if (sodium_init() < 0)
        return error_set(err, -EIO, "libsodium cannot be started");
    int rc = iso_init();
    if (rc < 0)
        return library_error(err, "start", rc);
    iso_set_msgs_severities("NEVER", "NEVER", "");
    struct volume volume = {0};
    rc = make_image(label, files, count, &volume, fd, err);
    for (size_t i = 0; i < volume.blank_count; i++)
        free(volume.blanks[i].bytes);
    iso_finish();
    return rc;
}
