#include "vmm/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"
#include "tests/cmocka.h"

enum { SECTOR = VOLUME_SECTOR_BYTES };

/* A volume that was read back. */
struct image {
    int fd;
    uint8_t *bytes;
    size_t length;
};

static int scratch_file(void)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    int fd = dup(fileno(file));
    fclose(file);
    return fd;
}

static void image_open(struct image *image, const char *label, const struct volume_file *files, size_t count)
{
    struct error err = {0};
    struct stat found;
    image->fd = scratch_file();
    assert_int_equal(volume_write(image->fd, label, files, count, &err), 0);
    assert_int_equal(fstat(image->fd, &found), 0);
    image->length = (size_t)found.st_size;
    assert_int_equal(image->length % SECTOR, 0);
    image->bytes = malloc(image->length);
    assert_int_equal(pread(image->fd, image->bytes, image->length, 0), image->length);
}

static void image_close(struct image *image)
{
    free(image->bytes);
    close(image->fd);
}

static size_t le32(const uint8_t *at)
{
    return at[0] + at[1] * 256u + at[2] * 65536u + at[3] * 16777216u;
}

/* The directory record of @name in the root of the volume descriptor at @sector. Names are compared as they stand. */
static const uint8_t *find_record(const struct image *image, size_t sector, const char *name, size_t name_length)
{
    const uint8_t *root = image->bytes + sector * SECTOR + 156;
    const uint8_t *at = image->bytes + le32(root + 2) * SECTOR;
    const uint8_t *end = at + le32(root + 10);
    while (at < end && at[0] != 0) {
        if (at[32] >= name_length && memcmp(at + 33, name, name_length) == 0)
            return at;
        at += at[0];
    }
    return NULL;
}

static void assert_content(const struct image *image, const uint8_t *record, const struct volume_file *file)
{
    assert_non_null(record);
    assert_int_equal(le32(record + 10), file->length);
    assert_memory_equal(image->bytes + le32(record + 2) * SECTOR, file->bytes, file->length);
}

static void the_label_stands_where_guests_look_for_it(void **state)
{
    (void)state;
    const struct volume_file file = {.name = "meta-data", .bytes = "{}", .length = 2};
    struct image image;
    image_open(&image, "CIDATA", &file, 1);
    assert_memory_equal(image.bytes + SECTOR * 16, "\1CD001\1", 7);
    assert_int_equal(VOLUME_ID_OFFSET, 32808);
    assert_memory_equal(image.bytes + 32808, "CIDATA                          ", 32);
    image_close(&image);
}

static void a_file_is_found_by_its_iso_joliet_and_rock_ridge_name(void **state)
{
    (void)state;
    const struct volume_file files[] = {
        {.name = "meta-data", .bytes = "first", .length = 5},
        {.name = "network-config", .bytes = "second file", .length = 11},
    };
    struct image image;
    image_open(&image, "CIDATA", files, 2);
    const uint8_t *record = find_record(&image, 16, "NETWORK", 7);
    assert_content(&image, record, &files[1]);
    assert_content(&image, find_record(&image, 16, "META", 4), &files[0]);
    assert_non_null(memmem(record, record[0], "NM", 2)); /* Rock Ridge */
    assert_non_null(memmem(record, record[0], "network-config", 14));
    size_t joliet = 17;
    while (image.bytes[joliet * SECTOR] != 2) { /* ECMA-119 section 8.5 */
        assert_int_not_equal(image.bytes[joliet * SECTOR], 255);
        joliet++;
    }
    assert_memory_equal(image.bytes + joliet * SECTOR + 88, "%/", 2);
    assert_content(&image, find_record(&image, joliet, "\0n\0e\0t\0w\0o\0r\0k\0-\0c\0o\0n\0f\0i\0g", 28), &files[1]);
    image_close(&image);
}

static void fill(uint8_t *bytes, size_t length)
{
    uint32_t value = 12345;
    for (size_t i = 0; i < length; i++) {
        value = value * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(value >> 24);
    }
}

static void a_secret_of_any_length_arrives_and_stands_there_once(void **state)
{
    (void)state;
    static const size_t lengths[] = {32, 33, 2047, 2048, 2049, 4095, 4096, 4097, 20000, VOLUME_FILE_BYTES};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint8_t *bytes SCOPED_FREE = malloc(lengths[i]);
        fill(bytes, lengths[i]);
        const struct volume_file files[] = {
            {.name = "meta-data", .bytes = "before", .length = 6},
            {.name = "user-data", .bytes = bytes, .length = lengths[i], .secret = true},
            {.name = "vendor-data", .bytes = "behind", .length = 6},
        };
        struct image image;
        image_open(&image, "CIDATA", files, 3);
        const uint8_t *record = find_record(&image, 16, "USER", 4);
        assert_content(&image, record, &files[1]);
        assert_content(&image, find_record(&image, 16, "META", 4), &files[0]);
        assert_content(&image, find_record(&image, 16, "VENDOR", 6), &files[2]);
        const uint8_t *first = memmem(image.bytes, image.length, bytes, 32);
        assert_ptr_equal(first, image.bytes + le32(record + 2) * SECTOR);
        assert_null(memmem(first + 1, image.length - (size_t)(first + 1 - image.bytes), bytes, 32));
        image_close(&image);
    }
}

static void two_secrets_do_not_get_mixed_up(void **state)
{
    (void)state;
    uint8_t one[5000];
    uint8_t two[5000];
    fill(one, sizeof one);
    memset(two, 'x', sizeof two);
    const struct volume_file files[] = {
        {.name = "one", .bytes = one, .length = sizeof one, .secret = true},
        {.name = "two", .bytes = two, .length = sizeof two, .secret = true},
    };
    struct image image;
    image_open(&image, "CIDATA", files, 2);
    assert_content(&image, find_record(&image, 16, "ONE", 3), &files[0]);
    assert_content(&image, find_record(&image, 16, "TWO", 3), &files[1]);
    image_close(&image);
}

/* What the heap held is still there after free(3), so memory that the library left unwiped can be searched. The needle is
 * kept inverted, lest it find itself. */
static size_t count_in_heap(const uint8_t *inverted, size_t length)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    if (maps == NULL)
        return 0;
    size_t count = 0;
    char line[512];
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long start = 0;
        unsigned long end = 0;
        char access[8] = "";
        if (sscanf(line, "%lx-%lx %7s", &start, &end, access) != 3 || strncmp(access, "rw-p", 4) != 0 ||
            strstr(line, "[stack]") != NULL || end - start > (64ul << 20))
            continue;
        for (const uint8_t *at = (const uint8_t *)start; at + length <= (const uint8_t *)end; at++) {
            size_t same = 0;
            while (same < length && (at[same] ^ inverted[same]) == 0xff)
                same++;
            count += same == length;
        }
    }
    fclose(maps);
    return count;
}

static void the_secret_does_not_stay_in_memory(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* its own memory is not to be searched */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    skip();
#endif
#endif
    uint8_t inverted[48];
    fill(inverted, sizeof inverted);
    enum { LENGTH = 6000 };
    uint8_t *bytes = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); /* not rw-p */
    assert_ptr_not_equal(bytes, MAP_FAILED);
    for (size_t i = 0; i < LENGTH; i++)
        bytes[i] = inverted[i % sizeof inverted] ^ 0xff;
    const struct volume_file secret = {.name = "user-data", .bytes = bytes, .length = LENGTH, .secret = true};
    struct volume_file open = secret;
    open.secret = false;
    int fd SCOPED_FD = scratch_file();
    assert_int_equal(volume_write(fd, "CIDATA", &secret, 1, NULL), 0);
    assert_int_equal(count_in_heap(inverted, sizeof inverted), 0);
    /* The search can find: without the blank, copies are left. */
    int other SCOPED_FD = scratch_file();
    assert_int_equal(volume_write(other, "CIDATA", &open, 1, NULL), 0);
    if (access("/proc/self/maps", R_OK) == 0)
        assert_true(count_in_heap(inverted, sizeof inverted) > 0);
    munmap(bytes, LENGTH);
}

static int file_of(const void *bytes, size_t length)
{
    int fd = scratch_file();
    assert_int_equal(pwrite(fd, bytes, length, 0), length);
    return fd;
}

/* A file's record in the folder that a record of the root leads to. No record stands across two sectors. */
static const uint8_t *record_in(const struct image *image, const uint8_t *folder, const char *name)
{
    const uint8_t *begin = image->bytes + le32(folder + 2) * SECTOR;
    for (size_t at = 0; at < le32(folder + 10);) {
        const uint8_t *record = begin + at;
        if (record[0] == 0) {
            at += SECTOR - at % SECTOR;
            continue;
        }
        if (record[32] >= strlen(name) && memcmp(record + 33, name, strlen(name)) == 0)
            return record;
        at += record[0];
    }
    return NULL;
}

static void files_are_read_from_descriptors_into_a_folder(void **state)
{
    (void)state;
    enum { LARGE = 3 * 1024 * 1024 + 5, FILES = VOLUME_FILES_MAX };
    uint8_t *large SCOPED_FREE = malloc(LARGE);
    fill(large, LARGE);
    char names[FILES][8];
    struct volume_file files[FILES] = {{.name = "user-data", .bytes = large, .length = 40, .secret = true}};
    for (size_t i = 1; i < FILES; i++) {
        snprintf(names[i], sizeof names[i], "%02u.deb", (unsigned)i);
        size_t length = i == 1 ? LARGE : 1000 + i;
        files[i] = (struct volume_file){
            .folder = "packages", .name = names[i], .fd = file_of(large + (LARGE - length), length), .length = length};
        assert_int_equal(lseek(files[i].fd, 7, SEEK_SET), 7); /* where it stands does not matter */
    }
    struct image image;
    image_open(&image, "CIDATA", files, FILES);
    const uint8_t *folder = find_record(&image, 16, "PACKAGES", 8);
    assert_non_null(folder);
    assert_content(&image, find_record(&image, 16, "USER", 4), &files[0]);
    for (size_t i = 1; i < FILES; i++) {
        char name[8];
        snprintf(name, sizeof name, "%02u.DEB", (unsigned)i);
        struct volume_file expected = files[i];
        expected.bytes = large + (LARGE - files[i].length);
        assert_content(&image, record_in(&image, folder, name), &expected);
        assert_int_equal(lseek(files[i].fd, 0, SEEK_CUR), 7);
        close(files[i].fd);
    }
    image_close(&image);
}

static void two_files_of_the_same_contents_stay_two(void **state)
{
    (void)state;
    int fd SCOPED_FD = file_of("same", 4);
    const struct volume_file files[] = {{.name = "one", .fd = fd, .length = 4}, {.name = "two", .fd = fd, .length = 4}};
    struct image image;
    image_open(&image, "CIDATA", files, 2);
    assert_non_null(find_record(&image, 16, "ONE", 3));
    assert_non_null(find_record(&image, 16, "TWO", 3));
    image_close(&image);
}

static void a_file_that_became_shorter_or_cannot_be_read_is_an_error(void **state)
{
    (void)state;
    struct error err = {0};
    uint8_t bytes[5000] = {1};
    int shorter SCOPED_FD = file_of(bytes, 4999);
    int closed SCOPED_FD = open("/dev/null", O_WRONLY);
    int fd SCOPED_FD = scratch_file();
    const struct volume_file files[] = {{.name = "a", .fd = shorter, .length = sizeof bytes},
                                        {.name = "a", .fd = closed, .length = 1}};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(volume_write(fd, "CIDATA", &files[i], 1, &err), -EIO);
        assert_string_equal(err.message, "seed volume: a file could not be read as a whole");
    }
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    static const uint8_t bytes[64] = {0};
    const struct volume_file good = {.name = "a", .bytes = bytes, .length = sizeof bytes};
    static const char *const labels[] = {"", "cidata", "CI DATA", "CIDATA;1", "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456"};
    int fd SCOPED_FD = scratch_file();
    for (size_t i = 0; i < sizeof labels / sizeof labels[0]; i++)
        assert_int_equal(volume_write(fd, labels[i], &good, 1, NULL), -EINVAL);
    const struct volume_file bad[] = {
        {.name = "", .bytes = bytes, .length = 1},
        {.name = "a/b", .bytes = bytes, .length = 1},
        {.name = "..", .bytes = bytes, .length = 1},
        {.name = "A", .bytes = bytes, .length = 1},
        {.name = "abcdefghijklmnopqrstuvwxyz01234", .bytes = bytes, .length = 1},
        {.name = "a", .bytes = bytes, .length = 0},
        {.name = "a", .bytes = bytes, .length = VOLUME_FILE_BYTES + 1},
        {.name = "a", .bytes = bytes, .length = 31, .secret = true},
        {.name = "a", .fd = 0, .length = 40, .secret = true},
        {.name = "a", .fd = 0, .length = VOLUME_BYTES_MAX + 1},
        {.name = "a", .folder = "..", .bytes = bytes, .length = 1},
        {.name = "a", .folder = "b/c", .bytes = bytes, .length = 1},
        {.name = "a", .folder = "", .bytes = bytes, .length = 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(volume_write(fd, "CIDATA", &bad[i], 1, NULL), -EINVAL);
    struct volume_file many[VOLUME_FILES_MAX + 1];
    for (size_t i = 0; i < VOLUME_FILES_MAX + 1; i++)
        many[i] = good;
    assert_int_equal(volume_write(fd, "CIDATA", many, VOLUME_FILES_MAX + 1, NULL), -EINVAL);
    assert_int_equal(volume_write(fd, "CIDATA", &good, 0, NULL), -EINVAL);
    struct stat found;
    assert_int_equal(fstat(fd, &found), 0);
    assert_int_equal(found.st_size, 0);
}

static void a_file_that_cannot_be_written_is_an_error_and_no_hang(void **state)
{
    (void)state;
    uint8_t bytes[100] = {1};
    const struct volume_file file = {.name = "user-data", .bytes = bytes, .length = sizeof bytes, .secret = true};
    struct error err = {0};
    int fd SCOPED_FD = open("/dev/null", O_RDONLY);
    assert_int_equal(volume_write(fd, "CIDATA", &file, 1, &err), -EBADF);
    int full SCOPED_FD = open("/dev/full", O_RDWR);
    if (full >= 0)
        assert_int_equal(volume_write(full, "CIDATA", &file, 1, &err), -ENOSPC);
}

/* An independent reader, where there is one. */
static void xorriso_finds_the_same_files(void **state)
{
    (void)state;
    if (system("command -v xorriso >/dev/null 2>&1") != 0)
        skip();
    uint8_t bytes[3000];
    memset(bytes, 's', sizeof bytes);
    const struct volume_file files[] = {
        {.name = "meta-data", .bytes = "{}\n", .length = 3},
        {.name = "user-data", .bytes = bytes, .length = sizeof bytes, .secret = true},
    };
    char path[] = "/tmp/test_volume.XXXXXX";
    int fd SCOPED_FD = mkstemp(path);
    assert_int_equal(volume_write(fd, "CIDATA", files, 2, NULL), 0);
    char command[256];
    snprintf(command, sizeof command, "xorriso -indev %s -pvd_info -find / -exec lsdl 2>/dev/null", path);
    FILE *output = popen(command, "r");
    char text[8192];
    size_t length = fread(text, 1, sizeof text - 1, output);
    text[length] = '\0';
    pclose(output);
    unlink(path);
    assert_non_null(strstr(text, "Volume Id    : CIDATA"));
    assert_non_null(strstr(text, "'/meta-data'"));
    assert_non_null(strstr(text, "3000"));
    assert_non_null(strstr(text, "'/user-data'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_label_stands_where_guests_look_for_it),
        cmocka_unit_test(a_file_is_found_by_its_iso_joliet_and_rock_ridge_name),
        cmocka_unit_test(a_secret_of_any_length_arrives_and_stands_there_once),
        cmocka_unit_test(two_secrets_do_not_get_mixed_up),
        cmocka_unit_test(the_secret_does_not_stay_in_memory),
        cmocka_unit_test(files_are_read_from_descriptors_into_a_folder),
        cmocka_unit_test(two_files_of_the_same_contents_stay_two),
        cmocka_unit_test(a_file_that_became_shorter_or_cannot_be_read_is_an_error),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(a_file_that_cannot_be_written_is_an_error_and_no_hang),
        cmocka_unit_test(a_file_that_cannot_be_written_is_an_error_and_no_hang),
        cmocka_unit_test(xorriso_finds_the_same_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
