#include "tests/store/store_fixture.h"

#include <ftw.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/internal.h"

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status;
    (void)kind;
    (void)place;
    return remove(path);
}

void store_fixture_open(struct store_fixture *fixture)
{
    struct error err = {0};
    assert_null(fixture->store);
    assert_works(store_open(fixture->path, &fixture->store, &err), err);
}

void store_fixture_close(struct store_fixture *fixture)
{
    store_close(fixture->store);
    fixture->store = NULL;
}

int store_fixture_setup(void **state)
{
    struct store_fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    const char *base = getenv("TMPDIR");
    int used =
        snprintf(fixture->folder, sizeof fixture->folder, "%s/omertad-store-XXXXXX", base == NULL ? "/tmp" : base);
    assert_true(used > 0 && (size_t)used < sizeof fixture->folder);
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(fixture->path, sizeof fixture->path, "%s/omertad.db", fixture->folder);
    *state = fixture;
    store_fixture_open(fixture);
    return 0;
}

int store_fixture_teardown(void **state)
{
    struct store_fixture *fixture = *state;
    store_close(fixture->store);
    int result = nftw(fixture->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return result;
}

struct store_resources fixture_capacity(uint32_t leases)
{
    return (struct store_resources){.leases = leases,
                                    .vcpus = 2 * leases,
                                    .memory_mib = UINT64_C(2048) * leases,
                                    .disk_mib = UINT64_C(4096) * leases};
}

static struct id make_id(unsigned n, uint8_t kind)
{
    uint8_t random[ID_RANDOM_BYTES] = {
        0, 0, 0, kind, 0, 0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
    return id_make(UINT64_C(1700000000000) + n, random);
}

struct store_lease fixture_lease(unsigned n)
{
    struct store_lease lease = {
        .id = make_id(n, 1),
        .state = LEASE_PENDING,
        .attachment = "qemu",
        .image = "alpine-3.20",
        .resources = {.leases = 1, .vcpus = 2, .memory_mib = 2048, .disk_mib = 4096},
        .mode = "filtered",
        .guest_mac = "02:00:00:00:00:02",
        .guest_ip = "192.168.64.2",
        .consumer_endpoint = "203.0.113.5:51900",
        .consumer_tunnel_ip = "10.100.0.1",
        .vm_public_key = "dm12bXZtdm12bXZtdm12bXZtdm12bXZtdm12bXZtdm0=",
        .vm_tunnel_ip = "10.100.0.2",
        .ssh_user = "worker",
        .labels = "{\"team\":\"a\"}",
        .ttl_s = 3600,
        .created_ms = UINT64_C(1700000000000) + n,
        .expires_ms = UINT64_C(1700003600000) + n,
        .heartbeat_timeout_s = 30,
        .deadline_ms = UINT64_C(7200000) + n,
        .deadline_boot_id = "9d1f0a3c-5b6e-4c7d-8e9f-0a1b2c3d4e5f",
        .policy_desired = 1,
        .boot_isolation = "prebuilt",
        .on_violation = "drop",
    };
    snprintf(lease.consumer_public_key, sizeof lease.consumer_public_key, "%043u=", n);
    return lease;
}

struct store_violation fixture_violation(unsigned n, struct id lease_id)
{
    return (struct store_violation){
        .id = make_id(n, 2),
        .lease_id = lease_id,
        .serial = n,
        .first_seen_ms = UINT64_C(1700000001000) + n,
        .last_seen_ms = UINT64_C(1700000001000) + n,
        .count = 1,
        .code = "destination_not_allowed",
        .mode = "filtered",
        .verdict = "dropped",
        .source = "filter",
        .ethertype = 0x0800,
        .ip_protocol = 17,
        .source_mac = "02:00:00:00:00:02",
        .source_ip = "192.168.64.2",
        .source_port = 40000,
        .destination_ip = "198.51.100.7",
        .destination_port = 53,
        .frame_bytes = 90,
        .policy_generation = 1,
        .detection_latency_us = 12,
        .evidence_bytes = 3,
        .evidence = {1, 0, 3},
    };
}

struct store_end fixture_end(void)
{
    return (struct store_end){
        .reason = LEASE_RELEASED,
        .initiated_by = "orchestrator",
        .detail = "released",
        .exit_code = -1,
        .detected_ms = UINT64_C(1700000005000),
        .stopped_ms = UINT64_C(1700000006000),
    };
}

struct id fixture_reserve(struct store_fixture *fixture, unsigned n)
{
    struct error err = {0};
    assert_works(fixture_try_reserve(fixture, n, &err), err);
    return fixture_lease(n).id;
}

void fixture_assert_same_lease(const struct store_lease *a, const struct store_lease *b)
{
    assert_string_equal(a->id.text, b->id.text);
    assert_int_equal(a->generation, b->generation);
    assert_int_equal(a->state, b->state);
    assert_string_equal(a->state_detail, b->state_detail);
    assert_string_equal(a->image, b->image);
    assert_string_equal(a->image_digest, b->image_digest);
    assert_int_equal(a->resources.leases, b->resources.leases);
    assert_int_equal(a->resources.vcpus, b->resources.vcpus);
    assert_int_equal(a->resources.memory_mib, b->resources.memory_mib);
    assert_int_equal(a->resources.disk_mib, b->resources.disk_mib);
    assert_string_equal(a->mode, b->mode);
    assert_string_equal(a->guest_mac, b->guest_mac);
    assert_string_equal(a->guest_ip, b->guest_ip);
    assert_string_equal(a->consumer_public_key, b->consumer_public_key);
    assert_string_equal(a->consumer_endpoint, b->consumer_endpoint);
    assert_string_equal(a->consumer_tunnel_ip, b->consumer_tunnel_ip);
    assert_string_equal(a->vm_public_key, b->vm_public_key);
    assert_string_equal(a->vm_tunnel_ip, b->vm_tunnel_ip);
    assert_string_equal(a->ssh_user, b->ssh_user);
    assert_string_equal(a->labels, b->labels);
    assert_int_equal(a->sampling_ppm, b->sampling_ppm);
    assert_string_equal(a->boot_isolation, b->boot_isolation);
    assert_string_equal(a->on_violation, b->on_violation);
    assert_int_equal(a->require_wireguard, b->require_wireguard);
    assert_int_equal(a->egress_bits_per_s, b->egress_bits_per_s);
    assert_int_equal(a->ingress_bits_per_s, b->ingress_bits_per_s);
    assert_int_equal(a->egress_packets_per_s, b->egress_packets_per_s);
    assert_int_equal(a->ingress_packets_per_s, b->ingress_packets_per_s);
    assert_int_equal(a->exposed_ms, b->exposed_ms);
    assert_string_equal(a->accelerator, b->accelerator);
    assert_int_equal(a->ttl_s, b->ttl_s);
    assert_int_equal(a->heartbeat_timeout_s, b->heartbeat_timeout_s);
    assert_int_equal(a->deadline_ms, b->deadline_ms);
    assert_string_equal(a->deadline_boot_id, b->deadline_boot_id);
    assert_int_equal(a->created_ms, b->created_ms);
    assert_int_equal(a->started_ms, b->started_ms);
    assert_int_equal(a->expires_ms, b->expires_ms);
    assert_int_equal(a->policy_desired, b->policy_desired);
    assert_int_equal(a->policy_observed, b->policy_observed);
    assert_string_equal(a->tunnel_state, b->tunnel_state);
    assert_int_equal(a->tunnel_established_ms, b->tunnel_established_ms);
    assert_int_equal(a->tunnel_last_handshake_ms, b->tunnel_last_handshake_ms);
    assert_int_equal(a->pid, b->pid);
    assert_int_equal(a->pid_start_ticks, b->pid_start_ticks);
    assert_string_equal(a->boot_id, b->boot_id);
    assert_int_equal(a->reason, b->reason);
    assert_string_equal(a->initiated_by, b->initiated_by);
    assert_string_equal(a->termination_detail, b->termination_detail);
    assert_string_equal(a->violation_id, b->violation_id);
    assert_int_equal(a->exit_code, b->exit_code);
    assert_int_equal(a->signal, b->signal);
    assert_int_equal(a->detected_ms, b->detected_ms);
    assert_int_equal(a->stopped_ms, b->stopped_ms);
}

void fixture_assert_same_violation(const struct store_violation *a, const struct store_violation *b)
{
    assert_string_equal(a->id.text, b->id.text);
    assert_string_equal(a->lease_id.text, b->lease_id.text);
    assert_int_equal(a->serial, b->serial);
    assert_int_equal(a->first_seen_ms, b->first_seen_ms);
    assert_int_equal(a->last_seen_ms, b->last_seen_ms);
    assert_int_equal(a->count, b->count);
    assert_string_equal(a->code, b->code);
    assert_string_equal(a->mode, b->mode);
    assert_int_equal(a->sampling_ppm, b->sampling_ppm);
    assert_int_equal(a->stop_latency_ms, b->stop_latency_ms);
    assert_string_equal(a->verdict, b->verdict);
    assert_string_equal(a->source, b->source);
    assert_int_equal(a->overflow, b->overflow);
    assert_int_equal(a->ethertype, b->ethertype);
    assert_int_equal(a->ip_protocol, b->ip_protocol);
    assert_string_equal(a->source_mac, b->source_mac);
    assert_string_equal(a->source_ip, b->source_ip);
    assert_int_equal(a->source_port, b->source_port);
    assert_string_equal(a->destination_ip, b->destination_ip);
    assert_int_equal(a->destination_port, b->destination_port);
    assert_int_equal(a->frame_bytes, b->frame_bytes);
    assert_int_equal(a->policy_generation, b->policy_generation);
    assert_int_equal(a->detection_latency_us, b->detection_latency_us);
    assert_int_equal(a->evidence_bytes, b->evidence_bytes);
    assert_memory_equal(a->evidence, b->evidence, sizeof a->evidence);
    assert_int_equal(a->evidence_purged, b->evidence_purged);
}

static sqlite3 *open_database(const struct store_fixture *fixture)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open_v2(fixture->path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    sqlite3_busy_timeout(db, 1000);
    sqlite3_extended_result_codes(db, 1);
    assert_int_equal(sqlite3_exec(db, "PRAGMA foreign_keys = ON", NULL, NULL, NULL), SQLITE_OK);
    return db;
}

int fixture_sql(const struct store_fixture *fixture, const char *sql)
{
    sqlite3 *db = open_database(fixture);
    int code = sqlite3_exec(db, sql, NULL, NULL, NULL);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return code;
}

const char *fixture_text(const struct store_fixture *fixture, const char *sql)
{
    static char text[32768];
    sqlite3 *db = open_database(fixture);
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK || sqlite3_step(statement) != SQLITE_ROW)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    const unsigned char *value = sqlite3_column_text(statement, 0);
    snprintf(text, sizeof text, "%s", value == NULL ? "(null)" : (const char *)value);
    sqlite3_finalize(statement);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return text;
}

int64_t fixture_number(const struct store_fixture *fixture, const char *sql)
{
    return strtoll(fixture_text(fixture, sql), NULL, 10);
}

int fixture_try_reserve(struct store_fixture *fixture, unsigned n, struct error *err)
{
    struct store_lease lease = fixture_lease(n);
    struct store_resources capacity = fixture_capacity(1000000);
    return store_lease_reserve(fixture->store, &lease, &capacity, err);
}

void fixture_expect_whole(const struct store_fixture *fixture, int64_t leases)
{
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM leases"), leases);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM peers"), leases);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM events"), leases);
    assert_string_equal(fixture_text(fixture, "PRAGMA integrity_check"), "ok");
}

static int take_number(void *context, int count, char **values, char **names)
{
    (void)count;
    (void)names;
    *(long long *)context = atoll(values[0]); /* NOLINT(cert-err34-c): SQLite's own number */
    return 0;
}

void fixture_set_full(const struct store_fixture *fixture, bool full)
{
    struct store_connection *writer = &fixture->store->writer;
    long long pages = 0;
    char sql[64];
    assert_int_equal(pthread_mutex_lock(&writer->lock), 0);
    assert_int_equal(sqlite3_exec(writer->db, "PRAGMA page_count", take_number, &pages, NULL), SQLITE_OK);
    snprintf(sql, sizeof sql, "PRAGMA max_page_count = %lld", full ? 4 + pages : INT32_MAX);
    assert_int_equal(sqlite3_exec(writer->db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(pthread_mutex_unlock(&writer->lock), 0);
}
