/* A world for tests of whole machines: folders, an image, the fake hypervisor, and a record of every event. */
#ifndef TESTS_VMM_VMM_FIXTURE_H
#define TESTS_VMM_VMM_FIXTURE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "vmm/vmm.h"

enum vmm_fixture_limits {
    FIXTURE_EVENTS_MAX = 2048,
    FIXTURE_CONSOLE_BYTES = 1024,
    FIXTURE_WAIT_MS = 20000, /* a sanitizer on a busy machine is slow; a test that works never waits so long */
};

/** struct fixture_event - What is kept of an event. */
struct fixture_event {
    struct vmm_event event; /* its pointers are not valid any more */
    char detail[VMM_DETAIL_BYTES];
    char accelerator[8];
    char console[FIXTURE_CONSOLE_BYTES]; /* the newest bytes, terminated */
    struct nat_violation violation;
    struct vmm_guest_report guest_report;
};

/** struct vmm_fixture - Owner: the test. */
struct vmm_fixture {
    char root[64];
    char go[96]; /* when this file exists the fake hypervisors act */
    char qemu[96];
    struct vmm_config config;
    struct vmm *vmm;
    unsigned slow_ms; /* how long each event is taken for, as by a slow store */
    size_t fds_before;
    bool forgets_processes; /* the test itself calls vmm_spawn_noted() */
    pthread_mutex_t lock;
    pthread_cond_t grown;
    size_t count;
    struct fixture_event events[FIXTURE_EVENTS_MAX];
};

/** fixture_init() - Make the folders and a config; @program: the test binary's argv[0]. Thread: the test's */
void fixture_init(struct vmm_fixture *fixture, const char *program);

/** fixture_open() - vmm_open(). Thread: the test's */
void fixture_open(struct vmm_fixture *fixture);

/** fixture_done() - vmm_close(), then see that no descriptor, child or file is left. Thread: the test's */
void fixture_done(struct vmm_fixture *fixture);

/** fixture_spec() - A machine whose fake hypervisor does @word. Thread: the test's */
void fixture_spec(const struct vmm_fixture *fixture, const char *word, struct vmm_spec *ret_spec);

/** fixture_external_spec() - A machine that somebody else runs. Thread: the test's */
void fixture_external_spec(const struct vmm_fixture *fixture, struct vmm_spec *ret_spec);

/** fixture_image_with_disk() - Make an image that has a root disk of zeros. Thread: the test's */
void fixture_image_with_disk(const struct vmm_fixture *fixture, const char *word, size_t bytes);

/** fixture_start() - Start such a machine. Thread: the test's */
struct id fixture_start(struct vmm_fixture *fixture, const char *word);

/** fixture_run() - Start such a machine and wait until it runs. Thread: the test's */
struct id fixture_run(struct vmm_fixture *fixture, const char *word);

/** fixture_act() - Let the fake hypervisors act. Thread: the test's */
void fixture_act(const struct vmm_fixture *fixture);

/** fixture_await() - Wait for a machine's first event of a kind; fails the test when it does not come. Thread: the test's */
struct fixture_event fixture_await(struct vmm_fixture *fixture, const struct id *id, enum vmm_event_kind kind);

/** fixture_await_end() - Wait until a machine has ended; fails the test unless it ended so and nothing is left.
 *  Thread: the test's */
struct fixture_event fixture_await_end(struct vmm_fixture *fixture, const struct id *id, enum vmm_end end);

/** fixture_count() - How many events of a kind a machine has had so far. Thread: the test's */
size_t fixture_count(struct vmm_fixture *fixture, const struct id *id, enum vmm_event_kind kind);

/** fixture_path() - A path below the root. Return: @ret_path. Thread: the test's */
const char *fixture_path(const struct vmm_fixture *fixture, const char *name, char ret_path[static 256]);

/** fixture_open_fds() - How many descriptors this process has. Thread: any */
size_t fixture_open_fds(void);

#endif
