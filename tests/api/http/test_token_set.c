#include "api/http/token_set.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cmocka.h"

static int make_folder(void **state)
{
    char *dir = strdup("/tmp/omertad-tokens-XXXXXX");
    assert_non_null(mkdtemp(dir));
    *state = dir;
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

static int drop_folder(void **state)
{
    nftw(*state, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return 0;
}

static const char *in_folder(const char *dir, const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void add(const char *dir, const char *name, enum token_scope scope, struct token *ret_token)
{
    char text[TOKEN_TEXT_BYTES];
    struct error err = {0};
    if (token_list_add(dir, name, scope, text, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(strlen(text), TOKEN_TEXT_BYTES - 1);
    token_from_text(text, strlen(text), ret_token);
}

static void open_tokens(const char *dir, struct tokens *tokens)
{
    struct error err = {0};
    if (tokens_open(dir, tokens, &err) < 0)
        fail_msg("%s", err.message);
}

static void the_first_token_is_the_one_in_the_file(void **state)
{
    const char *dir = *state;
    struct tokens tokens;
    struct token first;
    enum token_scope scope = TOKEN_READ;
    open_tokens(dir, &tokens);
    assert_int_equal(token_open(dir, &first, NULL), 0);
    assert_true(tokens_find(&tokens, &first, &scope));
    assert_int_equal(scope, TOKEN_ADMIN);
    tokens_done(&tokens);
    /* Without its file it is made anew, and the old one is worth nothing. */
    assert_int_equal(unlink(in_folder(dir, "token")), 0);
    open_tokens(dir, &tokens);
    assert_false(tokens_find(&tokens, &first, &scope));
    tokens_done(&tokens);
}

static void a_first_token_that_was_revoked_does_not_come_again(void **state)
{
    const char *dir = *state;
    struct tokens tokens;
    struct token first;
    enum token_scope scope;
    open_tokens(dir, &tokens);
    assert_int_equal(token_open(dir, &first, NULL), 0);
    assert_int_equal(token_list_revoke(dir, TOKEN_FIRST, NULL), 0);
    assert_false(tokens_find(&tokens, &first, &scope));
    assert_int_equal(access(in_folder(dir, "token"), F_OK), -1);
    tokens_done(&tokens);
    open_tokens(dir, &tokens);
    assert_int_equal(access(in_folder(dir, "token"), F_OK), -1);
    char text[TOKEN_TEXT_BYTES];
    assert_int_equal(token_list_add(dir, TOKEN_FIRST, TOKEN_READ, text, NULL), -EEXIST);
    tokens_done(&tokens);
}

static void a_running_daemon_follows_each_change(void **state)
{
    const char *dir = *state;
    struct tokens tokens;
    struct token reader;
    enum token_scope scope = TOKEN_ADMIN;
    open_tokens(dir, &tokens);
    add(dir, "page", TOKEN_READ, &reader);
    assert_true(tokens_find(&tokens, &reader, &scope));
    assert_int_equal(scope, TOKEN_READ);
    assert_int_equal(token_list_revoke(dir, "page", NULL), 0);
    assert_false(tokens_find(&tokens, &reader, &scope));
    assert_int_equal(token_list_revoke(dir, "page", NULL), -ENOENT);
    struct token again;
    add(dir, "page", TOKEN_LEASE, &again); /* the name is free, the token is another one */
    assert_true(tokens_find(&tokens, &again, &scope));
    assert_int_equal(scope, TOKEN_LEASE);
    assert_false(tokens_find(&tokens, &reader, &scope));
    tokens_done(&tokens);
}

static void only_hashes_are_written(void **state)
{
    const char *dir = *state;
    char text[TOKEN_TEXT_BYTES];
    char bytes[4096] = "";
    assert_int_equal(token_list_add(dir, "x", TOKEN_READ, text, NULL), 0);
    int fd = open(in_folder(dir, "tokens.json"), O_RDONLY);
    struct stat status;
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_true(read(fd, bytes, sizeof bytes - 1) > 0);
    close(fd);
    assert_null(strstr(bytes, text));
    assert_null(strstr(bytes, text + 4));
    assert_non_null(strstr(bytes, "\"hash\""));
}

static void a_damaged_file_leaves_no_token_good(void **state)
{
    const char *dir = *state;
    static const char *const texts[] = {
        "",
        "{",
        "{}",
        "[]",
        "{\"tokens\": 1}",
        "{\"tokens\": [{}]}",
        "{\"tokens\": [{\"name\": \"X\", \"scope\": \"read\", \"hash\": \"00\", \"created_ms\": 1, \"revoked_ms\": "
        "0}]}",
        "{\"tokens\": [{\"name\": \"x\", \"scope\": \"all\", \"hash\": \"00\", \"created_ms\": 1, \"revoked_ms\": 0}]}",
        "{\"tokens\": [{\"name\": \"x\", \"scope\": \"read\", \"hash\": \"00\", \"created_ms\": 1, \"revoked_ms\": "
        "0}]}"};
    struct tokens tokens;
    struct token good;
    struct token_list list;
    enum token_scope scope;
    open_tokens(dir, &tokens);
    add(dir, "good", TOKEN_ADMIN, &good);
    assert_true(tokens_find(&tokens, &good, &scope));
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct error err = {0};
        write_file(in_folder(dir, "tokens.json"), texts[i]);
        if (tokens_find(&tokens, &good, &scope) || token_list_read(dir, &list, &err) != -EINVAL)
            fail_msg("%s", texts[i]);
        assert_int_equal(token_list_prepare(dir, NULL), -EINVAL);
    }
    assert_int_equal(unlink(in_folder(dir, "tokens.json")), 0);
    assert_false(tokens_find(&tokens, &good, &scope));
    tokens_done(&tokens);
}

static void a_file_that_others_may_read_is_refused(void **state)
{
    const char *dir = *state;
    struct token_list list;
    struct token token;
    add(dir, "x", TOKEN_READ, &token);
    assert_int_equal(chmod(in_folder(dir, "tokens.json"), 0644), 0);
    assert_int_equal(token_list_read(dir, &list, NULL), -EPERM);
}

static void names_are_plain_words(void **state)
{
    const char *dir = *state;
    static const char *const names[] = {
        "",   "X",   "a b", "../a",     "-a",
        ".a", "a/b", "a\n", "\xc3\xa4", "a123456789012345678901234567890123456789012345678901234567890123"};
    char text[TOKEN_TEXT_BYTES];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(token_list_add(dir, names[i], TOKEN_READ, text, NULL), -EINVAL);
    assert_int_equal(token_list_add(dir, "a.b_c-1", TOKEN_READ, text, NULL), 0);
    assert_int_equal(token_list_add(dir, "a.b_c-1", TOKEN_READ, text, NULL), -EEXIST);
}

static void there_is_a_last_place_and_revoked_ones_give_theirs(void **state)
{
    const char *dir = *state;
    char text[TOKEN_TEXT_BYTES];
    char name[8];
    assert_int_equal(token_list_prepare(dir, NULL), 0);
    assert_int_equal(token_list_revoke(dir, TOKEN_FIRST, NULL), 0);
    for (int i = 1; i < TOKENS_MAX; i++) {
        snprintf(name, sizeof name, "t%d", i);
        assert_int_equal(token_list_add(dir, name, TOKEN_READ, text, NULL), 0);
    }
    assert_int_equal(token_list_add(dir, "more", TOKEN_READ, text, NULL), -ENOSPC);
    assert_int_equal(token_list_revoke(dir, "t5", NULL), 0);
    assert_int_equal(token_list_add(dir, "more", TOKEN_READ, text, NULL), 0);
    struct token_list list;
    assert_int_equal(token_list_read(dir, &list, NULL), 0);
    assert_int_equal(list.count, TOKENS_MAX);
    assert_string_equal(list.entries[0].name, TOKEN_FIRST);
    assert_string_equal(list.entries[TOKENS_MAX - 1].name, "more");
}

#define WITH_FOLDER(name) cmocka_unit_test_setup_teardown(name, make_folder, drop_folder)

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(the_first_token_is_the_one_in_the_file),
        WITH_FOLDER(a_first_token_that_was_revoked_does_not_come_again),
        WITH_FOLDER(a_running_daemon_follows_each_change),
        WITH_FOLDER(only_hashes_are_written),
        WITH_FOLDER(a_damaged_file_leaves_no_token_good),
        WITH_FOLDER(a_file_that_others_may_read_is_refused),
        WITH_FOLDER(names_are_plain_words),
        WITH_FOLDER(there_is_a_last_place_and_revoked_ones_give_theirs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
