#include "vmm/attachment.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/cmocka.h"
#include "tests/vmm/vmm_fixture.h"

static void each_end_has_the_flags_that_its_user_wants(void **state)
{
    (void)state;
    struct attachment attachment;
    size_t fds = fixture_open_fds();
    assert_int_equal(attachment_open(NAT_FRAMING_DATAGRAM, &attachment, NULL), 0);
    assert_true((fcntl(attachment.host_fd, F_GETFL) & O_NONBLOCK) != 0);
    assert_true((fcntl(attachment.guest_fd, F_GETFL) & O_NONBLOCK) == 0);
    assert_true((fcntl(attachment.host_fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_true((fcntl(attachment.guest_fd, F_GETFD) & FD_CLOEXEC) != 0);
    attachment_close(&attachment);
    attachment_close(&attachment);
    assert_int_equal(fixture_open_fds(), fds);
}

static void a_frame_stays_one_frame(void **state)
{
    (void)state;
    struct attachment attachment;
    char frame[2048];
    assert_int_equal(attachment_open(NAT_FRAMING_DATAGRAM, &attachment, NULL), 0);
    assert_int_equal(send(attachment.guest_fd, "first", 5, 0), 5);
    assert_int_equal(send(attachment.guest_fd, frame, 1514, 0), 1514);
    assert_int_equal(recv(attachment.host_fd, frame, sizeof frame, 0), 5);
    assert_int_equal(recv(attachment.host_fd, frame, sizeof frame, 0), 1514);
    assert_int_equal(recv(attachment.host_fd, frame, sizeof frame, 0), -1);
    assert_int_equal(errno, EAGAIN);
    attachment_close(&attachment);
}

static void a_stream_is_a_stream_with_the_same_flags(void **state)
{
    (void)state;
    struct attachment attachment;
    char bytes[16];
    assert_int_equal(attachment_open(NAT_FRAMING_STREAM, &attachment, NULL), 0);
    assert_true((fcntl(attachment.host_fd, F_GETFL) & O_NONBLOCK) != 0);
    assert_true((fcntl(attachment.guest_fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(send(attachment.guest_fd, "one", 3, 0), 3);
    assert_int_equal(send(attachment.guest_fd, "two", 3, 0), 3);
    assert_int_equal(recv(attachment.host_fd, bytes, sizeof bytes, 0), 6);
    attachment_close(&attachment);
}

static void a_guest_that_does_not_read_cannot_hold_the_host(void **state)
{
    (void)state;
    struct attachment attachment;
    char frame[1514] = {0};
    int sent = 0;
    assert_int_equal(attachment_open(NAT_FRAMING_DATAGRAM, &attachment, NULL), 0);
    while (send(attachment.host_fd, frame, sizeof frame, 0) > 0)
        assert_true(++sent < 100000);
    assert_true(errno == EAGAIN || errno == ENOBUFS);
    attachment_close(&attachment);
}

static void reports_stay_apart(void **state)
{
    (void)state;
    int near_fd;
    int far_fd;
    char text[64];
    assert_int_equal(attachment_pair(ATTACHMENT_REPORTS, &near_fd, &far_fd, NULL), 0);
    assert_int_equal(send(far_fd, "one", 3, 0), 3);
    assert_int_equal(send(far_fd, "three", 5, 0), 5);
    assert_int_equal(recv(near_fd, text, sizeof text, 0), 3);
    assert_int_equal(recv(near_fd, text, sizeof text, 0), 5);
    close(near_fd);
    close(far_fd);
}

static void no_descriptors_left_is_an_error_and_leaks_none(void **state)
{
    (void)state;
    struct attachment attachment;
    struct error err = {0};
    struct rlimit before;
    size_t fds = fixture_open_fds();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit none = {.rlim_cur = 3, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int rc = attachment_open(NAT_FRAMING_DATAGRAM, &attachment, &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(rc, -EMFILE);
    assert_non_null(strstr(err.message, "socket pair"));
    assert_int_equal(fixture_open_fds(), fds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_end_has_the_flags_that_its_user_wants),
        cmocka_unit_test(a_frame_stays_one_frame),
        cmocka_unit_test(a_stream_is_a_stream_with_the_same_flags),
        cmocka_unit_test(a_guest_that_does_not_read_cannot_hold_the_host),
        cmocka_unit_test(reports_stay_apart),
        cmocka_unit_test(no_descriptors_left_is_an_error_and_leaks_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
