#include "vmm/qmp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/cmocka.h"
#include "vmm/attachment.h"

/* The test is the hypervisor: it writes to @far and reads from it what the client sends. */
static struct qmp qmp;
static int far;

static const char greeting[] = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";
static const char agreed[] = "{\"return\": {}, \"id\": \"negotiate\"}\r\n";

static int set_up(void **state)
{
    (void)state;
    int near_fd;
    assert_int_equal(attachment_pair(SOCK_STREAM, &near_fd, &far, NULL), 0);
    qmp_init(&qmp, near_fd);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    qmp_close(&qmp);
    close(far);
    return 0;
}

static void put(const char *text)
{
    assert_int_equal(write(far, text, strlen(text)), strlen(text));
}

static int next(struct qmp_message *ret_message)
{
    while (qmp_receive(&qmp) > 0)
        ;
    return qmp_next(&qmp, 5000, ret_message, NULL);
}

static void expect_command(const char *command)
{
    char text[256] = "";
    assert_true(recv(far, text, sizeof text - 1, MSG_DONTWAIT) > 0);
    assert_non_null(strstr(text, command));
    assert_int_equal(text[strlen(text) - 1], '\n');
}

static void become_ready(void)
{
    struct qmp_message message;
    put(greeting);
    assert_int_equal(next(&message), 0);
    expect_command("qmp_capabilities");
    put(agreed);
    assert_int_equal(next(&message), 1);
    assert_int_equal(message.kind, QMP_MESSAGE_READY);
}

static void commands_wait_for_the_negotiation(void **state)
{
    (void)state;
    assert_int_equal(qmp_send(&qmp, QMP_QUIT), -ENOTCONN);
    become_ready();
    assert_int_equal(qmp_send(&qmp, QMP_SYSTEM_POWERDOWN), 0);
    expect_command("{\"execute\":\"system_powerdown\"");
    assert_int_equal(qmp_send(&qmp, QMP_QUIT), 0);
    expect_command("{\"execute\":\"quit\"");
    assert_int_equal(qmp_send(&qmp, QMP_QUERY_STATUS), 0);
    expect_command("{\"execute\":\"query-status\"");
}

static void events_are_told_with_their_words(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        enum qmp_message_kind kind;
        bool by_guest;
        const char *word;
    } rows[] = {
        {"{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}}\n",
         QMP_MESSAGE_SHUTDOWN, true, "guest-shutdown"},
        {"{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": false, \"reason\": \"host-signal\"}}\n", QMP_MESSAGE_SHUTDOWN,
         false, "host-signal"},
        {"{\"event\": \"SHUTDOWN\"}\n", QMP_MESSAGE_SHUTDOWN, false, ""},
        {"{\"event\": \"SHUTDOWN\", \"data\": [7]}\n", QMP_MESSAGE_SHUTDOWN, false, ""},
        {"{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": \"yes\", \"reason\": 7}}\n", QMP_MESSAGE_SHUTDOWN, false, ""},
        {"{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"a-reason-that-is-longer-than-a-word-may-be\"}}\n",
         QMP_MESSAGE_SHUTDOWN, false, "a-reason-that-is-longer-than-a-word-may"},
        {"{\"event\": \"GUEST_PANICKED\", \"data\": {\"action\": \"shutdown\"}}\n", QMP_MESSAGE_PANICKED, false, ""},
        {"{\"event\": \"STOP\"}\r\n", QMP_MESSAGE_STOPPED, false, ""},
        {"{\"return\": {\"status\": \"running\"}, \"id\": \"status\"}\n", QMP_MESSAGE_STATUS, false, "running"},
        {"{\"return\": {\"name\": \"0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b\"}, \"id\": \"name\"}\n", QMP_MESSAGE_NAME,
         false, "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"},
        {"{\"return\": {}, \"id\": \"name\"}\n", QMP_MESSAGE_NAME, false, ""},
    };
    become_ready();
    for (size_t at = 0; at < sizeof rows / sizeof *rows; at++) {
        struct qmp_message message;
        put(rows[at].line);
        assert_int_equal(next(&message), 1);
        assert_int_equal(message.kind, rows[at].kind);
        assert_int_equal(message.by_guest, rows[at].by_guest);
        assert_string_equal(message.word, rows[at].word);
    }
}

static void what_nobody_waits_for_is_passed_over(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "{\"event\": \"RTC_CHANGE\", \"data\": {}}\n",
        "{\"event\": 7}\n",
        "{}\n",
        "{\"return\": {}, \"id\": \"quit\"}\n",
        "{\"return\": [], \"id\": \"status\"}\n",
        "{\"id\": \"status\"}\n",
        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": \"powerdown\"}\n"};
    become_ready();
    for (size_t at = 0; at < sizeof lines / sizeof *lines; at++) {
        struct qmp_message message;
        put(lines[at]);
        assert_int_equal(next(&message), 0);
        assert_int_equal(qmp.state, QMP_READY);
    }
}

static void a_line_may_come_byte_by_byte(void **state)
{
    (void)state;
    static const char line[] = "{\"event\": \"STOP\"}\n";
    struct qmp_message message;
    become_ready();
    for (size_t at = 0; at < sizeof line - 1; at++) {
        assert_int_equal(write(far, line + at, 1), 1);
        assert_int_equal(next(&message), at == sizeof line - 2);
    }
}

static void several_lines_may_come_at_once_and_before_the_end(void **state)
{
    (void)state;
    struct qmp_message message;
    become_ready();
    put("{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-reset\"}}\n{\"event\": "
        "\"STOP\"}\n{\"ev");
    shutdown(far, SHUT_WR);
    assert_int_equal(next(&message), 1);
    assert_string_equal(message.word, "guest-reset");
    assert_int_equal(qmp_receive(&qmp), -EPIPE);
    assert_int_equal(qmp_next(&qmp, 5000, &message, NULL), 1);
    assert_int_equal(message.kind, QMP_MESSAGE_STOPPED);
    assert_int_equal(qmp_next(&qmp, 5000, &message, NULL), 0);
    assert_int_equal(qmp_send(&qmp, QMP_QUIT), -ENOTCONN);
}

static void what_breaks_the_protocol_closes_the_channel(void **state)
{
    (void)state;
    static const char *const lines[] = {"garbage\n",
                                        "[]\n",
                                        "7\n",
                                        "\n",
                                        "{\"event\": \"STOP\", \"event\": \"RESUME\"}\n",
                                        "{\"event\": \"\xff\"}\n",
                                        "{\"event\": \"STOP\"} {}\n"};
    for (size_t at = 0; at < sizeof lines / sizeof *lines; at++) {
        struct qmp_message message;
        become_ready();
        put(lines[at]);
        assert_int_equal(next(&message), -EPROTO);
        assert_int_equal(qmp.state, QMP_CLOSED);
        assert_int_equal(qmp.fd, -1);
        assert_int_equal(qmp_next(&qmp, 5000, &message, NULL), 0);
        tear_down(state);
        set_up(state);
    }
}

static void a_wrong_beginning_closes_the_channel(void **state)
{
    (void)state;
    struct qmp_message message;
    put(agreed);
    assert_int_equal(next(&message), -EPROTO);
    tear_down(state);
    set_up(state);
    put(greeting);
    put("{\"error\": {\"class\": \"CommandNotFound\"}, \"id\": \"negotiate\"}\n");
    assert_int_equal(next(&message), -EPROTO);
}

static void a_line_is_bounded(void **state)
{
    (void)state;
    struct qmp_message message;
    struct error err = {0};
    char *bytes = malloc(QMP_LINE_BYTES);
    assert_non_null(bytes);
    memset(bytes, ' ', QMP_LINE_BYTES);
    become_ready();
    for (size_t sent = 0; sent < QMP_LINE_BYTES - 1;) {
        ssize_t length = write(far, bytes, QMP_LINE_BYTES - 1 - sent);
        assert_true(length > 0);
        sent += (size_t)length;
        while (qmp_receive(&qmp) > 0)
            ;
    }
    assert_int_equal(qmp_next(&qmp, 5000, &message, &err), 0);
    put(" ");
    assert_int_equal(qmp_receive(&qmp), 1);
    assert_int_equal(qmp_next(&qmp, 5000, &message, &err), -EPROTO);
    assert_non_null(strstr(err.message, "too long a line"));
    free(bytes);
}

static void the_rate_of_lines_is_bounded_but_their_number_is_not(void **state)
{
    (void)state;
    struct qmp_message message;
    become_ready();
    uint64_t now_ms = 10000;
    for (int line = 0; line < 3 * QMP_LINES_PER_SECOND; line++) {
        put("{}\n");
        assert_int_equal(qmp_receive(&qmp), 1);
        assert_int_equal(qmp_next(&qmp, now_ms += 2, &message, NULL), 0);
    }
    now_ms += 1000;
    for (int line = 0; line < QMP_LINES_PER_SECOND; line++) {
        put("{}\n");
        assert_int_equal(qmp_receive(&qmp), 1);
        assert_int_equal(qmp_next(&qmp, now_ms, &message, NULL), 0);
    }
    put("{}\n");
    assert_int_equal(qmp_receive(&qmp), 1);
    assert_int_equal(qmp_next(&qmp, now_ms, &message, NULL), -EPROTO);
}

static void a_client_that_cannot_send_says_so(void **state)
{
    (void)state;
    become_ready();
    shutdown(far, SHUT_RD);
    assert_int_equal(qmp_send(&qmp, QMP_QUIT), -EPIPE);
}

#define WITH_CHANNEL(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CHANNEL(commands_wait_for_the_negotiation),
        WITH_CHANNEL(events_are_told_with_their_words),
        WITH_CHANNEL(what_nobody_waits_for_is_passed_over),
        WITH_CHANNEL(a_line_may_come_byte_by_byte),
        WITH_CHANNEL(several_lines_may_come_at_once_and_before_the_end),
        WITH_CHANNEL(what_breaks_the_protocol_closes_the_channel),
        WITH_CHANNEL(a_wrong_beginning_closes_the_channel),
        WITH_CHANNEL(a_line_is_bounded),
        WITH_CHANNEL(the_rate_of_lines_is_bounded_but_their_number_is_not),
        WITH_CHANNEL(a_client_that_cannot_send_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
