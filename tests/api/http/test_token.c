#include "api/http/token.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cmocka.h"

struct folder {
    char dir[32];
    char path[64];
};

static int make_folder(void **state)
{
    struct folder *folder = calloc(1, sizeof *folder);
    snprintf(folder->dir, sizeof folder->dir, "/tmp/omertad-token-XXXXXX");
    assert_non_null(mkdtemp(folder->dir));
    snprintf(folder->path, sizeof folder->path, "%s/token", folder->dir);
    *state = folder;
    return 0;
}

static int drop_folder(void **state)
{
    struct folder *folder = *state;
    unlink(folder->path);
    int removed = rmdir(folder->dir); /* fails when a temporary file was left */
    free(folder);
    return removed;
}

static size_t read_file(const char *path, char *ret_text, size_t capacity)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t got = read(fd, ret_text, capacity);
    close(fd);
    assert_true(got >= 0);
    return (size_t)got;
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void the_first_start_makes_a_token_that_the_second_takes(void **state)
{
    const struct folder *folder = *state;
    struct token first;
    struct token second;
    assert_int_equal(token_open(folder->dir, &first, NULL), 0);
    struct stat status;
    assert_int_equal(stat(folder->path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    char text[64];
    size_t length = read_file(folder->path, text, sizeof text);
    assert_int_equal(length, TOKEN_TEXT_BYTES);
    assert_memory_equal(text, "omt_", 4);
    assert_true(token_matches(&first, text, length - 1));
    assert_int_equal(token_open(folder->dir, &second, NULL), 0);
    assert_memory_equal(&first, &second, sizeof first);
}

static void two_tokens_differ(void **state)
{
    const struct folder *folder = *state;
    struct token first;
    struct token second;
    assert_int_equal(token_open(folder->dir, &first, NULL), 0);
    assert_int_equal(unlink(folder->path), 0);
    assert_int_equal(token_open(folder->dir, &second, NULL), 0);
    assert_memory_not_equal(&first, &second, sizeof first);
}

static void what_is_not_the_token_does_not_match(void **state)
{
    (void)state;
    struct token token;
    token_from_text("omt_right", 9, &token);
    assert_true(token_matches(&token, "omt_right", 9));
    assert_false(token_matches(&token, "omt_right", 8));
    assert_false(token_matches(&token, "omt_righT", 9));
    assert_false(token_matches(&token, "", 0));
    assert_false(token_matches(&token, "omt_right ", 10));
}

static void a_file_that_others_can_read_is_refused(void **state)
{
    const struct folder *folder = *state;
    struct token token;
    struct error err = {0};
    assert_int_equal(token_open(folder->dir, &token, NULL), 0);
    assert_int_equal(chmod(folder->path, 0640), 0);
    assert_int_equal(token_open(folder->dir, &token, &err), -EPERM);
    assert_non_null(strstr(err.message, folder->path));
}

static void a_file_without_a_token_is_refused_and_not_quoted(void **state)
{
    const struct folder *folder = *state;
    const char *const texts[] = {"", "\n", "omt_short\n", "xmt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
                                 "omt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct token token;
        struct error err = {0};
        write_file(folder->path, texts[i], 0600);
        assert_int_equal(token_open(folder->dir, &token, &err), -EINVAL);
        assert_null(strstr(err.message, "omt_"));
    }
}

static void a_link_is_not_followed(void **state)
{
    const struct folder *folder = *state;
    struct token token;
    assert_int_equal(symlink("/dev/null", folder->path), 0);
    assert_true(token_open(folder->dir, &token, NULL) < 0);
}

static void wrong_tokens_are_answered_only_so_often_a_minute(void **state)
{
    (void)state;
    struct token_limiter limiter;
    token_limiter_init(&limiter);
    for (int i = 0; i < TOKEN_FAILURES_MAX; i++)
        assert_int_equal(token_limiter_fail(&limiter, 1000), 0);
    assert_int_equal(token_limiter_fail(&limiter, 1000), 61);
    assert_int_equal(token_limiter_fail(&limiter, 60999), 1);
    assert_int_equal(token_limiter_fail(&limiter, 61000), 0);
    token_limiter_done(&limiter);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_start_makes_a_token_that_the_second_takes, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(two_tokens_differ, make_folder, drop_folder),
        cmocka_unit_test(what_is_not_the_token_does_not_match),
        cmocka_unit_test_setup_teardown(a_file_that_others_can_read_is_refused, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(a_file_without_a_token_is_refused_and_not_quoted, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(a_link_is_not_followed, make_folder, drop_folder),
        cmocka_unit_test(wrong_tokens_are_answered_only_so_often_a_minute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
