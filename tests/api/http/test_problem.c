#include "api/http/problem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embed.h"
#include "tests/cmocka.h"

static json_t *body_of(const struct response *response)
{
    json_t *json = json_loadb(response->body, response->body_bytes, 0, NULL);
    assert_non_null(json);
    return json;
}

static const char *text_of(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));
    return text == NULL ? "" : text;
}

static struct request *request_for(const char *target)
{
    struct request *request = calloc(1, sizeof *request);
    assert_int_equal(request_parse_target(request, target, NULL), 0);
    return request;
}

static void every_problem_is_complete_and_has_its_own_slug(void **state)
{
    (void)state;
    for (size_t i = 0; i < PROBLEM_COUNT; i++) {
        const struct problem_type *type = problem_type((enum problem)i);
        assert_non_null(type->slug);
        assert_true(type->status >= 400 && type->status < 600);
        assert_non_null(type->title);
        assert_non_null(type->explanation);
        enum problem found = PROBLEM_COUNT;
        assert_true(problem_find(type->slug, &found));
        assert_int_equal(found, i);
    }
    enum problem unknown;
    assert_false(problem_find("no-such-problem", &unknown));
}

static void the_contract_lists_every_slug(void **state)
{
    (void)state;
    const struct embed_file *file = embed_files;
    while (file->path != NULL && strcmp(file->path, "openapi.yaml") != 0)
        file++;
    assert_non_null(file->path);
    for (size_t i = 0; i < PROBLEM_COUNT; i++) {
        char line[80];
        snprintf(line, sizeof line, "        - %s\n", problem_type((enum problem)i)->slug);
        if (strstr((const char *)file->bytes, line) == NULL)
            fail_msg("%s is not in openapi.yaml", problem_type((enum problem)i)->slug);
    }
}

static void a_problem_says_what_where_and_whether_to_retry(void **state)
{
    (void)state;
    struct request *request = request_for("/v1/leases?x=1");
    struct response response = {0};
    problem_respond(&response, request, PROBLEM_SHUTTING_DOWN, "after %d", 3);
    assert_int_equal(response.status, 503);
    assert_string_equal(response.content_type, "application/problem+json");
    assert_string_equal(response.headers[0].name, "Retry-After");
    json_t *json = body_of(&response);
    assert_string_equal(text_of(json, "type"), "/v1/problems/shutting-down");
    assert_string_equal(text_of(json, "detail"), "after 3");
    assert_string_equal(text_of(json, "instance"), "/v1/leases");
    assert_true(json_is_true(json_object_get(json, "retryable")));
    assert_int_equal(json_integer_value(json_object_get(json, "status")), 503);
    json_decref(json);
    response_done(&response);
    free(request);
}

static void a_detail_that_cannot_be_shown_gives_way_to_the_explanation(void **state)
{
    (void)state;
    struct request *request = request_for("/");
    struct response response = {0};
    const char *const details[] = {"", "\xff\xfe"};
    for (size_t i = 0; i < 2; i++) {
        problem_respond(&response, request, PROBLEM_QUERY_INVALID, "%s", details[i]);
        json_t *json = body_of(&response);
        assert_string_equal(text_of(json, "detail"), problem_type(PROBLEM_QUERY_INVALID)->explanation);
        json_decref(json);
    }
    response_done(&response);
    free(request);
}

static void errors_are_mapped_by_slug_then_by_code(void **state)
{
    (void)state;
    const struct {
        int code;
        const char *slug;
        unsigned status;
    } table[] = {
        {-ENOENT, "lease-not-found", 404},
        {-ENOSPC, "insufficient-capacity", 507},
        {-ENOSPC, NULL, 503},
        {-EROFS, NULL, 503},
        {-ESHUTDOWN, NULL, 503},
        {-EEXIST, "peer-in-use", 409},
        {-EPROTO, NULL, 500},
        {-EINVAL, "unheard-of", 500},
    };
    struct request *request = request_for("/v1/leases");
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct error err = {.code = table[i].code, .slug = table[i].slug, .message = "private cause"};
        struct response response = {0};
        problem_respond_error(&response, request, &err, "an-id", NULL);
        assert_int_equal(response.status, table[i].status);
        json_t *json = body_of(&response);
        assert_string_equal(text_of(json, "lease_id"), "an-id");
        /* What the daemon did wrong is for its log alone. */
        assert_int_equal(strcmp(text_of(json, "detail"), "private cause") == 0, table[i].status != 500);
        json_decref(json);
        response_done(&response);
    }
    free(request);
}

static void faults_of_one_kind_give_the_type_and_mixed_ones_do_not(void **state)
{
    (void)state;
    struct request *request = request_for("/v1/leases");
    struct decode_errors errors = {0};
    struct decode_node node = {.pointer = "/consumer/endpoint", .errors = &errors};
    struct response response = {0};
    decode_fault(&node, "endpoint-forbidden", "is not allowed");
    problem_respond_invalid(&response, request, &errors);
    json_t *json = body_of(&response);
    assert_int_equal(response.status, 422);
    assert_string_equal(text_of(json, "type"), "/v1/problems/endpoint-forbidden");
    json_decref(json);

    decode_fault(&node, NULL, "is something else too");
    problem_respond_invalid(&response, request, &errors);
    json = body_of(&response);
    assert_string_equal(text_of(json, "type"), "/v1/problems/validation-failed");
    const json_t *list = json_object_get(json, "errors");
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(text_of(json_array_get(list, 0), "pointer"), "/consumer/endpoint");
    json_decref(json);
    response_done(&response);
    free(request);
}

static void a_missing_image_is_422_for_a_lease(void **state)
{
    (void)state;
    struct request *request = request_for("/v1/leases");
    struct decode_errors errors = {0};
    struct decode_node node = {.pointer = "/image", .errors = &errors};
    struct response response = {0};
    decode_fault(&node, "image-not-found", "there is none");
    problem_respond_invalid(&response, request, &errors);
    assert_int_equal(response.status, 422);
    response_done(&response);
    free(request);
}

static void a_document_that_could_not_be_looked_at_is_not_blamed(void **state)
{
    (void)state;
    struct request *request = request_for("/v1/leases");
    struct decode_errors errors = {0};
    struct decode_node node = {.pointer = "/image", .errors = &errors};
    struct response response = {0};
    decode_fault(&node, NULL, "there is no memory");
    errors.no_memory = true;
    problem_respond_invalid(&response, request, &errors);
    assert_int_equal(response.status, 503);
    response_done(&response);
    free(request);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_problem_is_complete_and_has_its_own_slug),
        cmocka_unit_test(the_contract_lists_every_slug),
        cmocka_unit_test(a_problem_says_what_where_and_whether_to_retry),
        cmocka_unit_test(a_detail_that_cannot_be_shown_gives_way_to_the_explanation),
        cmocka_unit_test(errors_are_mapped_by_slug_then_by_code),
        cmocka_unit_test(faults_of_one_kind_give_the_type_and_mixed_ones_do_not),
        cmocka_unit_test(a_missing_image_is_422_for_a_lease),
        cmocka_unit_test(a_document_that_could_not_be_looked_at_is_not_blamed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
