/* `omertad nat`: one NAT in the foreground for a VM that somebody else runs. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/command/command.h"
#include "api/command/nat_options.h"
#include "base/clock.h"
#include "base/scope.h"
#include "nat/nat.h"
#include "vmm/vmm.h"

enum {
    ENDED_BY_VIOLATION = 3,   /* exit code */
    REPORT_LINE_BYTES = 4096, /* the longest, with all counters at their largest, is below 1,500 */
};

/* The reports' end is seen where the system has such sockets. */
#ifdef __linux__
#define REPORTS SOCK_SEQPACKET
#else
#define REPORTS SOCK_DGRAM
#endif

static int unix_address(const char *path, struct sockaddr_un *ret_address, struct error *err)
{
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof ret_address->sun_path)
        return error_set(err, -ENAMETOOLONG, "%s: a socket's path has %zu bytes at most", path,
                         sizeof ret_address->sun_path - 1);
    memcpy(ret_address->sun_path, path, strlen(path) + 1);
    return 0;
}

/* A socket file whose owner has gone refuses connections: it may be replaced. Anything else at the path stays. */
static int remove_stale(const struct sockaddr_un *address, struct error *err)
{
    struct stat found;
    if (lstat(address->sun_path, &found) < 0)
        return errno == ENOENT ? 0 : error_set(err, -errno, "%s: %s", address->sun_path, strerror(errno));
    int probe SCOPED_FD = socket(AF_UNIX, SOCK_DGRAM, 0);
    bool stale = S_ISSOCK(found.st_mode) && probe >= 0 &&
                 connect(probe, (const struct sockaddr *)address, sizeof *address) < 0 && errno == ECONNREFUSED;
    if (!stale)
        return error_set(err, -EADDRINUSE, "%s: is there already and in use, or not a socket", address->sun_path);
    return unlink(address->sun_path) < 0 ? error_set(err, -errno, "%s: %s", address->sun_path, strerror(errno)) : 0;
}

static int set_flags(int fd, struct error *err)
{
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return error_set(err, -errno, "descriptor %d: %s", fd, strerror(errno));
    return 0;
}

static int socket_type(const struct nat_options *options)
{
    return options->framing == NAT_FRAMING_STREAM ? SOCK_STREAM : SOCK_DGRAM;
}

static int connect_peer(const struct nat_options *options, int fd, struct error *err)
{
    struct sockaddr_un peer;
    int rc = unix_address(options->peer, &peer, err);
    if (rc == 0 && connect(fd, (const struct sockaddr *)&peer, sizeof peer) < 0)
        rc = error_set(err, -errno, "%s: %s (the VM's socket must be there first, or leave --peer out)", options->peer,
                       strerror(errno));
    return rc;
}

static int bind_at(const struct nat_options *options, int fd, struct error *err)
{
    struct sockaddr_un address;
    int rc = unix_address(options->listen, &address, err);
    if (rc == 0)
        rc = remove_stale(&address, err);
    if (rc < 0)
        return rc;
    mode_t before = umask(0177);
    rc = bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
    umask(before);
    if (rc == 0 && options->framing == NAT_FRAMING_STREAM && listen(fd, 1) < 0)
        rc = -errno;
    return rc < 0 ? error_set(err, rc, "%s: %s", options->listen, strerror(-rc)) : 0;
}

static int open_attachment(const struct nat_options *options, int *ret_fd, struct error *err)
{
    int fd SCOPED_FD = socket(AF_UNIX, socket_type(options), 0);
    if (fd < 0)
        return error_set(err, -errno, "unix socket: %s", strerror(errno));
    int rc = options->listen != NULL ? bind_at(options, fd, err) : 0;
    if (rc < 0)
        return rc;
    if (options->peer != NULL)
        rc = connect_peer(options, fd, err);
    if (rc == 0)
        rc = set_flags(fd, err); /* after connect(), which may have to wait for a stream's other end */
    if (rc < 0) {
        if (options->listen != NULL)
            unlink(options->listen);
        return rc;
    }
    *ret_fd = fd_take(&fd);
    return 0;
}

static int use_fd(const struct nat_options *options, struct error *err)
{
    const int fd = options->fd;
    struct sockaddr_storage peer = {0};
    socklen_t length = sizeof peer;
    int type = 0;
    socklen_t type_length = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) < 0 || type != socket_type(options))
        return error_set(err, -EINVAL, "--fd %d: not a %s socket", fd,
                         options->framing == NAT_FRAMING_STREAM ? "stream" : "datagram");
    if (getpeername(fd, (struct sockaddr *)&peer, &length) < 0 || peer.ss_family != AF_UNIX)
        return error_set(err, -EINVAL, "--fd %d: not a connected unix socket", fd);
    return set_flags(fd, err);
}

/* ---- reports ---------------------------------------------------------------------------------------------------- */

/** struct report_reader - The thread that prints reports. Owner: run_nat(). */
struct report_reader {
    int fd;
    int out;
    bool failed;
    atomic_bool told_end; /* the NAT is being stopped: the end of its reports is no news */
    bool terminated;
};

static json_t *violation_json(const struct nat_violation *violation)
{
    char mac[NAT_MAC_TEXT_BYTES];
    char source[NAT_IP_TEXT_BYTES];
    char destination[NAT_IP_TEXT_BYTES];
    return json_pack(
        "{s:i, s:s, s:s, s:s, s:b, s:I, s:i, s:i, s:s, s:s, s:i, s:s, s:i, s:i, s:I, s:i}", "serial",
        (int)violation->serial, "code", nat_reason_name(violation->reason), "mode", nat_mode_name(violation->mode),
        "verdict", violation->terminated ? "terminated" : "dropped", "overflow", violation->overflow, "count",
        (json_int_t)violation->count, "ethertype", violation->ethertype, "ip_protocol", violation->ip_protocol,
        "source_mac", nat_mac_format(violation->source_mac, mac), "source_ip",
        nat_ip_format(violation->source.ip, source), "source_port", violation->source.port, "destination_ip",
        nat_ip_format(violation->destination.ip, destination), "destination_port", violation->destination.port,
        "frame_bytes", (int)violation->frame_bytes, "policy_generation", (json_int_t)violation->policy_generation,
        "detection_latency_us", (int)violation->detection_latency_us);
}

static json_t *report_json(const struct nat_report *report)
{
    switch (report->kind) {
    case NAT_REPORT_POLICY:
        return json_pack("{s:s, s:I}", "report", "policy", "generation", (json_int_t)report->generation);
    case NAT_REPORT_VIOLATION:
        return json_pack("{s:s, s:o}", "report", "violation", "violation", violation_json(&report->violation));
    case NAT_REPORT_TUNNEL:
        return json_pack("{s:s, s:s}", "report", "tunnel", "state", nat_tunnel_name(report->tunnel));
    case NAT_REPORT_DETACHED:
        return json_pack("{s:s}", "report", "detached");
    case NAT_REPORT_FAILED:
        return json_pack("{s:s, s:s}", "report", "failed", "detail", report->text);
    }
    return NULL;
}

static json_t *stats_json(const struct nat_stats *stats)
{
    json_t *frames = json_object();
    for (size_t i = 0; i < NAT_REASON_COUNT; i++)
        json_object_set_new(frames, nat_reason_name((enum nat_reason)i), json_integer((json_int_t)stats->frames[i]));
    json_t *inbound = json_object();
    for (size_t i = 0; i < NAT_INBOUND_COUNT; i++)
        json_object_set_new(inbound, nat_inbound_name((enum nat_inbound)i),
                            json_integer((json_int_t)stats->inbound_packets[i]));
    return json_pack("{s:s, s:o, s:o, s:s}", "report", "ended", "frames", frames, "inbound_packets", inbound, "tunnel",
                     nat_tunnel_name(stats->tunnel));
}

/* Writes one line, in one write so that lines of several writers do not mix, and lets go of @line. */
static void print_line(int out, json_t *line)
{
    char when[CLOCK_TEXT_BYTES];
    char text[REPORT_LINE_BYTES];
    if (line == NULL || json_object_set_new(line, "time", json_string(clock_format(clock_wall_ms(), when))) < 0) {
        json_decref(line);
        return;
    }
    size_t length = json_dumpb(line, text, sizeof text - 1, JSON_COMPACT);
    json_decref(line);
    REQUIRE(length < sizeof text);
    text[length] = '\n';
    /* A report that cannot be written must not stop the NAT; there is nowhere left to say so. */
    ssize_t written = write(out, text, length + 1);
    (void)written;
}

static void *read_reports(void *context)
{
    struct report_reader *reader = context;
    struct nat_report report;
    while (recv(reader->fd, &report, sizeof report, 0) == (ssize_t)sizeof report) {
        print_line(reader->out, report_json(&report));
        reader->failed = reader->failed || report.kind == NAT_REPORT_FAILED;
        reader->terminated = reader->terminated || (report.kind == NAT_REPORT_VIOLATION && report.violation.terminated);
        if (reader->failed || reader->terminated || report.kind == NAT_REPORT_DETACHED)
            kill(getpid(), SIGTERM); /* wakes sigwait() in wait_for_end() */
    }
    if (!reader->told_end && !reader->failed) {
        print_line(reader->out, json_pack("{s:s, s:s}", "report", "failed", "detail", "the filter's thread is gone"));
        reader->failed = true;
        kill(getpid(), SIGTERM);
    }
    return NULL;
}

static int open_report(const char *path, struct error *err)
{
    if (strcmp(path, "-") == 0)
        return dup(STDOUT_FILENO);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? error_set(err, -errno, "%s: %s", path, strerror(errno)) : fd;
}

/* ---- running ---------------------------------------------------------------------------------------------------- */

static void wait_for_end(void)
{
    sigset_t ends;
    int got = 0;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigwait(&ends, &got);
}

/* What `sampled` forwards unchecked must never reach the provider itself. */
static int fill_own_addresses(struct nat_policy *policy, struct error *err)
{
    if (policy->mode != NAT_MODE_SAMPLED)
        return 0;
    return vmm_own_addresses(policy->own, NAT_OWN_MAX, &policy->own_count, err);
}

static int start_nat(const struct nat_options *options, int *frame_fd, int *report_fd, struct nat **ret_nat,
                     struct error *err)
{
    struct nat_config config = {
        .frame_fd = *frame_fd,
        .framing = options->framing,
        .busy_poll_us = options->busy_poll_us,
        .peer_known = options->listen == NULL || options->peer != NULL,
        .report_fd = *report_fd,
        .link = options->link,
    };
    int rc = nat_start(&config, ret_nat, err);
    if (rc < 0)
        return rc;
    (void)fd_take(frame_fd);
    (void)fd_take(report_fd);
    struct nat_policy policy = options->policy;
    rc = fill_own_addresses(&policy, err);
    if (rc == 0)
        rc = nat_apply(*ret_nat, &policy, err);
    if (rc < 0)
        nat_stop(*ret_nat, NULL);
    return rc;
}

static int serve_frames(const struct nat_options *options, int *frame_fd, int out, struct error *err)
{
    int ends[2];
    if (socketpair(AF_UNIX, REPORTS, 0, ends) < 0)
        return error_set(err, -errno, "report socket: %s", strerror(errno));
    int reader_end SCOPED_FD = ends[0];
    int nat_end SCOPED_FD = ends[1];
    struct nat *nat = NULL;
    int rc = start_nat(options, frame_fd, &nat_end, &nat, err);
    if (rc < 0)
        return rc;
    struct report_reader reader = {.fd = reader_end, .out = out};
    pthread_t thread;
    rc = -pthread_create(&thread, NULL, read_reports, &reader);
    if (rc < 0) {
        nat_stop(nat, NULL);
        return error_set(err, rc, "cannot start a thread: %s", strerror(-rc));
    }
    wait_for_end();
    struct nat_stats stats;
    atomic_store(&reader.told_end, true);
    nat_stop(nat, &stats);
    shutdown(reader_end, SHUT_RDWR); /* after what is queued, recv() in the reader yields 0 */
    pthread_join(thread, NULL);
    print_line(out, stats_json(&stats));
    if (reader.failed)
        return error_set(err, -EIO, "the NAT could not go on; see the last report");
    return reader.terminated ? ENDED_BY_VIOLATION : 0;
}

/* Return: exit code, or negative. */
static int run_nat(const struct nat_options *options, struct error *err)
{
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    pthread_sigmask(SIG_BLOCK, &ends, NULL); /* before any thread, so that sigwait() alone takes them */

    int out SCOPED_FD = open_report(options->report, err);
    if (out < 0)
        return out;
    int frame_fd SCOPED_FD = options->fd;
    int rc = options->fd < 0 ? open_attachment(options, &frame_fd, err) : use_fd(options, err);
    if (rc < 0)
        return rc;
    rc = serve_frames(options, &frame_fd, out, err);
    if (options->listen != NULL)
        unlink(options->listen);
    return rc;
}

int command_nat(int argc, char **argv)
{
    struct nat_options options;
    struct error err = {0};
    int rc = nat_options_parse(argc, argv, &options, &err);
    if (rc == 1) {
        fputs(nat_options_usage(), stdout);
        return 0;
    }
    if (rc < 0) {
        fprintf(stderr, "omertad nat: %s\nTry: omertad nat --help\n", err.message);
        return 2;
    }
    rc = run_nat(&options, &err);
    if (rc < 0) {
        fprintf(stderr, "omertad nat: %s\n", err.message);
        return rc == -EINVAL ? 2 : 1;
    }
    return rc;
}
