/* What a thread that gave up the file system reaches. Each trial is a child, for nobody comes back from there. */
#include "base/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/scope.h"
#include "tests/cmocka.h"

#ifdef __linux__

enum { TCP_SINCE = 4 };

static char folder[] = "/tmp/omertad-landlock-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[PATH_MAX]; /* one at a time */
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* Return: 0 or the errno of opening it */
static int try_open(const char *path, int flags)
{
    int fd SCOPED_FD = open(path, flags | O_CLOEXEC, 0600);
    return fd < 0 ? errno : 0;
}

static void needs_landlock(void)
{
    if (landlock_version() == 0)
        skip(); /* an older kernel, or a build that narrows nothing */
}

/* Return: the exit code of a child that has called @body; 0 is well, another one the line that was not. */
static int in_child(int (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(body());
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define EXPECT(what)                                                                                                   \
    do {                                                                                                               \
        if (!(what))                                                                                                   \
            return __LINE__ % 255 + 1;                                                                                 \
    } while (0)

static int without_rules(void)
{
    int before SCOPED_FD = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    char byte;
    EXPECT(landlock_enter(NULL, 0) == 0);
    EXPECT(try_open("/etc/passwd", O_RDONLY) == EACCES);
    EXPECT(try_open("/", O_RDONLY | O_DIRECTORY) == EACCES);
    EXPECT(try_open("/dev/null", O_RDWR) == EACCES);
    EXPECT(try_open(in_folder("new"), O_WRONLY | O_CREAT) == EACCES);
    EXPECT(unlink(in_folder("there")) != 0 && errno == EACCES);
    EXPECT(execl("/bin/true", "true", NULL) != 0 && errno == EACCES);
    EXPECT(read(before, &byte, 1) == 1); /* what is open stays open */
    return 0;
}

static void without_rules_no_file_is_reached(void **state)
{
    (void)state;
    needs_landlock();
    assert_int_equal(in_child(without_rules), 0);
    assert_int_equal(try_open("/etc/passwd", O_RDONLY), 0);
}

static int with_a_folder_to_change(void)
{
    const struct landlock_rule rules[] = {
        {.path = folder, .reason = "its own", .access = LANDLOCK_CHANGE},
        {.path = "/etc/passwd", .reason = "a file", .access = LANDLOCK_READ},
    };
    EXPECT(landlock_enter(rules, 2) == 0);
    EXPECT(try_open(in_folder("new"), O_RDWR | O_CREAT | O_TRUNC) == 0);
    EXPECT(mkdir(in_folder("made"), 0700) == 0 && rmdir(in_folder("made")) == 0);
    EXPECT(truncate(in_folder("new"), 0) == 0);
    char new[PATH_MAX];
    snprintf(new, sizeof new, "%s", in_folder("new"));
    EXPECT(rename(new, in_folder("newer")) == 0 && unlink(in_folder("newer")) == 0);
    EXPECT(symlink("/etc/shadow", in_folder("link")) != 0 && errno == EACCES);
    EXPECT(mkfifo(in_folder("fifo"), 0600) != 0 && errno == EACCES);
    EXPECT(try_open("/etc/passwd", O_RDONLY) == 0);
    EXPECT(try_open("/etc/passwd", O_WRONLY) == EACCES);
    EXPECT(try_open("/etc/hostname", O_RDONLY) == EACCES);
    return 0;
}

static void a_folder_is_left_and_nothing_beside_it(void **state)
{
    (void)state;
    needs_landlock();
    assert_int_equal(in_child(with_a_folder_to_change), 0);
}

static int with_a_folder_to_read(void)
{
    const struct landlock_rule rule = {.path = folder, .reason = "another's", .access = LANDLOCK_READ};
    EXPECT(landlock_enter(&rule, 1) == 0);
    EXPECT(try_open(in_folder("there"), O_RDONLY) == 0);
    EXPECT(try_open(folder, O_RDONLY | O_DIRECTORY) == 0);
    EXPECT(try_open(in_folder("there"), O_WRONLY) == EACCES);
    EXPECT(try_open(in_folder("new"), O_WRONLY | O_CREAT) == EACCES);
    EXPECT(unlink(in_folder("there")) != 0 && errno == EACCES);
    return 0;
}

static void what_may_be_read_may_not_be_changed(void **state)
{
    (void)state;
    needs_landlock();
    assert_int_equal(in_child(with_a_folder_to_read), 0);
}

static int with_a_path_that_is_not_there(void)
{
    const struct landlock_rule rules[] = {
        {.path = "", .reason = "none was given", .access = LANDLOCK_READ},
        {.path = "/nowhere/at/all", .reason = "does not exist", .access = LANDLOCK_CHANGE},
        {.path = folder, .reason = "exists", .access = LANDLOCK_READ},
    };
    EXPECT(landlock_enter(rules, 3) == 0);
    EXPECT(try_open(in_folder("there"), O_RDONLY) == 0);
    EXPECT(try_open("/etc/passwd", O_RDONLY) == EACCES);
    return 0;
}

static void a_path_that_is_not_there_opens_nothing(void **state)
{
    (void)state;
    needs_landlock();
    assert_int_equal(in_child(with_a_path_that_is_not_there), 0);
}

static int connects_nowhere(void)
{
    const struct sockaddr_in there = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    const struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    EXPECT(landlock_enter(NULL, 0) == 0);
    int tcp SCOPED_FD = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int udp SCOPED_FD = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    EXPECT(connect(tcp, (const struct sockaddr *)&there, sizeof there) != 0 && errno == EACCES);
    EXPECT(bind(tcp, (const struct sockaddr *)&any, sizeof any) != 0 && errno == EACCES);
    EXPECT(bind(udp, (const struct sockaddr *)&any, sizeof any) == 0); /* a flow of the NAT */
    EXPECT(connect(udp, (const struct sockaddr *)&there, sizeof there) == 0);
    return 0;
}

static void tcp_goes_too_and_udp_stays(void **state)
{
    (void)state;
    if (landlock_version() < TCP_SINCE)
        skip();
    assert_int_equal(in_child(connects_nowhere), 0);
}

static void *give_up(void *context)
{
    int *ret_result = context;
    *ret_result = landlock_enter(NULL, 0) == 0 ? try_open("/etc/passwd", O_RDONLY) : -1;
    return NULL;
}

static void it_is_the_threads_own(void **state)
{
    (void)state;
    needs_landlock();
    pthread_t thread;
    int found = 0;
    assert_int_equal(pthread_create(&thread, NULL, give_up, &found), 0);
    pthread_join(thread, NULL);
    assert_int_equal(found, EACCES);
    assert_int_equal(try_open("/etc/passwd", O_RDONLY), 0);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL || try_open(in_folder("there"), O_WRONLY | O_CREAT) != 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    return unlink(in_folder("there")) != 0 || rmdir(folder) != 0 ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_rules_no_file_is_reached),    cmocka_unit_test(a_folder_is_left_and_nothing_beside_it),
        cmocka_unit_test(what_may_be_read_may_not_be_changed), cmocka_unit_test(a_path_that_is_not_there_opens_nothing),
        cmocka_unit_test(tcp_goes_too_and_udp_stays),          cmocka_unit_test(it_is_the_threads_own),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

#else

int main(void)
{
    return 0;
}

#endif
