/* qcow2, version 3, as far as an empty file needs it: a header, a table of reference counts with one block, and a
 * first-level table of zeros, each in a cluster of its own. The overlay names no backing file: the hypervisor is given
 * both files as descriptors and told which stands on which.
 *
 * Source: QEMU docs/interop/qcow2.txt */
#include "vmm/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/scope.h"

enum overlay_layout {
    MAGIC = 0x514649fb, /* "QFI" and 0xfb */
    VERSION = 3,
    VERSION_OLDEST = 2,
    HEADER_BYTES = 104,
    CLUSTER_BITS = 16,
    REFCOUNT_ORDER = 4, /* 16 bits each */
    REFCOUNT_TABLE_CLUSTER = 1,
    REFCOUNT_BLOCK_CLUSTER = 2,
    LEVEL1_CLUSTER = 3,
    CLUSTERS = 4,
    INCOMPATIBLE_LAZY_REFCOUNTS = 1, /* "dirty" bit: the counts are not up to date */
};

/* A second-level table is a cluster of 8-byte entries, each for a cluster. */
#define LEVEL2_COVERS_BYTES (UINT64_C(8192) * OVERLAY_CLUSTER_BYTES)

typedef struct {
    uint8_t b[8];
} be64;

/* The header on the disk. */
struct qcow2_header {
    be32 magic;
    be32 version;
    be64 backing_file_offset;
    be32 backing_file_size;
    be32 cluster_bits;
    be64 size;
    be32 crypt_method;
    be32 l1_size;
    be64 l1_table_offset;
    be64 refcount_table_offset;
    be32 refcount_table_clusters;
    be32 snapshot_count;
    be64 snapshots_offset;
    be64 incompatible_features; /* from version 3 on */
    be64 compatible_features;
    be64 autoclear_features;
    be32 refcount_order;
    be32 header_length;
};

_Static_assert(sizeof(struct qcow2_header) == HEADER_BYTES, "as in the document");
_Static_assert(1 << CLUSTER_BITS == OVERLAY_CLUSTER_BYTES, "the same size twice");

static uint64_t be64_load(be64 value)
{
    uint64_t sum = 0;
    for (size_t at = 0; at < sizeof value.b; at++)
        sum = sum * 256u + value.b[at];
    return sum;
}

static be64 be64_make(uint64_t value)
{
    be64 made;
    for (size_t at = sizeof made.b; at > 0; at--) {
        made.b[at - 1] = (uint8_t)(value % 256u);
        value /= 256u;
    }
    return made;
}

static int invalid(const char *file, const char *why, struct error *err)
{
    error_set(err, -EBADMSG, "%s: %s", file, why);
    error_tag(err, "image-disk-invalid", file);
    return -EBADMSG;
}

/* NULL when the file stands alone and is whole. */
static const char *objection(const struct qcow2_header *header, size_t length)
{
    uint32_t version = be32_load(header->version);
    if (length != sizeof *header || be32_load(header->magic) != MAGIC || version < VERSION_OLDEST || version > VERSION)
        return "is no qcow2 file of version 2 or 3";
    if (be64_load(header->backing_file_offset) != 0 || be32_load(header->backing_file_size) != 0)
        return "has a backing file";
    if (be32_load(header->crypt_method) != 0)
        return "is encrypted";
    /* Corrupt, an external data file, another compression, larger table entries: none of it is for a disk that is only
     * read. The bit for counts not up to date harms no reader. */
    if (version == VERSION && (be64_load(header->incompatible_features) & ~(uint64_t)INCOMPATIBLE_LAZY_REFCOUNTS) != 0)
        return "needs a feature of qcow2 that is not allowed here";
    return NULL;
}

int overlay_measure_base(int fd, const char *file, const char *format, uint64_t *ret_size_bytes, struct error *err)
{
    struct stat found;
    struct qcow2_header header = {0};
    if (fstat(fd, &found) != 0)
        return error_set(err, -errno, "%s: %s", file, strerror(errno));
    uint64_t size = (uint64_t)found.st_size;
    if (strcmp(format, "qcow2") == 0) {
        ssize_t length = pread(fd, &header, sizeof header, 0);
        if (length < 0)
            return error_set(err, -errno, "%s: %s", file, strerror(errno));
        const char *why = objection(&header, (size_t)length);
        if (why != NULL)
            return invalid(file, why, err);
        size = be64_load(header.size);
    }
    if (size == 0 || size > OVERLAY_SIZE_MAX || size % OVERLAY_SECTOR_BYTES != 0)
        return invalid(file, "is not 1 sector to 1 TiB in whole sectors", err);
    *ret_size_bytes = size;
    return 0;
}

static int put(int fd, const void *bytes, size_t length, uint64_t cluster, struct error *err)
{
    ssize_t written = pwrite(fd, bytes, length, (off_t)(cluster * OVERLAY_CLUSTER_BYTES));
    if (written == (ssize_t)length)
        return 0;
    int code = written < 0 ? errno : ENOSPC;
    return error_set(err, -code, "cannot write the root disk's overlay: %s", strerror(code));
}

static int fill(int fd, uint64_t size_bytes, struct error *err)
{
    const struct qcow2_header header = {
        .magic = be32_make(MAGIC),
        .version = be32_make(VERSION),
        .cluster_bits = be32_make(CLUSTER_BITS),
        .size = be64_make(size_bytes),
        .l1_size = be32_make((uint32_t)((size_bytes + LEVEL2_COVERS_BYTES - 1) / LEVEL2_COVERS_BYTES)),
        .l1_table_offset = be64_make((uint64_t)LEVEL1_CLUSTER * OVERLAY_CLUSTER_BYTES),
        .refcount_table_offset = be64_make((uint64_t)REFCOUNT_TABLE_CLUSTER * OVERLAY_CLUSTER_BYTES),
        .refcount_table_clusters = be32_make(1),
        .refcount_order = be32_make(REFCOUNT_ORDER),
        .header_length = be32_make(HEADER_BYTES),
    };
    const be64 block = be64_make((uint64_t)REFCOUNT_BLOCK_CLUSTER * OVERLAY_CLUSTER_BYTES);
    be16 counts[CLUSTERS];
    for (size_t at = 0; at < CLUSTERS; at++)
        counts[at] = be16_make(1);
    if (ftruncate(fd, (off_t)CLUSTERS * OVERLAY_CLUSTER_BYTES) != 0)
        return error_set(err, -errno, "cannot make the root disk's overlay: %s", strerror(errno));
    int rc = put(fd, &header, sizeof header, 0, err);
    if (rc == 0)
        rc = put(fd, &block, sizeof block, REFCOUNT_TABLE_CLUSTER, err);
    if (rc == 0)
        rc = put(fd, counts, sizeof counts, REFCOUNT_BLOCK_CLUSTER, err);
    return rc;
}

int overlay_make(const char *path, uint64_t size_bytes, int *ret_fd, struct error *err)
{
    REQUIRE(size_bytes > 0 && size_bytes <= OVERLAY_SIZE_MAX);
    int fd SCOPED_FD = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0 || unlink(path) != 0)
        return error_set(err, -errno, "cannot make the root disk's overlay: %s", strerror(errno));
    int rc = fill(fd, size_bytes, err);
    if (rc == 0)
        *ret_fd = fd_take(&fd);
    return rc;
}
