#include "tests/cmocka.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/scope.h"
#include "nat/frame_io.h"

/* A NAT's bound socket with a guest and a stranger who know its path, and somebody without a path. */
struct lab {
    char folder[32];
    struct sockaddr_un nat_at;
    struct sockaddr_un guest_at;
    struct sockaddr_un stranger_at;
    int guest;
    int stranger;
    int nameless;
    struct frame_io io;
    struct frame_batch *batch;
};

static int bound_socket(const char *folder, const char *name, struct sockaddr_un *ret_address)
{
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(ret_address->sun_path, sizeof ret_address->sun_path, "%s/%s", folder, name);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)ret_address, sizeof *ret_address), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void open_lab(struct lab *lab)
{
    snprintf(lab->folder, sizeof lab->folder, "/tmp/omertad-frame-XXXXXX");
    assert_non_null(mkdtemp(lab->folder));
    int fd = bound_socket(lab->folder, "nat", &lab->nat_at);
    lab->guest = bound_socket(lab->folder, "guest", &lab->guest_at);
    lab->stranger = bound_socket(lab->folder, "stranger", &lab->stranger_at);
    lab->nameless = socket(AF_UNIX, SOCK_DGRAM, 0);
    lab->batch = calloc(1, sizeof *lab->batch);
    assert_non_null(lab->batch);
    frame_io_init(&lab->io, fd, NAT_FRAMING_DATAGRAM, false);
}

static void close_lab(struct lab *lab)
{
    int *open[] = {&lab->guest, &lab->stranger, &lab->nameless, &lab->io.fd};
    for (size_t i = 0; i < 4; i++)
        fd_close(open[i]);
    unlink(lab->nat_at.sun_path);
    unlink(lab->guest_at.sun_path);
    unlink(lab->stranger_at.sun_path);
    assert_int_equal(rmdir(lab->folder), 0);
    free(lab->batch);
}

static ssize_t send_as(const struct lab *lab, int fd, const char *text)
{
    return sendto(fd, text, strlen(text), 0, (const struct sockaddr *)&lab->nat_at, sizeof lab->nat_at);
}

/* Receives until there is nothing more. Every frame must be @expected, one after the other, separated by blanks. */
static void receives(struct lab *lab, const char *expected)
{
    char got[256] = "";
    int rc;
    while ((rc = frame_io_receive(&lab->io, lab->batch)) >= 0) {
        for (size_t i = 0; i < lab->batch->count; i++) {
            size_t used = strlen(got);
            snprintf(got + used, sizeof got - used, "%s%.*s", used > 0 ? " " : "", (int)lab->batch->frames[i].length,
                     (const char *)lab->batch->frames[i].bytes);
        }
    }
    assert_int_equal(rc, -EAGAIN);
    assert_string_equal(got, expected);
}

static void the_first_sender_with_a_name_is_the_only_one(void **state)
{
    (void)state;
    struct lab lab;
    open_lab(&lab);
    /* All of this is queued before the NAT looks for the first time. */
    send_as(&lab, lab.nameless, "nobody");
    send_as(&lab, lab.guest, "one");
    send_as(&lab, lab.stranger, "stranger");
    send_as(&lab, lab.guest, "two");
    send_as(&lab, lab.nameless, "nobody");
    send_as(&lab, lab.guest, "three");
    receives(&lab, "one two three");
    assert_int_equal(lab.io.state, FRAME_IO_CONNECTED);
    assert_int_equal(lab.io.strangers, 3);
    assert_int_equal(send_as(&lab, lab.stranger, "late"), -1);
    assert_int_equal(errno, EPERM);
    send_as(&lab, lab.guest, "four");
    receives(&lab, "four");
    close_lab(&lab);
}

static void vfkits_greeting_is_no_frame_but_only_as_the_first(void **state)
{
    (void)state;
    struct lab lab;
    open_lab(&lab);
    send_as(&lab, lab.guest, "VFKT");
    send_as(&lab, lab.guest, "VFKT");
    receives(&lab, "VFKT");
    send_as(&lab, lab.guest, "VFKT");
    receives(&lab, "VFKT");
    close_lab(&lab);
}

static void a_longer_greeting_is_a_frame(void **state)
{
    (void)state;
    struct lab lab;
    open_lab(&lab);
    send_as(&lab, lab.guest, "VFKT5");
    receives(&lab, "VFKT5");
    close_lab(&lab);
}

static void answers_go_to_the_peer_and_nowhere_before_there_is_one(void **state)
{
    (void)state;
    struct lab lab;
    open_lab(&lab);
    uint8_t bytes[] = "answer";
    struct datagram_parts frame = {.head = bytes, .head_bytes = 3, .body = bytes + 3, .body_bytes = sizeof bytes - 3};
    assert_int_equal(frame_io_send(&lab.io, &frame, 1), -ENOTCONN);
    send_as(&lab, lab.guest, "hello");
    receives(&lab, "hello");
    assert_int_equal(frame_io_send(&lab.io, &frame, 1), 1);
    char got[16];
    assert_int_equal(recv(lab.guest, got, sizeof got, 0), sizeof bytes);
    assert_string_equal(got, "answer");
    assert_int_equal(recv(lab.stranger, got, sizeof got, 0), -1);
    close_lab(&lab);
}

static void a_full_queue_and_a_peer_that_is_gone_are_told_apart(void **state)
{
    (void)state;
    struct lab lab;
    open_lab(&lab);
    send_as(&lab, lab.guest, "hello");
    receives(&lab, "hello");
    uint8_t bytes[1000] = {0};
    struct datagram_parts frames[DATAGRAMS_MAX];
    for (size_t i = 0; i < DATAGRAMS_MAX; i++)
        frames[i] = (struct datagram_parts){.head = bytes, .head_bytes = sizeof bytes};
    int sent = 1;
    for (int rounds = 0; rounds < 100 && sent > 0; rounds++)
        sent = frame_io_send(&lab.io, frames, DATAGRAMS_MAX);
    assert_int_equal(sent, -EAGAIN);
    fd_close(&lab.guest);
    assert_int_equal(frame_io_send(&lab.io, frames, 1), -ECONNREFUSED);
    close_lab(&lab);
}

/* The guest's program is started again: another socket at the same path. */
static void restart_guest(struct lab *lab)
{
    fd_close(&lab->guest);
    unlink(lab->guest_at.sun_path);
    lab->guest = bound_socket(lab->folder, "guest", &lab->guest_at);
}

static void a_guest_that_was_started_again_is_the_only_peer_again(void **state)
{
    (void)state;
    struct lab lab;
    open_lab(&lab);
    uint8_t bytes[] = "answer";
    struct datagram_parts frame = {.head = bytes, .head_bytes = sizeof bytes};
    send_as(&lab, lab.guest, "VFKT");
    send_as(&lab, lab.guest, "first");
    receives(&lab, "first");
    for (int again = 0; again < 3; again++) {
        restart_guest(&lab);
        assert_int_equal(send_as(&lab, lab.guest, "too early"), -1); /* the NAT knows of nothing yet */
        assert_int_equal(errno, EPERM);
        assert_int_equal(frame_io_send(&lab.io, &frame, 1), -ECONNREFUSED);
        assert_int_equal(lab.io.state, FRAME_IO_LISTENING);
        assert_int_equal(frame_io_send(&lab.io, &frame, 1), -ENOTCONN);

        send_as(&lab, lab.nameless, "nobody");
        send_as(&lab, lab.guest, "VFKT");
        send_as(&lab, lab.stranger, "stranger");
        send_as(&lab, lab.guest, "hello");
        receives(&lab, "hello");
        assert_int_equal(lab.io.state, FRAME_IO_CONNECTED);
        assert_int_equal(send_as(&lab, lab.stranger, "late"), -1);
        assert_int_equal(errno, EPERM);
        assert_int_equal(frame_io_send(&lab.io, &frame, 1), 1);
        char got[16];
        assert_int_equal(recv(lab.guest, got, sizeof got, 0), sizeof bytes);
    }
    close_lab(&lab);
}

static void a_peer_that_was_named_is_never_replaced(void **state)
{
    (void)state;
    struct lab lab;
    open_lab(&lab);
    uint8_t bytes[] = "answer";
    struct datagram_parts frame = {.head = bytes, .head_bytes = sizeof bytes};
    const struct sockaddr *guest = (const struct sockaddr *)&lab.guest_at;
    assert_int_equal(connect(lab.io.fd, guest, sizeof lab.guest_at), 0);
    frame_io_init(&lab.io, lab.io.fd, NAT_FRAMING_DATAGRAM, true);
    fd_close(&lab.guest);
    assert_int_equal(frame_io_send(&lab.io, &frame, 1), -ECONNREFUSED);
    assert_int_equal(lab.io.state, FRAME_IO_CONNECTED);
    assert_int_equal(frame_io_send(&lab.io, &frame, 1), -ENOTCONN);
    close_lab(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_sender_with_a_name_is_the_only_one),
        cmocka_unit_test(vfkits_greeting_is_no_frame_but_only_as_the_first),
        cmocka_unit_test(a_longer_greeting_is_a_frame),
        cmocka_unit_test(answers_go_to_the_peer_and_nowhere_before_there_is_one),
        cmocka_unit_test(a_full_queue_and_a_peer_that_is_gone_are_told_apart),
        cmocka_unit_test(a_guest_that_was_started_again_is_the_only_peer_again),
        cmocka_unit_test(a_peer_that_was_named_is_never_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
