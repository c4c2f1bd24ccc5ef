#include "api/command/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/cmocka.h"

/* What one judgement says, gathered. */
static struct doctor_report report;

static void begin(void)
{
    json_decref(report.findings);
    report = (struct doctor_report){.findings = json_array()};
}

static const char *member(const char *name)
{
    assert_int_equal(json_array_size(report.findings), 1);
    const json_t *value = json_object_get(json_array_get(report.findings, 0), name);
    return json_is_string(value) ? json_string_value(value) : "";
}

/* One finding of this level; and unless it is good, why and how it is mended, with @mend in it. */
static void expect(const char *level, const char *check, const char *mend)
{
    if (strcmp(member("level"), level) != 0 || strcmp(member("check"), check) != 0)
        fail_msg("%s %s: %s, not %s %s", member("level"), member("check"), member("finding"), level, check);
    assert_true(strlen(member("finding")) > 0);
    assert_int_equal(report.failed, strcmp(level, "fail") == 0);
    if (strcmp(level, "ok") == 0) {
        assert_string_equal(member("why"), "");
        assert_string_equal(member("mend"), "");
        return;
    }
    assert_true(strlen(member("why")) > 0);
    if (strstr(member("mend"), mend) == NULL)
        fail_msg("%s: \"%s\" is not \"%s\"", check, member("mend"), mend);
}

static void too_few_descriptors_are_told_with_the_number_that_does(void **state)
{
    (void)state;
    begin();
    doctor_judge_descriptors(&report, 1024, 20000, 64);
    expect("warn", "descriptors", "ulimit -n 6656");
    begin();
    doctor_judge_descriptors(&report, 1024, 4096, 64);
    expect("warn", "descriptors", "limits.conf");
    begin();
    doctor_judge_descriptors(&report, 6656, 6656, 64);
    expect("ok", "descriptors", "");
    begin();
    doctor_judge_descriptors(&report, 6655, 6655, 64);
    expect("warn", "descriptors", "6656");
}

static void too_few_threads_are_told(void **state)
{
    (void)state;
    begin();
    doctor_judge_threads(&report, 100, 8);
    expect("warn", "threads", "ulimit -u 224");
    begin();
    doctor_judge_threads(&report, 224, 8);
    expect("ok", "threads", "");
}

static void memory_that_is_not_there_is_told(void **state)
{
    (void)state;
    begin();
    doctor_judge_memory(&report, 8192, 8193);
    expect("warn", "memory", "capacity.memoryMib");
    begin();
    doctor_judge_memory(&report, 8192, 8192);
    expect("ok", "memory", "");
}

static void a_full_disk_fails_and_a_small_one_warns(void **state)
{
    (void)state;
    begin();
    doctor_judge_disk(&report, "/d", DOCTOR_DISK_MIB - 1, 0);
    expect("fail", "disk", "make room");
    begin();
    doctor_judge_disk(&report, "/d", DOCTOR_DISK_MIB, DOCTOR_DISK_MIB + 1);
    expect("warn", "disk", "capacity.diskMib");
    begin();
    doctor_judge_disk(&report, "/d", DOCTOR_DISK_MIB, DOCTOR_DISK_MIB);
    expect("ok", "disk", "");
}

static void a_clock_of_the_past_fails_and_a_free_one_warns(void **state)
{
    (void)state;
    begin();
    doctor_judge_clock(&report, 999, 1000, 1);
    expect("fail", "clock", "set-ntp");
    begin();
    doctor_judge_clock(&report, 1000, 1000, 0);
    expect("warn", "clock", "set-ntp");
    begin();
    doctor_judge_clock(&report, 1000, 1000, 1);
    expect("ok", "clock", "");
    begin();
    doctor_judge_clock(&report, 1000, 1000, -1);
    expect("ok", "clock", "");
}

static void what_forbids_namespaces_is_named(void **state)
{
    (void)state;
    begin();
    doctor_judge_namespaces(&report, DOCTOR_WARN, ENOSPC, 0, 1, 0);
    expect("warn", "namespaces", "user.max_user_namespaces");
    begin();
    doctor_judge_namespaces(&report, DOCTOR_FAIL, EPERM, 15000, 0, -1);
    expect("fail", "namespaces", "unprivileged_userns_clone");
    begin();
    doctor_judge_namespaces(&report, DOCTOR_NOTE, EACCES, 15000, -1, 1);
    expect("note", "namespaces", "apparmor_restrict_unprivileged_userns");
    begin();
    doctor_judge_namespaces(&report, DOCTOR_NOTE, EPERM, -1, -1, -1);
    expect("note", "namespaces", "container");
    begin();
    doctor_judge_namespaces(&report, DOCTOR_FAIL, 0, 0, 0, 1);
    expect("ok", "namespaces", "");
}

static void a_tun_device_is_missing_or_closed(void **state)
{
    (void)state;
    begin();
    doctor_judge_tun(&report, DOCTOR_WARN, ENOENT);
    expect("warn", "tun", "modprobe tun");
    begin();
    doctor_judge_tun(&report, DOCTOR_WARN, EACCES);
    expect("warn", "tun", "chmod 0666 /dev/net/tun");
    begin();
    doctor_judge_tun(&report, DOCTOR_WARN, 0);
    expect("ok", "tun", "");
}

static void a_missing_sandbox_fails(void **state)
{
    static const struct doctor_calls calls = {.nat = 20, .service = 90, .forbidden = 35};
    (void)state;
    begin();
    doctor_judge_sandbox(&report, false, true, 3, &calls);
    expect("fail", "sandbox", "kernel");
    begin();
    doctor_judge_sandbox(&report, true, false, 3, &calls);
    expect("fail", "sandbox", "seccomp");
    begin();
    doctor_judge_sandbox(&report, true, true, 0, &calls);
    expect("ok", "sandbox", "");
    assert_non_null(strstr(member("finding"), "no Landlock"));
    assert_non_null(strstr(member("finding"), "NAT threads 20 system calls, service threads 90"));
    begin();
    doctor_judge_sandbox(&report, true, true, 3, &calls);
    expect("ok", "sandbox", "");
    assert_non_null(
        strstr(member("finding"), "NAT threads reach no file, service threads their folders alone (Landlock 3)"));
    begin();
    doctor_judge_sandbox(&report, true, true, 3, &(struct doctor_calls){0});
    expect("warn", "sandbox", "SANITIZE");
}

static int end(void **state)
{
    (void)state;
    json_decref(report.findings);
    report.findings = NULL;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(too_few_descriptors_are_told_with_the_number_that_does),
        cmocka_unit_test(too_few_threads_are_told),
        cmocka_unit_test(memory_that_is_not_there_is_told),
        cmocka_unit_test(a_full_disk_fails_and_a_small_one_warns),
        cmocka_unit_test(a_clock_of_the_past_fails_and_a_free_one_warns),
        cmocka_unit_test(what_forbids_namespaces_is_named),
        cmocka_unit_test(a_tun_device_is_missing_or_closed),
        cmocka_unit_test(a_missing_sandbox_fails),
    };
    return cmocka_run_group_tests(tests, NULL, end);
}
