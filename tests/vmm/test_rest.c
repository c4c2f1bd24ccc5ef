#include "vmm/rest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/scope.h"
#include "tests/cmocka.h"

enum { PATH_BYTES = 96 };

static char folder[64];
static char path[PATH_BYTES];
static int listen_fd = -1;
static struct rest rest;

static int set_up(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(folder, sizeof folder, "/tmp/omertad-rest-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/rest.sock", folder);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    listen_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(listen_fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listen_fd, 4), 0);
    rest_init(&rest);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rest_close(&rest);
    fd_close(&listen_fd);
    unlink(path);
    return rmdir(folder);
}

/* Asks; what vfkit would read is compared. Return: vfkit's end of the connection. */
static int ask(enum rest_request request, const char *expected)
{
    char text[512];
    struct error err = {0};
    if (rest_send(&rest, path, request, 1000, &err) != 0)
        fail_msg("%s", err.message);
    int fd = accept(listen_fd, NULL, NULL);
    assert_true(fd >= 0);
    ssize_t length = read(fd, text, sizeof text - 1);
    assert_true(length > 0);
    text[length] = '\0';
    assert_string_equal(text, expected);
    return fd;
}

#define GET "GET /vm/state HTTP/1.0\r\nHost: vfkit\r\n\r\n"
#define POST(length, state)                                                                                            \
    "POST /vm/state HTTP/1.0\r\nHost: vfkit\r\nContent-Type: application/json\r\nContent-Length: " length              \
    "\r\n\r\n{\"state\":\"" state "\"}"

static int take(struct rest_answer *ret_answer)
{
    int rc = 0;
    struct error err = {0};
    for (int reads = 0; rc == 0 && reads < 100; reads++)
        rc = rest_receive(&rest, ret_answer, &err);
    assert_int_equal(err.code, rc < 0 ? rc : 0);
    return rc;
}

static void each_request_is_what_vfkit_documents(void **state)
{
    (void)state;
    static const struct {
        enum rest_request request;
        const char *text;
    } table[] = {{REST_GET_STATE, GET}, {REST_STOP, POST("16", "Stop")}, {REST_HARD_STOP, POST("20", "HardStop")}};
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        struct rest_answer answer;
        int fd SCOPED_FD = ask(table[at].request, table[at].text);
        const char *body = strstr(table[at].text, "\r\n\r\n") + 4;
        const char *said = strstr(table[at].text, "Content-Length: ");
        assert_int_equal(strlen(body), said == NULL ? 0 : (size_t)atoi(said + 16));
        assert_true(rest_is_pending(&rest, 1000 + REST_PENDING_MS - 1));
        assert_false(rest_is_pending(&rest, 1000 + REST_PENDING_MS));
        assert_int_equal(write(fd, "HTTP/1.0 202 Accepted\r\n\r\n", 25), 25);
        fd_close(&fd);
        assert_int_equal(take(&answer), 1);
        assert_int_equal(answer.request, table[at].request);
        assert_int_equal(answer.status, 202);
        assert_string_equal(answer.state, "");
        assert_false(rest_is_pending(&rest, 1000));
        assert_int_equal(rest_receive(&rest, &answer, NULL), -EPIPE);
    }
}

static void a_state_comes_in_pieces_and_with_or_without_its_long_name(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{\"state\":\"VirtualMachineStateRunning\",\"canStart\":false,\"canPause\":true,\"canStop\":true}",
        "{\"state\":\"Running\"}\n"};
    for (size_t at = 0; at < sizeof bodies / sizeof *bodies; at++) {
        struct rest_answer answer;
        char text[512];
        int fd SCOPED_FD = ask(REST_GET_STATE, GET);
        int length =
            snprintf(text, sizeof text, "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n%s", bodies[at]);
        for (int sent = 0; sent < length; sent++) {
            assert_int_equal(rest_receive(&rest, &answer, NULL), 0);
            assert_int_equal(write(fd, text + sent, 1), 1);
        }
        fd_close(&fd);
        assert_int_equal(take(&answer), 1);
        assert_int_equal(answer.status, 200);
        assert_string_equal(answer.state, "Running");
    }
}

static void what_makes_no_sense_is_an_error_or_no_state(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int rc;
    } table[] = {
        {"", -EPROTO},
        {"HTTP/1.0 200 OK\r\n", -EPROTO},
        {"HTTP/2.0 200 OK\r\n\r\n", -EPROTO},
        {"HTTP/1.0 2x0 OK\r\n\r\n", -EPROTO},
        {"HTTP/1.0 20", -EPROTO},
        {"HTTP/1.0 -20 OK\r\n\r\n{}", -EPROTO},
        {"HTTP/1.0 200 OK\r\n\r\n", 1},
        {"HTTP/1.0 200 OK\r\n\r\n[]", 1},
        {"HTTP/1.0 200 OK\r\n\r\n{\"state\": 3}", 1},
        {"HTTP/1.0 500 No\r\n\r\n{\"state\": \"VirtualMachineState\"}", 1},
        {"HTTP/1.0 200 OK\r\n\r\n{\"state\": \"a\", \"state\": \"b\"}", 1},
    };
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        struct rest_answer answer = {.state = "untouched"};
        int fd SCOPED_FD = ask(REST_GET_STATE, GET);
        size_t length = strlen(table[at].text);
        assert_int_equal(write(fd, table[at].text, length), length);
        fd_close(&fd);
        assert_int_equal(take(&answer), table[at].rc);
        assert_string_equal(answer.state, table[at].rc < 0 ? "untouched" : "");
        assert_int_equal(rest.fd, -1);
    }
}

static void an_answer_is_bounded(void **state)
{
    (void)state;
    struct rest_answer answer;
    char text[REST_ANSWER_BYTES];
    int fd SCOPED_FD = ask(REST_GET_STATE, GET);
    memset(text, ' ', sizeof text);
    memcpy(text, "HTTP/1.0 200 OK\r\n\r\n", 19);
    assert_int_equal(write(fd, text, sizeof text), sizeof text);
    assert_int_equal(take(&answer), -EPROTO);
    assert_int_equal(rest.fd, -1);
}

static void a_new_request_drops_the_one_before(void **state)
{
    (void)state;
    struct rest_answer answer;
    int first SCOPED_FD = ask(REST_GET_STATE, GET);
    assert_int_equal(write(first, "HTTP/1.0 200 OK\r\n\r\n{\"sta", 25), 25);
    assert_int_equal(rest_receive(&rest, &answer, NULL), 0);
    int second SCOPED_FD = ask(REST_STOP, POST("16", "Stop"));
    assert_int_equal(write(second, "HTTP/1.0 500 No\r\n\r\n", 19), 19);
    fd_close(&second);
    assert_int_equal(take(&answer), 1);
    assert_int_equal(answer.request, REST_STOP);
    assert_int_equal(answer.status, 500);
}

static void where_nobody_listens_nothing_is_asked(void **state)
{
    (void)state;
    struct error err = {0};
    fd_close(&listen_fd);
    assert_int_equal(rest_send(&rest, path, REST_GET_STATE, 1, &err), -ECONNREFUSED);
    assert_int_equal(rest_send(&rest, "/no/such/socket", REST_GET_STATE, 1, &err), -ENOENT);
    assert_int_equal(rest.fd, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_request_is_what_vfkit_documents, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_state_comes_in_pieces_and_with_or_without_its_long_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_makes_no_sense_is_an_error_or_no_state, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_answer_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_request_drops_the_one_before, set_up, tear_down),
        cmocka_unit_test_setup_teardown(where_nobody_listens_nothing_is_asked, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
