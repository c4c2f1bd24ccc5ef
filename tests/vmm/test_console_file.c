#include "vmm/console_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/scope.h"
#include "tests/cmocka.h"

enum { BLOCK_BYTES = 4096, NAME_BYTES = 128 };

static char folder[64];
static char path[NAME_BYTES];
static int folder_fd;
static struct console_file console;

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/omertad-console-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/console.log", folder);
    folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    console_file_init(&console);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    console_file_close(&console);
    fd_close(&folder_fd);
    unlink(path);
    return rmdir(folder);
}

static int writer(int flags)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | flags, 0600);
    assert_true(fd >= 0);
    return fd;
}

static void put(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void assert_reads(const char *text)
{
    char bytes[BLOCK_BYTES];
    size_t length = console_file_read(&console, folder_fd, "console.log", (uint8_t *)bytes, sizeof bytes);
    assert_int_equal(length, strlen(text));
    assert_memory_equal(bytes, text, length);
}

static size_t drain(void)
{
    uint8_t bytes[BLOCK_BYTES];
    size_t total = 0;
    for (size_t length = 1; length > 0; total += length)
        length = console_file_read(&console, folder_fd, "console.log", bytes, sizeof bytes);
    return total;
}

static void a_file_is_read_as_it_grows_from_when_it_is_there(void **state)
{
    (void)state;
    assert_reads("");
    int fd SCOPED_FD = writer(0);
    assert_reads("");
    put(fd, "one\n");
    assert_reads("one\n");
    assert_reads("");
    put(fd, "two\n");
    put(fd, "three\n");
    assert_reads("two\nthree\n");
}

static void what_was_read_takes_no_room_whether_the_writer_appends_or_not(void **state)
{
    (void)state;
    static const int table[] = {0, O_APPEND};
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        int fd SCOPED_FD = writer(table[at]);
        console_file_close(&console);
        console_file_init(&console);
        char block[BLOCK_BYTES];
        memset(block, 'x', sizeof block);
        struct stat found;
        for (size_t written = 0; written < (size_t)4 * CONSOLE_FILE_CUT_BYTES; written += sizeof block) {
            assert_int_equal(write(fd, block, sizeof block), sizeof block);
            assert_int_equal(drain(), sizeof block);
            assert_int_equal(fstat(fd, &found), 0);
            assert_true(found.st_blocks * 512 <= CONSOLE_FILE_CUT_BYTES + 2 * BLOCK_BYTES);
        }
        put(fd, "the end");
        assert_reads("the end");
    }
}

static void a_guest_that_prints_faster_than_it_is_read_fills_no_disk(void **state)
{
    (void)state;
    int fd SCOPED_FD = writer(0);
    char block[BLOCK_BYTES];
    uint8_t bytes[16];
    memset(block, 'x', sizeof block);
    struct stat found;
    for (size_t written = 0; written < (size_t)4 * (1024 * 1024); written += sizeof block) {
        assert_int_equal(write(fd, block, sizeof block), sizeof block);
        console_file_read(&console, folder_fd, "console.log", bytes, sizeof bytes);
        assert_int_equal(fstat(fd, &found), 0);
        assert_true(found.st_blocks * 512 <= CONSOLE_FILE_CUT_BYTES + CONSOLE_FILE_LAG_BYTES + 2 * BLOCK_BYTES);
    }
    drain();
    put(fd, "the end");
    assert_reads("the end");
}

static void the_newest_of_a_flood_is_read_whole(void **state)
{
    (void)state;
    int fd SCOPED_FD = writer(0);
    char block[BLOCK_BYTES];
    memset(block, 'x', sizeof block);
    for (size_t written = 0; written < (size_t)3 * (1024 * 1024); written += sizeof block)
        assert_int_equal(write(fd, block, sizeof block), sizeof block);
    assert_int_equal(drain(), CONSOLE_FILE_KEPT_BYTES);
    struct stat found;
    assert_int_equal(fstat(fd, &found), 0);
    assert_int_equal(found.st_blocks, 0);
}

static void what_is_no_regular_file_is_not_opened(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_reads("");
    assert_int_equal(console.fd, -1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_reads("");
    assert_int_equal(console.fd, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_is_read_as_it_grows_from_when_it_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_read_takes_no_room_whether_the_writer_appends_or_not, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_guest_that_prints_faster_than_it_is_read_fills_no_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_newest_of_a_flood_is_read_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_regular_file_is_not_opened, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
