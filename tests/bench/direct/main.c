/* direct_bench: datagrams outwards through direct mode, and through pasta alone.
 *
 * usage: direct_bench sink                         counts what comes for the consumer, and prints it as JSON when nothing more comes
 *        direct_bench direct PAYLOAD_BYTES PACKETS a machine in direct mode whose hypervisor is this program
 *        direct_bench pasta PAYLOAD_BYTES PACKETS  a socket behind pasta, with the options that direct mode gives it
 *
 * The other words are what it starts itself with: guest, socket, and vmm's own. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/bench/native/bench.h"
#include "tests/nat/frames.h"
#include "tests/nat/link.h"
#include "vmm/command_pasta.h"
#include "vmm/direct.h"
#include "vmm/vmm.h"

enum {
    COMES_MS = 10000, /* until the first datagram */
    SILENT_MS = 150,  /* then it was the last */
    GATHER_MS = 2,    /* a consumer that wakes for each datagram would take a core from what is measured */
    START_MS = 10000,
    RUN_MS = 20000,
    BATCH = 64,
    SINK_BYTES = 16 * 1024 * 1024,
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "direct_bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- the consumer ------------------------------------------------------------------------------------------------- */

static int sink(void)
{
    const int bytes = SINK_BYTES;
    int fd = link_udp_socket(test_consumer);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    struct mmsghdr headers[BATCH] = {0};
    static uint8_t places[BATCH][BENCH_FRAME_BYTES];
    struct iovec parts[BATCH];
    for (size_t i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){places[i], sizeof places[i]};
        headers[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    uint64_t count = 0;
    uint64_t total = 0;
    uint64_t first_us = 0;
    uint64_t last_us = 0;
    struct pollfd comes = {.fd = fd, .events = POLLIN};
    while (poll(&comes, 1, count == 0 ? COMES_MS : SILENT_MS) > 0) {
        int got = recvmmsg(fd, headers, BATCH, MSG_DONTWAIT, NULL);
        last_us = clock_monotonic_us();
        first_us = first_us == 0 ? last_us : first_us;
        for (int i = 0; i < got; i++)
            total += headers[i].msg_len;
        count += got > 0 ? (uint64_t)got : 0;
        if (got < BATCH)
            (void)poll(NULL, 0, GATHER_MS);
    }
    const double seconds = (double)(last_us - first_us) / 1e6;
    printf("{\"received\":%llu,\"gbps\":%.3f}\n", (unsigned long long)count,
           seconds > 0 ? (double)total * 8 / 1e9 / seconds : 0.0);
    return 0;
}

/* ---- what sends --------------------------------------------------------------------------------------------------- */

/* In the hypervisor's place: one write a frame, as QEMU does it. */
static int be_guest(size_t payload_bytes, unsigned packets)
{
    struct ifreq tap = {0};
    if (ioctl(COMMAND_FD_NET, SIOCGIFHWADDR, &tap) < 0)
        die("tap");
    struct frame frame = frame_udp(test_guest, test_consumer, payload_bytes);
    memcpy(frame.bytes, tap.ifr_hwaddr.sa_data, 6); /* to the gateway */
    uint8_t bytes[sizeof(struct virtio_net_hdr) + sizeof frame.bytes] = {0};
    memcpy(bytes + sizeof(struct virtio_net_hdr), frame.bytes, frame.length);
    for (unsigned i = 0; i < packets; i++) {
        while (write(COMMAND_FD_NET, bytes, sizeof(struct virtio_net_hdr) + frame.length) < 0) {
            if (errno != EAGAIN && errno != ENOBUFS)
                die("tap");
            struct pollfd room = {.fd = COMMAND_FD_NET, .events = POLLOUT};
            (void)poll(&room, 1, 10);
        }
    }
    return 0;
}

static int be_socket(size_t payload_bytes, unsigned packets)
{
    static uint8_t payload[BENCH_FRAME_BYTES];
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(test_consumer.port), .sin_addr = {.s_addr = htonl(test_consumer.ip)}};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    const uint64_t limit_us = clock_monotonic_us() + START_MS * UINT64_C(1000);
    while (connect(fd, (const struct sockaddr *)&to, sizeof to) < 0) { /* pasta is still at its link */
        if (clock_monotonic_us() > limit_us)
            die("no route");
        (void)poll(NULL, 0, 1);
    }
    for (unsigned i = 0; i < packets; i++) {
        if (send(fd, payload, payload_bytes, 0) < 0 && errno != ECONNREFUSED)
            die("send");
    }
    close(fd);
    return 0;
}

/* ---- what carries ------------------------------------------------------------------------------------------------- */

static const char *find_self(char ret_path[static VMM_PATH_BYTES])
{
    ssize_t length = readlink("/proc/self/exe", ret_path, VMM_PATH_BYTES - 1);
    if (length <= 0)
        die("/proc/self/exe");
    ret_path[length] = '\0';
    return ret_path;
}

static int carry_direct(const char *payload_bytes, const char *packets)
{
    char self[VMM_PATH_BYTES];
    struct command command;
    struct direct direct;
    struct child guard;
    struct error err = {0};
    command_start(&command, find_self(self));
    command_add(&command, "guest");
    command_add(&command, "%s", payload_bytes);
    command_add(&command, "%s", packets);
    const struct direct_spec spec = {.consumer = test_consumer, .allow_private = true, .command = &command};
    direct_init(&direct);
    child_init(&guard);
    int rc = direct_spawn(&spec, &direct, &guard, &err);
    if (rc == 0)
        rc = child_release(&guard);
    struct child_exit ended = {.code = -1};
    struct pollfd end = {.fd = guard.exit_fd, .events = POLLIN};
    if (rc == 0 && poll(&end, 1, RUN_MS) == 1 && !child_reap(&guard, &ended))
        rc = -ECHILD;
    char said[CHILD_OUTPUT_BYTES];
    if (rc != 0 || ended.code != 0) {
        child_read_output(&guard);
        fprintf(stderr, "direct_bench: %s %s\n", err.message, child_format_output(&guard, said, sizeof said));
    }
    direct_close(&direct, &guard);
    return rc == 0 ? ended.code : 1;
}

static int carry_pasta(char *payload_bytes, char *packets)
{
    char self[VMM_PATH_BYTES];
    char pasta[VMM_PATH_BYTES];
    struct command command;
    struct error err = {0};
    if (direct_find_tool("pasta", pasta, &err) != 0 ||
        command_pasta_build(&(struct command_pasta){.pasta = pasta, .program = find_self(self)}, &command, &err) != 0) {
        fprintf(stderr, "direct_bench: %s\n", err.message);
        return 1;
    }
    /* The same options, without the guard before them, and another program behind them. */
    char **words = command.argv + 2;
    size_t at = 0;
    while (strcmp(words[at], "--") != 0)
        at++;
    char *ours[COMMAND_ARGS_MAX + 6];
    memcpy(ours, words, (at + 1) * sizeof *ours);
    char *const behind[] = {self, (char *)"socket", payload_bytes, packets, NULL};
    memcpy(ours + at + 1, behind, sizeof behind);
    execv(pasta, ours);
    die(pasta);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, COMMAND_PASTA_LAUNCHER) == 0)
        return launcher_run(argc - 1, argv + 1);
    if (strcmp(what, "sink") == 0)
        return sink();
    if (argc != 4) {
        fprintf(stderr, "usage: direct_bench sink | direct PAYLOAD_BYTES PACKETS | pasta PAYLOAD_BYTES PACKETS\n");
        return 2;
    }
    if (strcmp(what, "direct") == 0)
        return carry_direct(argv[2], argv[3]);
    if (strcmp(what, "pasta") == 0)
        return carry_pasta(argv[2], argv[3]);
    const size_t payload_bytes = (size_t)atol(argv[2]);
    const unsigned packets = (unsigned)atol(argv[3]);
    return strcmp(what, "guest") == 0 ? be_guest(payload_bytes, packets) : be_socket(payload_bytes, packets);
}
