#include "api/http/idempotency.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cmocka.h"

static char folder[64];
static char file[96];

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/omertad-keys-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/idempotency.secret", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(file);
    return rmdir(folder);
}

static void hash_of(const struct idempotency *it, const char *text, uint8_t ret_hash[STORE_REQUEST_HASH_BYTES])
{
    struct error err = {0};
    json_t *tree = json_loads(text, 0, NULL);
    assert_non_null(tree);
    assert_int_equal(idempotency_hash(it, tree, ret_hash, &err), 0);
    json_decref(tree);
}

static void a_request_is_known_by_its_meaning(void **state)
{
    (void)state;
    static struct idempotency it;
    uint8_t first[STORE_REQUEST_HASH_BYTES];
    uint8_t second[STORE_REQUEST_HASH_BYTES];
    const struct {
        const char *text;
        int same;
    } rows[] = {
        {" { \"b\" : {\"d\": [1, 2], \"c\": \"x\"},\n\"a\" : 1}", 1},
        {"{\"a\":1,\"b\":{\"c\":\"x\",\"d\":[2,1]}}", 0},
        {"{\"a\":2,\"b\":{\"c\":\"x\",\"d\":[1,2]}}", 0},
        {"{\"a\":1,\"b\":{\"c\":\"x\",\"d\":[1,2]},\"e\":null}", 0},
        {"{}", 0},
    };
    assert_int_equal(idempotency_open(folder, &it, NULL), 0);
    hash_of(&it, "{\"a\":1,\"b\":{\"c\":\"x\",\"d\":[1,2]}}", first);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        hash_of(&it, rows[i].text, second);
        assert_int_equal(memcmp(first, second, sizeof first) == 0, rows[i].same);
    }
    idempotency_done(&it);

    /* The next daemon knows it too; one with another secret does not. */
    assert_int_equal(idempotency_open(folder, &it, NULL), 0);
    hash_of(&it, rows[0].text, second);
    assert_memory_equal(first, second, sizeof first);
    idempotency_done(&it);
    assert_int_equal(truncate(file, IDEMPOTENCY_SECRET_BYTES - 1), 0);
    assert_int_equal(idempotency_open(folder, &it, NULL), 0);
    hash_of(&it, rows[0].text, second);
    assert_memory_not_equal(first, second, sizeof first);
    idempotency_done(&it);
}

static void the_secret_is_ours_alone(void **state)
{
    (void)state;
    static struct idempotency it;
    struct error err = {0};
    struct stat status;
    assert_int_equal(idempotency_open(folder, &it, NULL), 0);
    idempotency_done(&it);
    assert_int_equal(stat(file, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(status.st_size, IDEMPOTENCY_SECRET_BYTES);
    assert_int_equal(chmod(file, 0640), 0);
    assert_int_equal(idempotency_open(folder, &it, &err), -EPERM);
    unlink(file);
    assert_int_equal(symlink("/dev/zero", file), 0);
    assert_true(idempotency_open(folder, &it, &err) < 0);
    assert_true(idempotency_open("/nonexistent", &it, &err) < 0);
}

static void a_key_is_answered_by_one_at_a_time(void **state)
{
    (void)state;
    static struct idempotency it;
    struct error err = {0};
    assert_int_equal(idempotency_open(folder, &it, NULL), 0);
    assert_int_equal(idempotency_claim(&it, "a", &err), 0);
    assert_int_equal(idempotency_claim(&it, "b", &err), 0);
    assert_int_equal(idempotency_claim(&it, "a", &err), -EINPROGRESS);
    assert_string_equal(err.slug, "request-in-flight");
    idempotency_release(&it, "a");
    assert_int_equal(idempotency_claim(&it, "b", &err), -EINPROGRESS);
    assert_int_equal(idempotency_claim(&it, "a", &err), 0);
    for (int n = 2; n < IDEMPOTENCY_IN_FLIGHT_MAX; n++) {
        char key[16];
        snprintf(key, sizeof key, "key-%d", n);
        assert_int_equal(idempotency_claim(&it, key, &err), 0);
    }
    assert_int_equal(idempotency_claim(&it, "one more", &err), -EINPROGRESS);
    idempotency_done(&it);
}

static void a_key_is_visible_ascii(void **state)
{
    (void)state;
    char longest[STORE_KEY_BYTES + 1];
    memset(longest, 'k', sizeof longest);
    longest[STORE_KEY_BYTES] = '\0';
    assert_false(idempotency_key_valid(longest));
    longest[STORE_KEY_BYTES - 1] = '\0';
    assert_true(idempotency_key_valid(longest));
    assert_true(idempotency_key_valid("\"8e03978e-40d5-43dd-bc93-6894a57f9324\""));
    const char *bad[] = {"", " ", "a b", "a\t", "\x7f", "\xc3\xa9", "a\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(idempotency_key_valid(bad[i]));
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_request_is_known_by_its_meaning),
        IN_FOLDER(the_secret_is_ours_alone),
        IN_FOLDER(a_key_is_answered_by_one_at_a_time),
        IN_FOLDER(a_key_is_visible_ascii),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
