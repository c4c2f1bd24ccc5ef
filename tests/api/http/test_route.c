#include "api/http/route.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/resource/handle.h"
#include "embed.h"
#include "tests/cmocka.h"

/* ---- the contract, read line by line ----------------------------------------------------------------------------- */

/* One operation of openapi.yaml. */
struct operation {
    char path[80];
    char method[8];
    enum route_auth auth;
    bool takes_body;
};

struct contract {
    size_t count;
    struct operation operations[64];
};

static enum route_auth auth_of(const char *security)
{
    if (strcmp(security, "[]") == 0)
        return ROUTE_OPEN;
    if (strcmp(security, "[{bearer: [lease]}]") == 0)
        return ROUTE_LEASE;
    assert_string_equal(security, "[{bearer: [admin]}]");
    return ROUTE_ADMIN;
}

/* Paths stand at two spaces below `paths:`, methods at four, what belongs to an operation at six. */
static void read_contract(struct contract *contract)
{
    static const char security[] = "      security: ";
    static const char *const methods[] = {"get", "post", "put", "patch", "delete"};
    const struct embed_file *file = embed_files;
    while (file->path != NULL && strcmp(file->path, "openapi.yaml") != 0)
        file++;
    assert_non_null(file->path);
    char *text = strdup((const char *)file->bytes);
    char path[80] = "";
    bool in_paths = false;
    struct operation *last = NULL;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        if (line[0] != ' ')
            in_paths = strcmp(line, "paths:") == 0;
        size_t indent = strspn(line, " ");
        size_t length = strlen(line);
        if (!in_paths || length == 0)
            continue;
        if (indent == 2 && line[2] == '/') {
            snprintf(path, sizeof path, "%.*s", (int)(length - 3), line + 2);
            last = NULL;
        }
        for (size_t i = 0; indent == 4 && i < sizeof methods / sizeof methods[0]; i++) {
            if (strncmp(line + 4, methods[i], strlen(methods[i])) == 0 && line[length - 1] == ':') {
                assert_true(contract->count < 64);
                last = &contract->operations[contract->count++];
                last->auth = ROUTE_READ; /* the document's own default */
                snprintf(last->path, sizeof last->path, "%s", path);
                snprintf(last->method, sizeof last->method, "%s", methods[i]);
            }
        }
        if (last != NULL && strncmp(line, security, sizeof security - 1) == 0)
            last->auth = auth_of(line + sizeof security - 1);
        if (last != NULL && strcmp(line, "      requestBody:") == 0)
            last->takes_body = true;
    }
    free(text);
}

static const struct operation *find_operation(const struct contract *contract, const struct route *route)
{
    for (size_t i = 0; i < contract->count; i++) {
        if (strcmp(contract->operations[i].path, route->pattern) == 0 &&
            strcasecmp(contract->operations[i].method, request_method_name(route->method)) == 0)
            return &contract->operations[i];
    }
    return NULL;
}

static void every_route_is_an_operation_of_the_contract(void **state)
{
    (void)state;
    struct contract contract = {0};
    read_contract(&contract);
    for (const struct route *route = route_table; route->pattern != NULL; route++) {
        const struct operation *operation = find_operation(&contract, route);
        if (operation == NULL)
            fail_msg("%s %s is not in openapi.yaml", request_method_name(route->method), route->pattern);
        if (operation->auth != route->auth)
            fail_msg("%s %s has another scope in openapi.yaml", request_method_name(route->method), route->pattern);
        assert_int_equal(operation->takes_body, route->takes_body);
    }
}

static void every_operation_of_the_contract_is_a_route(void **state)
{
    (void)state;
    struct contract contract = {0};
    read_contract(&contract);
    size_t routes = 0;
    for (const struct route *route = route_table; route->pattern != NULL; route++)
        routes++;
    /* Each route has its own operation (above), so equal numbers leave none without a route. */
    assert_int_equal(contract.count, routes);
    assert_true(routes > 20);
}

static void whatever_changes_something_needs_more_than_reading(void **state)
{
    (void)state;
    for (const struct route *route = route_table; route->pattern != NULL; route++) {
        if (route->method != REQUEST_GET)
            assert_true(route->auth == ROUTE_LEASE || route->auth == ROUTE_ADMIN);
    }
    assert_int_equal(route_scope(ROUTE_ADMIN), TOKEN_ADMIN);
    assert_int_equal(route_scope(ROUTE_LEASE), TOKEN_LEASE);
    assert_int_equal(route_scope(ROUTE_READ), TOKEN_READ);
}

/* ---- matching ------------------------------------------------------------------------------------------------------ */

static void ignore(void *context, const struct request *request, struct response *response)
{
    (void)context;
    (void)request;
    (void)response;
}

static const struct route table[] = {
    {REQUEST_GET, "/", ROUTE_OPEN, false, NULL, "text/html", ignore},
    {REQUEST_GET, "/a/{x}", ROUTE_READ, false, "limit after", "application/json", ignore},
    {REQUEST_DELETE, "/a/{x}", ROUTE_READ, false, NULL, "application/json", ignore},
    {REQUEST_POST, "/a/{x}/b", ROUTE_READ, true, NULL, "application/json", ignore},
    {.pattern = NULL},
};

static struct route_match match(enum request_method method, const char *target, struct request *request)
{
    *request = (struct request){.method = method};
    assert_int_equal(request_parse_target(request, target, NULL), 0);
    return route_match(table, request);
}

static void a_path_and_method_find_their_route_and_parameters(void **state)
{
    (void)state;
    struct request request;
    assert_ptr_equal(match(REQUEST_GET, "/", &request).route, &table[0]);
    assert_ptr_equal(match(REQUEST_HEAD, "/", &request).route, &table[0]);
    assert_ptr_equal(match(REQUEST_DELETE, "/a/%2e%2e", &request).route, &table[2]);
    assert_int_equal(request.parameter_count, 1);
    assert_string_equal(request.parameters[0], "..");
    assert_ptr_equal(match(REQUEST_POST, "/a/1/b", &request).route, &table[3]);
}

static void paths_that_are_nearly_right_find_nothing(void **state)
{
    (void)state;
    const char *const paths[] = {"/a",   "/a/",    "//a/1",  "/a/1/", "/a/1/b/", "/a//b",
                                 "/A/1", "/a/1/c", "/a%2F1", "/./",   "/a/1/b/c"};
    struct request request;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        assert_false(match(REQUEST_GET, paths[i], &request).path_known);
}

static void a_known_path_tells_its_methods(void **state)
{
    (void)state;
    struct request request;
    char allow[ROUTE_ALLOW_BYTES];
    struct route_match found = match(REQUEST_PUT, "/a/1", &request);
    assert_null(found.route);
    assert_true(found.path_known);
    assert_string_equal(route_allow_header(found.allowed, allow), "GET, HEAD, DELETE, OPTIONS");
    found = match(REQUEST_HEAD, "/a/1/b", &request);
    assert_null(found.route);
    assert_string_equal(route_allow_header(found.allowed, allow), "POST, OPTIONS");
    route_allow_header((1u << REQUEST_OTHER) - 1, allow);
    assert_true(strlen(allow) < ROUTE_ALLOW_BYTES - 1);
}

static void query_parameters_are_whole_words_of_the_route(void **state)
{
    (void)state;
    assert_true(route_takes_query(&table[1], "limit"));
    assert_true(route_takes_query(&table[1], "after"));
    assert_false(route_takes_query(&table[1], "lim"));
    assert_false(route_takes_query(&table[1], "limit after"));
    assert_false(route_takes_query(&table[1], ""));
    assert_false(route_takes_query(&table[0], "limit"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_is_an_operation_of_the_contract),
        cmocka_unit_test(every_operation_of_the_contract_is_a_route),
        cmocka_unit_test(whatever_changes_something_needs_more_than_reading),
        cmocka_unit_test(a_path_and_method_find_their_route_and_parameters),
        cmocka_unit_test(paths_that_are_nearly_right_find_nothing),
        cmocka_unit_test(a_known_path_tells_its_methods),
        cmocka_unit_test(query_parameters_are_whole_words_of_the_route),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
