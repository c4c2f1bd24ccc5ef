#include "api/json/decode.h"

#include <errno.h>
#include <string.h>

#include "tests/cmocka.h"

static int parse(const char *text, size_t length, struct decode_errors *errors, json_t **tree)
{
    struct error err = {0};
    *tree = NULL;
    return decode_parse((const uint8_t *)text, length, errors, tree, &err);
}

static void what_is_not_json_is_refused_without_a_pointer(void **state)
{
    (void)state;
    const char *const table[] = {"", "{", "{\"a\"}", "{\"a\":1} x", "{\"a\":1}{}", "{'a':1}", "{\"a\":01}", "nul"};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct decode_errors errors = {0};
        json_t *tree;
        assert_int_equal(parse(table[i], strlen(table[i]), &errors, &tree), -EINVAL);
        assert_int_equal(errors.count, 0);
        assert_null(tree);
    }
}

static void json_that_must_not_be_is_refused_with_its_pointer(void **state)
{
    (void)state;
    const struct {
        const char *text;
        size_t length; /* 0: strlen */
        const char *pointer;
    } table[] = {
        {"{\"a\":1,\"a\":2}", 0, "/a"},
        {"{\"a\":{\"b\":1,\"b\":2}}", 0, "/a/b"},
        {"{\"a\":[\"x\",\"\\u0000\"]}", 0, "/a/1"},
        {"{\"a\":\"\xff\"}", 0, "/a"},
        {"{\"a\":99999999999999999999}", 0, "/a"},
        {"{\"a\":1e999}", 0, "/a"},
        {"[1]", 0, ""},
        {"7", 0, ""},
        {"\"text\"", 0, ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct decode_errors errors = {0};
        json_t *tree;
        size_t length = table[i].length == 0 ? strlen(table[i].text) : table[i].length;
        assert_int_equal(parse(table[i].text, length, &errors, &tree), -EBADMSG);
        assert_int_equal(errors.count, 1);
        assert_string_equal(errors.items[0].pointer, table[i].pointer);
    }
}

static void sixteen_levels_are_accepted_and_seventeen_are_not(void **state)
{
    (void)state;
    for (size_t depth = 16; depth <= 17; depth++) {
        char text[80] = "{\"a\":";
        memset(text + 5, '[', depth - 1);
        memset(text + 5 + depth - 1, ']', depth - 1);
        text[5 + 2 * (depth - 1)] = '}';
        struct decode_errors errors = {0};
        json_t *tree;
        assert_int_equal(parse(text, strlen(text), &errors, &tree), depth == 16 ? 0 : -EBADMSG);
        json_decref(tree);
    }
}

static void every_fault_is_told_with_its_pointer(void **state)
{
    (void)state;
    static const char *const keys[] = {"alpha", "list", "flag", NULL};
    struct decode_errors errors = {0};
    json_t *tree;
    const char *text = "{\"alhpa\":1,\"list\":[1,\"x\"],\"flag\":0,\"q/r\":1}";
    assert_int_equal(parse(text, strlen(text), &errors, &tree), 0);
    struct decode_node root = decode_root(tree, &errors);
    assert_true(decode_object(&root, keys));
    struct decode_node alpha = decode_member(&root, "alpha");
    uint64_t number = 42;
    assert_false(decode_integer(&alpha, 0, 9, &number));
    assert_int_equal(number, 42);
    struct decode_node list = decode_member(&root, "list");
    size_t count = 0;
    assert_true(decode_array(&list, 1, 2, &count));
    struct decode_node element = decode_element(&list, 1);
    assert_false(decode_integer(&element, 0, 9, &number));
    struct decode_node flag = decode_member(&root, "flag");
    bool value = true;
    assert_false(decode_boolean(&flag, &value));

    const char *const pointers[] = {"/alhpa", "/q~1r", "/alpha", "/list/1", "/flag"};
    assert_int_equal(errors.count, sizeof pointers / sizeof pointers[0]);
    for (size_t i = 0; i < errors.count; i++)
        assert_string_equal(errors.items[i].pointer, pointers[i]);
    assert_non_null(strstr(errors.items[0].detail, "did you mean \"alpha\""));
    assert_null(strstr(errors.items[1].detail, "did you mean"));
    json_decref(tree);
}

static void integers_hold_their_bounds_exactly(void **state)
{
    (void)state;
    const struct {
        const char *text;
        bool good;
    } table[] = {{"4", false},   {"5", true},      {"9", true},     {"10", false},  {"-5", false},
                 {"5.0", false}, {"\"5\"", false}, {"null", false}, {"true", false}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct decode_errors errors = {0};
        struct decode_node node = {.value = json_loads(table[i].text, JSON_DECODE_ANY, NULL), .errors = &errors};
        uint64_t number = 0;
        assert_int_equal(decode_integer(&node, 5, 9, &number), table[i].good);
        assert_int_equal(errors.count, table[i].good ? 0 : 1);
        json_decref(node.value);
    }
}

static void strings_are_measured_in_bytes(void **state)
{
    (void)state;
    const struct {
        const char *text;
        bool good;
    } table[] = {{"\"\"", false}, {"\"a\"", true}, {"\"\\u00e9\\u00e9\"", true}, {"\"abcde\"", false}, {"1", false}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct decode_errors errors = {0};
        struct decode_node node = {.value = json_loads(table[i].text, JSON_DECODE_ANY, NULL), .errors = &errors};
        assert_int_equal(decode_string(&node, 1, 4) != NULL, table[i].good);
        json_decref(node.value);
    }
}

static void numbers_out_of_range_are_refused(void **state)
{
    (void)state;
    const struct {
        const char *text;
        bool good;
    } table[] = {{"0.001", true}, {"1", true}, {"0.0009", false}, {"1.1", false}, {"-1", false}, {"\"1\"", false}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct decode_errors errors = {0};
        struct decode_node node = {.value = json_loads(table[i].text, JSON_DECODE_ANY, NULL), .errors = &errors};
        double value = 0;
        assert_int_equal(decode_number(&node, 0.001, 1, &value), table[i].good);
        json_decref(node.value);
    }
}

static void faults_beyond_the_limit_are_only_marked(void **state)
{
    (void)state;
    struct decode_errors errors = {0};
    struct decode_node node = {.errors = &errors};
    for (int i = 0; i < DECODE_ERRORS_MAX; i++)
        decode_fault(&node, NULL, "one");
    assert_false(errors.more);
    decode_fault(&node, NULL, "one more");
    assert_true(errors.more);
    assert_int_equal(errors.count, DECODE_ERRORS_MAX);
}

static void a_pointer_of_any_length_stays_inside_its_buffer(void **state)
{
    (void)state;
    struct decode_errors errors = {0};
    char key[400];
    memset(key, '~', sizeof key - 1);
    key[sizeof key - 1] = '\0';
    struct decode_node node = decode_root(NULL, &errors);
    for (int i = 0; i < 5; i++)
        node = decode_member(&node, key);
    assert_true(strlen(node.pointer) < sizeof node.pointer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_json_is_refused_without_a_pointer),
        cmocka_unit_test(json_that_must_not_be_is_refused_with_its_pointer),
        cmocka_unit_test(sixteen_levels_are_accepted_and_seventeen_are_not),
        cmocka_unit_test(every_fault_is_told_with_its_pointer),
        cmocka_unit_test(integers_hold_their_bounds_exactly),
        cmocka_unit_test(strings_are_measured_in_bytes),
        cmocka_unit_test(numbers_out_of_range_are_refused),
        cmocka_unit_test(faults_beyond_the_limit_are_only_marked),
        cmocka_unit_test(a_pointer_of_any_length_stays_inside_its_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
