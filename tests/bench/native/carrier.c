/* Starting and stopping whoever is under test, and reading what it used. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "nat/nat.h"
#include "tests/bench/native/bench.h"
#include "tests/nat/frames.h"

/* The processor time clock of a thread of this process: clock_getcpuclockid(3) knows processes, and the NAT's pthread_t is
 * its own. The kernel's encoding, as glibc has it in pthread_getcpuclockid(3). */
static clockid_t clock_of_thread(pid_t thread)
{
    return (clockid_t)(~(unsigned)thread << 3 | 6);
}

/* The newest thread of this process. */
static pid_t newest_thread(void)
{
    pid_t newest = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        pid_t thread = (pid_t)atoi(entry->d_name);
        newest = thread > newest ? thread : newest;
    }
    closedir(tasks);
    return newest;
}

static enum nat_mode mode_of(enum bench_subject subject)
{
    return subject == BENCH_CONNTRACK ? NAT_MODE_CONNTRACK
           : subject == BENCH_SAMPLED ? NAT_MODE_SAMPLED
                                      : NAT_MODE_FILTERED;
}

static void start_nat(struct bench_carrier *carrier, enum bench_subject subject, enum nat_framing framing, int frame_fd)
{
    int reports[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, reports) < 0)
        bench_die("socketpair");
    fcntl(frame_fd, F_SETFL, O_NONBLOCK);
    struct nat_config config = {
        .frame_fd = frame_fd, .framing = framing, .peer_known = true, .report_fd = reports[0], .link = test_link};
    struct error err = {0};
    if (nat_start(&config, &carrier->nat, &err) < 0)
        bench_die(err.message);
    carrier->reports = reports[1];
    carrier->thread = newest_thread();
    carrier->clock = clock_of_thread(carrier->thread);
    struct nat_policy policy = test_policy;
    policy.mode = mode_of(subject);
    policy.sampling_ppm = NAT_SAMPLING_PPM_DEFAULT;
    if (nat_apply(carrier->nat, &policy, &err) < 0)
        bench_die(err.message);
    struct nat_report report;
    if (recv(carrier->reports, &report, sizeof report, 0) < 0)
        bench_die("report");
}

void carrier_start(struct bench_carrier *carrier, enum bench_subject subject, enum nat_framing framing, int frame_fd,
                   pid_t process)
{
    *carrier = (struct bench_carrier){.reports = -1};
    bench_pin(BENCH_CORE_SUBJECT); /* threads begin where the one that makes them is */
    if (subject == BENCH_PASST) {
        carrier->thread = process;
        if (clock_getcpuclockid(process, &carrier->clock) != 0)
            bench_die("no such process");
    } else if (subject == BENCH_NAIVE || subject == BENCH_RELAY) {
        carrier->relay = relay_start(subject == BENCH_NAIVE, framing, frame_fd, &carrier->thread);
        carrier->clock = clock_of_thread(carrier->thread);
    } else {
        start_nat(carrier, subject, framing, frame_fd);
    }
    bench_pin(BENCH_CORE_OTHERS);
}

void carrier_stop(struct bench_carrier *carrier)
{
    if (carrier->relay != NULL)
        relay_stop(carrier->relay);
    nat_stop(carrier->nat, NULL);
    if (carrier->reports >= 0)
        close(carrier->reports);
}

uint64_t carrier_cpu_ns(const struct bench_carrier *carrier)
{
    return bench_now_ns(carrier->clock);
}

uint64_t carrier_wakeups(const struct bench_carrier *carrier)
{
    char path[64];
    char line[128];
    unsigned long long switches = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)carrier->thread);
    FILE *status = fopen(path, "re");
    if (status == NULL)
        bench_die(path);
    while (fgets(line, sizeof line, status) != NULL)
        (void)sscanf(line, "voluntary_ctxt_switches: %llu", &switches);
    fclose(status);
    return switches;
}
