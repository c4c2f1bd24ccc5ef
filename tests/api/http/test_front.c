#include "api/http/front.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/http/listen.h"
#include "base/clock.h"
#include "tests/cmocka.h"

enum {
    WAIT_MS = 20000, /* a sanitizer on a busy machine is slow */
};

/* The other side: takes what it is given while it has places, answers "ok" and closes. */
struct world {
    struct front *front;
    struct listen_address address;
    int listening;
    atomic_int places;
    atomic_uint asked;
    atomic_uint taken;
    atomic_uint too_long;
};

static enum front_answer admit(void *context, int fd, const char *head, size_t length)
{
    struct world *world = context;
    atomic_fetch_add(&world->asked, 1);
    if (length > FRONT_HEAD_BYTES) {
        atomic_fetch_add(&world->too_long, 1);
        return FRONT_REFUSED;
    }
    assert_memory_equal(head + length - 4, "\r\n\r\n", 4);
    if (atomic_load(&world->places) == 0)
        return FRONT_LATER;
    /* All of it is still in the socket. */
    char bytes[256];
    ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    assert_true(got >= (ssize_t)length || got == (ssize_t)sizeof bytes);
    atomic_fetch_add(&world->taken, 1);
    send(fd, "ok", 2, MSG_NOSIGNAL);
    close(fd);
    return FRONT_TAKEN;
}

static size_t tick(void *context, uint64_t now_ms)
{
    (void)context;
    (void)now_ms;
    return 0;
}

/* Both ends of every connection are in this process: more descriptors than a login's limit of 1024. */
static int raise_limit(void **state)
{
    struct rlimit limit;
    (void)state;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return -1;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit);
}

static int open_world(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    struct error err = {0};
    world->address = (struct listen_address){.ip = INADDR_LOOPBACK};
    world->listening = listen_tcp(&world->address, &err);
    assert_true(world->listening >= 0);
    world->places = 1;
    const struct front_door door = {.fd = world->listening, .admit = admit, .tick = tick, .context = world};
    assert_int_equal(front_open(&door, 1, &world->front, &err), 0);
    *state = world;
    return 0;
}

static int close_world(void **state)
{
    struct world *world = *state;
    front_close(world->front);
    close(world->listening);
    free(world);
    return 0;
}

static int dial(const struct world *world)
{
    const struct sockaddr_in name = {
        .sin_family = AF_INET, .sin_port = htons(world->address.port), .sin_addr.s_addr = htonl(world->address.ip)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&name, sizeof name), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Return: whether "ok" came; false when the connection was closed without it. */
static bool is_answered(int fd)
{
    char bytes[4];
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, WAIT_MS), 1);
    return recv(fd, bytes, sizeof bytes, 0) == 2;
}

static void a_whole_head_is_handed_on_however_it_came(void **state)
{
    struct world *world = *state;
    static const char head[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    int fd = dial(world);
    say(fd, head);
    assert_true(is_answered(fd));
    close(fd);
    fd = dial(world);
    for (size_t i = 0; i < sizeof head - 1; i++) {
        send(fd, head + i, 1, MSG_NOSIGNAL);
        poll(NULL, 0, 2);
    }
    assert_true(is_answered(fd));
    close(fd);
    fd = dial(world);
    say(fd, head);
    shutdown(fd, SHUT_WR); /* has said all, and still wants the answer */
    assert_true(is_answered(fd));
    close(fd);
    assert_int_equal(world->taken, 3);
}

/* The rest and the end may come together, between two looks. */
static void a_head_whose_rest_comes_with_the_end_is_handed_on(void **state)
{
    struct world *world = *state;
    for (int i = 0; i < 20; i++) {
        int fd = dial(world);
        say(fd, "GET / HTTP/1.1\r\n");
        poll(NULL, 0, FRONT_LOOK_MS + i % 5);
        say(fd, "Host: x\r\n\r\n");
        shutdown(fd, SHUT_WR);
        assert_true(is_answered(fd));
        close(fd);
    }
}

static void half_a_head_is_nobodys_business(void **state)
{
    struct world *world = *state;
    int fd = dial(world);
    say(fd, "GET / HTTP/1.1\r\nHost: x\r\n");
    poll(NULL, 0, 100);
    assert_int_equal(world->asked, 0);
    shutdown(fd, SHUT_WR);
    assert_false(is_answered(fd));
    close(fd);
    assert_int_equal(world->asked, 0);
}

static void a_head_that_is_too_long_is_refused(void **state)
{
    struct world *world = *state;
    char line[1024];
    memset(line, 'x', sizeof line);
    int fd = dial(world);
    say(fd, "GET / HTTP/1.1\r\nX: ");
    for (size_t i = 0; i < FRONT_HEAD_BYTES / sizeof line; i++)
        send(fd, line, sizeof line, MSG_NOSIGNAL);
    assert_false(is_answered(fd));
    assert_int_equal(world->too_long, 1);
    close(fd);
}

static void a_whole_head_waits_for_a_place(void **state)
{
    struct world *world = *state;
    world->places = 0;
    int fd = dial(world);
    say(fd, "GET / HTTP/1.1\r\n\r\n");
    for (int waited = 0; world->asked == 0 && waited < WAIT_MS; waited++)
        poll(NULL, 0, 1);
    assert_true(world->asked > 0);
    assert_int_equal(world->taken, 0);
    world->places = 1;
    front_wake(world->front);
    assert_true(is_answered(fd));
    close(fd);
}

static void the_oldest_half_gives_way_to_the_new(void **state)
{
    struct world *world = *state;
    static int halves[FRONT_WAITING_MAX + 200];
    for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++) {
        halves[i] = dial(world);
        say(halves[i], "GET / HT");
    }
    int fd = dial(world);
    uint64_t before_ms = clock_monotonic_ms();
    say(fd, "GET / HTTP/1.1\r\n\r\n");
    assert_true(is_answered(fd));
    assert_true(clock_monotonic_ms() - before_ms < WAIT_MS / 4);
    close(fd);
    /* The first ones are closed by now; the last ones may still become requests. */
    assert_false(is_answered(halves[0]));
    assert_false(is_answered(halves[100]));
    int last = halves[sizeof halves / sizeof halves[0] - 1];
    say(last, "TP/1.1\r\n\r\n");
    assert_true(is_answered(last));
    for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++)
        close(halves[i]);
}

static void an_end_closes_what_waits(void **state)
{
    struct world *world = *state;
    int silent = dial(world);
    int half = dial(world);
    say(half, "GET");
    int whole = dial(world);
    say(whole, "GET / HTTP/1.1\r\n\r\n");
    assert_true(is_answered(whole)); /* those before it have come in */
    close(whole);
    front_end(world->front);
    front_end(world->front); /* again does nothing */
    front_wake(world->front);
    assert_false(is_answered(silent));
    assert_false(is_answered(half));
    close(silent);
    close(half);
}

#define WITH_WORLD(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_WORLD(a_whole_head_is_handed_on_however_it_came),
        WITH_WORLD(a_head_whose_rest_comes_with_the_end_is_handed_on),
        WITH_WORLD(half_a_head_is_nobodys_business),
        WITH_WORLD(a_head_that_is_too_long_is_refused),
        WITH_WORLD(a_whole_head_waits_for_a_place),
        WITH_WORLD(the_oldest_half_gives_way_to_the_new),
        WITH_WORLD(an_end_closes_what_waits),
    };
    return cmocka_run_group_tests(tests, raise_limit, NULL);
}
