#include "tests/vmm/vmm_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/cmocka.h"

static const char kernel[] = "not a kernel";
static const char initrd[] = "not an initrd";
static const char ssh_key[] = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";

static void on_event(void *context, const struct vmm_event *event)
{
    struct vmm_fixture *fixture = context;
    usleep(fixture->slow_ms * 1000);
    struct fixture_event kept = {.event = *event};
    snprintf(kept.detail, sizeof kept.detail, "%s", event->detail == NULL ? "" : event->detail);
    snprintf(kept.accelerator, sizeof kept.accelerator, "%s", event->accelerator == NULL ? "" : event->accelerator);
    size_t most = sizeof kept.console - 1;
    size_t length = event->console_bytes < most ? event->console_bytes : most;
    if (length > 0)
        memcpy(kept.console, event->console + event->console_bytes - length, length);
    if (event->violation != NULL)
        kept.violation = *event->violation;
    if (event->guest_report != NULL)
        kept.guest_report = *event->guest_report;
    pthread_mutex_lock(&fixture->lock);
    if (fixture->count < FIXTURE_EVENTS_MAX)
        fixture->events[fixture->count++] = kept;
    pthread_cond_broadcast(&fixture->grown);
    bool keeps_waiting = fixture->forgets_processes;
    pthread_mutex_unlock(&fixture->lock);
    if (event->kind == VMM_EVENT_SPAWNED && !keeps_waiting)
        vmm_spawn_noted(fixture->vmm, &event->id, event->pid);
}

size_t fixture_open_fds(void)
{
    size_t count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

const char *fixture_path(const struct vmm_fixture *fixture, const char *name, char ret_path[static 256])
{
    snprintf(ret_path, 256, "%s/%s", fixture->root, name);
    return ret_path;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) >= 0, 1);
    assert_int_equal(fclose(file), 0);
}

static void format_digest(const char *text, char ret_hex[static 65])
{
    unsigned char digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256(digest, (const unsigned char *)text, strlen(text));
    sodium_bin2hex(ret_hex, 65, digest, sizeof digest);
}

/* An image whose only difference is its kernel command line, which the fake hypervisor reads. */
static void make_image(const struct vmm_fixture *fixture, const char *word, const char *disk)
{
    char folder[128];
    char path[192];
    char manifest[2048];
    char kernel_digest[65];
    char initrd_digest[65];
    snprintf(folder, sizeof folder, "%s/images/%s", fixture->root, word);
    if (mkdir(folder, 0700) != 0)
        return; /* made for an earlier machine */
    format_digest(kernel, kernel_digest);
    format_digest(initrd, initrd_digest);
    snprintf(path, sizeof path, "%s/kernel", folder);
    write_file(path, kernel);
    snprintf(path, sizeof path, "%s/initrd", folder);
    write_file(path, initrd);
    snprintf(manifest, sizeof manifest,
             "{\"name\": \"%s\", \"description\": \"a fake\", \"architecture\": \"x86_64\", \"boot\": \"kernel\","
             "\"kernel\": {\"file\": \"kernel\", \"sha256\": \"%s\", \"bytes\": %zu},"
             "\"initrd\": {\"file\": \"initrd\", \"sha256\": \"%s\", \"bytes\": %zu},%s"
             "\"command_line\": \"fake=%s go=%s\", \"min_memory_mib\": 16, \"ready_line\": \"ready\"}",
             word, kernel_digest, strlen(kernel), initrd_digest, strlen(initrd), disk, word, fixture->go);
    snprintf(path, sizeof path, "%s/manifest.json", folder);
    write_file(path, manifest);
}

void fixture_image_with_disk(const struct vmm_fixture *fixture, const char *word, size_t bytes)
{
    char path[192];
    char hex[65];
    char disk[256];
    unsigned char digest[crypto_hash_sha256_BYTES];
    unsigned char *zeros = calloc(1, bytes);
    assert_non_null(zeros);
    crypto_hash_sha256(digest, zeros, bytes);
    free(zeros);
    sodium_bin2hex(hex, sizeof hex, digest, sizeof digest);
    snprintf(disk, sizeof disk,
             "\"disk\": {\"file\": \"disk.raw\", \"format\": \"raw\", \"sha256\": \"%s\", \"bytes\": %zu},", hex,
             bytes);
    make_image(fixture, word, disk);
    snprintf(path, sizeof path, "%s/images/%s/disk.raw", fixture->root, word);
    write_file(path, "");
    assert_int_equal(truncate(path, (off_t)bytes), 0);
}

void fixture_init(struct vmm_fixture *fixture, const char *program)
{
    static char image_dir[256];
    static char runtime_dir[256];
    static char cache_dir[256];
    memset(fixture, 0, sizeof *fixture);
    assert_true(sodium_init() >= 0);
    fixture->fds_before = fixture_open_fds();
    pthread_mutex_init(&fixture->lock, NULL);
    pthread_cond_init(&fixture->grown, NULL);
    snprintf(fixture->root, sizeof fixture->root, "/tmp/omertad-vmm-XXXXXX");
    assert_non_null(mkdtemp(fixture->root));
    snprintf(fixture->go, sizeof fixture->go, "%s/go", fixture->root);
    snprintf(fixture->qemu, sizeof fixture->qemu, "%s/fake_qemu", fixture->root);
    char *self = realpath(program, NULL);
    assert_non_null(self);
    assert_int_equal(symlink(self, fixture->qemu), 0);
    free(self);
    assert_int_equal(mkdir(fixture_path(fixture, "images", image_dir), 0700), 0);
    fixture->config = (struct vmm_config){.image_dir = image_dir,
                                          .runtime_dir = fixture_path(fixture, "run", runtime_dir),
                                          .cache_dir = fixture_path(fixture, "cache", cache_dir),
                                          .program = fixture->qemu,
                                          .kvm_device = "/nonexistent",
                                          .boot_watchdog_ms = 10000,
                                          .start_timeout_ms = 15000,
                                          .powerdown_ms = 5000,
                                          .on_event = on_event,
                                          .context = fixture};
}

void fixture_open(struct vmm_fixture *fixture)
{
    struct error err = {0};
    if (vmm_open(&fixture->config, &fixture->vmm, &err) != 0)
        fail_msg("%s", err.message);
}

void fixture_done(struct vmm_fixture *fixture)
{
    char machines[256];
    char command[128];
    vmm_close(fixture->vmm);
    assert_int_equal(fixture_open_fds(), fixture->fds_before);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    /* Only an empty folder can be removed. */
    assert_true(rmdir(fixture_path(fixture, "run/machines", machines)) == 0 || errno == ENOENT);
    snprintf(command, sizeof command, "rm -rf %s", fixture->root);
    assert_int_equal(system(command), 0);
    pthread_cond_destroy(&fixture->grown);
    pthread_mutex_destroy(&fixture->lock);
}

void fixture_spec(const struct vmm_fixture *fixture, const char *word, struct vmm_spec *ret_spec)
{
    make_image(fixture, word, "");
    *ret_spec = (struct vmm_spec){.id = id_new(),
                                  .vcpus = 1,
                                  .memory_mib = 128,
                                  .disk_mib = 64,
                                  .policy = {.mode = NAT_MODE_FILTERED, .generation = 1},
                                  .guest_mac = {{0x02, 0, 0, 0, 0, 2}},
                                  .ssh_user = "omerta",
                                  .ssh_key_count = 1};
    snprintf(ret_spec->image, sizeof ret_spec->image, "%s", word);
    snprintf(ret_spec->ssh_keys[0], sizeof ret_spec->ssh_keys[0], "%s", ssh_key);
    uint8_t other[VMM_KEY_BYTES];
    vmm_key_pair(ret_spec->tunnel.private_key, ret_spec->tunnel.public_key);
    vmm_key_pair(other, ret_spec->tunnel.consumer_public_key);
    ret_spec->tunnel.consumer = (struct nat_endpoint){.ip = 0xC6336407, .port = 51900}; /* 198.51.100.7 */
    ret_spec->tunnel.consumer_tunnel_ip = 0x0A000001;
    ret_spec->tunnel.vm_tunnel_ip = 0x0A000002;
}

void fixture_external_spec(const struct vmm_fixture *fixture, struct vmm_spec *ret_spec)
{
    fixture_spec(fixture, "unused", ret_spec);
    ret_spec->external = true;
    ret_spec->image[0] = '\0';
    ret_spec->disk_mib = 0;
}

struct id fixture_start(struct vmm_fixture *fixture, const char *word)
{
    struct vmm_spec spec;
    struct error err = {0};
    fixture_spec(fixture, word, &spec);
    if (vmm_start(fixture->vmm, &spec, &err) != 0)
        fail_msg("%s", err.message);
    return spec.id;
}

struct id fixture_run(struct vmm_fixture *fixture, const char *word)
{
    struct id id = fixture_start(fixture, word);
    fixture_await(fixture, &id, VMM_EVENT_RUNNING);
    return id;
}

void fixture_act(const struct vmm_fixture *fixture)
{
    write_file(fixture->go, "");
}

static bool is(const struct fixture_event *kept, const struct id *id, enum vmm_event_kind kind)
{
    return kept->event.kind == kind && strcmp(kept->event.id.text, id->text) == 0;
}

size_t fixture_count(struct vmm_fixture *fixture, const struct id *id, enum vmm_event_kind kind)
{
    size_t count = 0;
    pthread_mutex_lock(&fixture->lock);
    for (size_t at = 0; at < fixture->count; at++)
        count += is(&fixture->events[at], id, kind);
    pthread_mutex_unlock(&fixture->lock);
    return count;
}

/* The lock is held. */
static bool find(const struct vmm_fixture *fixture, const struct id *id, enum vmm_event_kind kind,
                 struct fixture_event *ret_event)
{
    for (size_t at = 0; at < fixture->count; at++)
        if (is(&fixture->events[at], id, kind)) {
            *ret_event = fixture->events[at];
            return true;
        }
    return false;
}

struct fixture_event fixture_await(struct vmm_fixture *fixture, const struct id *id, enum vmm_event_kind kind)
{
    struct timespec limit;
    struct fixture_event found;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += FIXTURE_WAIT_MS / 1000;
    pthread_mutex_lock(&fixture->lock);
    bool known;
    int rc = 0;
    while (!(known = find(fixture, id, kind, &found)) && rc == 0)
        rc = pthread_cond_timedwait(&fixture->grown, &fixture->lock, &limit);
    if (!known && find(fixture, id, VMM_EVENT_STOPPING, &found))
        print_error("it ended: %s: %s\n", vmm_end_name(found.event.end), found.detail);
    pthread_mutex_unlock(&fixture->lock);
    if (!known)
        fail_msg("event %d did not come", (int)kind);
    return found;
}

struct fixture_event fixture_await_end(struct vmm_fixture *fixture, const struct id *id, enum vmm_end end)
{
    struct fixture_event ended = fixture_await(fixture, id, VMM_EVENT_ENDED);
    if (ended.event.end != end)
        fail_msg("ended with %s, not %s: %s", vmm_end_name(ended.event.end), vmm_end_name(end), ended.detail);
    assert_int_equal(fixture_count(fixture, id, VMM_EVENT_STOPPING), 1);
    assert_int_equal(fixture_await(fixture, id, VMM_EVENT_STOPPING).event.end, end);
    char name[64];
    char path[256];
    snprintf(name, sizeof name, "run/machines/%s", id->text);
    assert_int_equal(access(fixture_path(fixture, name, path), F_OK), -1);
    uint8_t byte;
    struct nat_stats stats;
    assert_int_equal(vmm_read_console(fixture->vmm, id, &byte, 1, NULL), -ENOENT);
    assert_int_equal(vmm_read_stats(fixture->vmm, id, &stats), -ENOENT);
    return ended;
}
