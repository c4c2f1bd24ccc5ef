#include "api/http/observe.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/cmocka.h"

static const struct route routes[] = {
    {REQUEST_GET, "/v1/leases/{id}", ROUTE_READ, false, NULL, "application/json", NULL},
    {REQUEST_GET, "/healthz", ROUTE_OPEN, false, NULL, "application/json", NULL},
    {.pattern = NULL},
};

/* An observer whose log is a pipe. */
struct world {
    struct observer observer;
    struct log log;
    int read_fd;
    struct request request;
    struct response response;
    char text[4096];
};

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    world->read_fd = fds[0];
    world->log = (struct log){.fd = fds[1], .least = LOG_INFO};
    observer_init(&world->observer, routes, &world->log);
    world->request.id = id_new();
    world->request.method = REQUEST_GET;
    world->response.status = 200;
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    observer_done(&world->observer);
    close(world->read_fd);
    close(world->log.fd);
    free(world);
    return 0;
}

static void note(struct world *world, const struct route *route, uint64_t duration_us)
{
    observer_note(&world->observer, &(struct observation){.request = &world->request,
                                                          .response = &world->response,
                                                          .route = route,
                                                          .listener = "tcp",
                                                          .duration_us = duration_us});
}

/* What was logged since, "" for nothing. */
static const char *logged(struct world *world)
{
    assert_true(write(world->log.fd, "", 1) == 1); /* so that a read ends when there was nothing */
    ssize_t length = read(world->read_fd, world->text, sizeof world->text - 1);
    assert_true(length > 0);
    world->text[length] = '\0';
    return world->text;
}

static uint64_t counted(const struct world *world, size_t place, unsigned class)
{
    struct histogram_view view;
    histogram_read(&world->observer.times[place][class], &view);
    return view.total;
}

static void an_answer_counts_for_its_route_and_class(void **state)
{
    struct world *world = *state;
    note(world, &routes[0], 10);
    world->response.status = 404;
    note(world, &routes[0], 10);
    note(world, NULL, 10);
    assert_int_equal(counted(world, 0, 0), 1);
    assert_int_equal(counted(world, 0, 2), 1);
    assert_int_equal(counted(world, OBSERVE_ROUTES_MAX, 2), 1);
    assert_int_equal(counted(world, 1, 0), 0);
}

static void a_line_has_ids_of_request_lease_and_trace(void **state)
{
    struct world *world = *state;
    struct id lease = id_new();
    snprintf(world->request.instance, sizeof world->request.instance, "/v1/leases/%s/stats", lease.text);
    snprintf(world->request.trace.id, sizeof world->request.trace.id, "%032d", 7);
    snprintf(world->request.trace.parent, sizeof world->request.trace.parent, "%016d", 9);
    note(world, &routes[0], 1234);
    const char *line = logged(world);
    char wanted[200];
    snprintf(wanted, sizeof wanted, "event=http.request request=%s method=GET route=\"/v1/leases/{id}\" status=200",
             world->request.id.text);
    assert_non_null(strstr(line, wanted));
    snprintf(wanted, sizeof wanted, "lease=%s trace=%032d parent=%016d", lease.text, 7, 9);
    assert_non_null(strstr(line, wanted));
    assert_non_null(strstr(line, "duration_us=1234 "));
}

static void a_lease_that_was_made_is_found_in_the_location(void **state)
{
    struct world *world = *state;
    struct id lease = id_new();
    snprintf(world->request.instance, sizeof world->request.instance, "/v1/leases");
    world->response.status = 202;
    response_header(&world->response, "Location", "/v1/leases/%s", lease.text);
    note(world, &routes[0], 1);
    assert_non_null(strstr(logged(world), lease.text));
}

static void what_a_stranger_asked_for_is_escaped(void **state)
{
    struct world *world = *state;
    world->response.status = 404;
    snprintf(world->request.instance, sizeof world->request.instance, "/\"\n\x1b[31mevent=lease.created");
    note(world, NULL, 1);
    const char *line = logged(world);
    assert_non_null(strstr(line, "route=\"/\\x22\\x0a\\x1b[31mevent"));
    assert_ptr_equal(strchr(line, '\n'), strrchr(line, '\n'));
}

static void polling_is_counted_and_not_logged(void **state)
{
    struct world *world = *state;
    note(world, &routes[1], 1);
    assert_string_equal(logged(world), "");
    assert_int_equal(counted(world, 1, 0), 1);
    world->response.status = 503;
    note(world, &routes[1], 1);
    assert_non_null(strstr(logged(world), "level=warning"));
}

static void lines_are_bounded_and_the_next_one_says_how_many_were_left_out(void **state)
{
    struct world *world = *state;
    uint64_t now_ms = world->observer.refilled_ms;
    uint64_t left_out = 99;
    for (int i = 0; i < OBSERVE_LINES_AT_ONCE; i++)
        assert_true(observer_allows_line(&world->observer, now_ms, &left_out));
    assert_int_equal(left_out, 0);
    for (int i = 0; i < 30; i++)
        assert_false(observer_allows_line(&world->observer, now_ms + 1, &left_out));
    now_ms += 1000 / OBSERVE_LINES_PER_S;
    assert_true(observer_allows_line(&world->observer, now_ms, &left_out));
    assert_int_equal(left_out, 30);
    assert_false(observer_allows_line(&world->observer, now_ms, &left_out));
    now_ms += 3600 * 1000;
    for (int i = 0; i < OBSERVE_LINES_AT_ONCE; i++)
        assert_true(observer_allows_line(&world->observer, now_ms, &left_out));
    assert_false(observer_allows_line(&world->observer, now_ms, &left_out));
}

static void a_clock_that_stands_still_allows_nothing_more(void **state)
{
    struct world *world = *state;
    uint64_t now_ms = world->observer.refilled_ms;
    uint64_t left_out;
    unsigned allowed = 0;
    for (int i = 0; i < 2 * OBSERVE_LINES_AT_ONCE; i++)
        allowed += observer_allows_line(&world->observer, now_ms - 1000, &left_out);
    assert_int_equal(allowed, OBSERVE_LINES_AT_ONCE);
}

int main(void)
{
#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_WORLD(an_answer_counts_for_its_route_and_class),
        WITH_WORLD(a_line_has_ids_of_request_lease_and_trace),
        WITH_WORLD(a_lease_that_was_made_is_found_in_the_location),
        WITH_WORLD(what_a_stranger_asked_for_is_escaped),
        WITH_WORLD(polling_is_counted_and_not_logged),
        WITH_WORLD(lines_are_bounded_and_the_next_one_says_how_many_were_left_out),
        WITH_WORLD(a_clock_that_stands_still_allows_nothing_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
