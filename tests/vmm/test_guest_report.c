#include "vmm/guest_report.h"

#include <stdio.h>
#include <string.h>

#include "tests/cmocka.h"

#define HEAD "ROGUE-ATTEMPT: IN= OUT=eth0 SRC=192.168.64.2 DST="

static void the_kernels_lines_are_understood(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        uint8_t protocol;
        uint32_t ip;
        uint16_t source_port;
        uint16_t port;
    } table[] = {
        {HEAD "8.8.8.8 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=1 DF PROTO=UDP SPT=40000 DPT=53 LEN=40 ", 17, 0x08080808,
         40000, 53},
        {"[    2.345678] " HEAD "1.1.1.1 LEN=60 PROTO=TCP SPT=1 DPT=65535 WINDOW=64240 RES=0x00 SYN URGP=0 ", 6,
         0x01010101, 1, 65535},
        {"Jan 1 vm kernel: [2.3] " HEAD "1.1.1.1 PROTO=ICMP TYPE=8 CODE=0 ID=1 SEQ=1", 1, 0x01010101, 0, 0},
        {HEAD "255.255.255.255 PROTO=UDP SPT=68 DPT=67 LEN=300", 17, 0xFFFFFFFF, 68, 67},
        {HEAD "0.0.0.0 PROTO=UDPLITE SPT=0 DPT=0", 136, 0, 0, 0},
        {HEAD "9.9.9.9 PROTO=ESP SPI=0x12345678", 50, 0x09090909, 0, 0},
        {HEAD "9.9.9.9 PROTO=AH SPI=0x1", 51, 0x09090909, 0, 0},
        {HEAD "9.9.9.9 PROTO=255", 255, 0x09090909, 0, 0},
        {HEAD "9.9.9.9 PROTO=0", 0, 0x09090909, 0, 0},
        {HEAD "9.9.9.9 FRAG:185 PROTO=UDP", 17, 0x09090909, 0, 0},
        {HEAD "9.9.9.9 PROTO=ICMP TYPE=3 CODE=1 [SRC=9.9.9.9 DST=1.2.3.4 PROTO=UDP SPT=1 DPT=2 ] MARK=0x1", 1,
         0x09090909, 0, 0},
        {"ROGUE-ATTEMPT: IN=eth0 OUT= MAC=02:00:00:00:00:02 SRC=192.168.64.2 DST=9.9.9.9 PROTO=TCP SPT=5 DPT=6", 6,
         0x09090909, 5, 6},
    };
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        struct guest_packet packet;
        if (!guest_report_parse(table[at].line, &packet))
            fail_msg("not understood: %s", table[at].line);
        assert_int_equal(packet.ip_protocol, table[at].protocol);
        assert_int_equal(packet.source.ip, 0xC0A84002);
        assert_int_equal(packet.source.port, table[at].source_port);
        assert_int_equal(packet.destination.ip, table[at].ip);
        assert_int_equal(packet.destination.port, table[at].port);
    }
}

static void anything_else_is_no_report(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "",
        "ROGUE-ATTEMPT:",
        "ROGUE-ATTEMPT: ",
        "rogue-attempt: IN= OUT=eth0 SRC=1.1.1.1 DST=1.1.1.1 PROTO=1",
        "ROGUE-ATTEMPT: OUT=eth0 SRC=1.1.1.1 DST=1.1.1.1 PROTO=1",
        "ROGUE-ATTEMPT: IN= SRC=1.1.1.1 DST=1.1.1.1 PROTO=1",
        "ROGUE-ATTEMPT: IN=  OUT=eth0 SRC=1.1.1.1 DST=1.1.1.1 PROTO=1",
        "ROGUE-ATTEMPT: IN= OUT=eth0 DST=1.1.1.1 PROTO=1",
        "ROGUE-ATTEMPT: IN= OUT=eth0 SRC=1.1.1.1 PROTO=1",
        "ROGUE-ATTEMPT: IN= OUT=eth0 SRC=1.1.1.1 DST=1.1.1.1",
        HEAD "8.8.8 PROTO=1",
        HEAD "8.8.8.256 PROTO=1",
        HEAD "8.8.8.08 PROTO=1",
        HEAD "8.8.8.8. PROTO=1",
        HEAD "8.8.8.8/32 PROTO=1",
        HEAD " PROTO=1",
        HEAD "255.255.255.2555 PROTO=1",
        HEAD "8.8.8.8\tPROTO=1",
        HEAD "8.8.8.8 PROTO=",
        HEAD "8.8.8.8 PROTO=256",
        HEAD "8.8.8.8 PROTO=01",
        HEAD "8.8.8.8 PROTO=-1",
        HEAD "8.8.8.8 PROTO=udp",
        HEAD "8.8.8.8 PROTO=UDPX",
        HEAD "8.8.8.8 PROTO=4294967297",
        HEAD "8.8.8.8 PROTO=UDP SPT=1",
        HEAD "8.8.8.8 PROTO=UDP DPT=1",
        HEAD "8.8.8.8 PROTO=UDP SPT=1 DPT=65536",
        HEAD "8.8.8.8 PROTO=UDP SPT=1 DPT=065",
        HEAD "8.8.8.8 PROTO=UDP SPT=1 DPT=",
        HEAD "8.8.8.8 PROTO=UDP SPT=1 DPT=5x",
        HEAD "8.8.8.8 PROTO=UDP SPT=99999999999 DPT=5",
        HEAD "8.8.8.8 PROTO=ICMP SPT=1 DPT=5",
        HEAD "8.8.8.8 DST=8.8.4.4 PROTO=1",
        HEAD "8.8.8.8 PROTO=1 PROTO=1",
        HEAD "8.8.8.8 PROTO=UDP SPT=1 DPT=5 DPT=5",
        HEAD "8.8.8.8 [PROTO=1",
    };
    for (size_t at = 0; at < sizeof lines / sizeof *lines; at++) {
        struct guest_packet packet = {.ip_protocol = 77};
        if (guest_report_parse(lines[at], &packet))
            fail_msg("taken for a report: %s", lines[at]);
        assert_int_equal(packet.ip_protocol, 77);
    }
}

static uint32_t draw(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Sanitizers look for reads outside; the values that come out must be in range whatever went in. */
static void random_bytes_and_mutations_are_taken_or_left_and_no_more(void **state)
{
    (void)state;
    static const char sound[] = HEAD "8.8.8.8 LEN=60 DF PROTO=UDP SPT=40000 DPT=53 LEN=40 ";
    uint32_t seed = 1;
    size_t taken = 0;
    for (int round = 0; round < 200000; round++) {
        char line[256];
        size_t length = sizeof sound - 1;
        memcpy(line, sound, sizeof sound);
        for (uint32_t changes = draw(&seed) % 4; changes > 0; changes--)
            line[draw(&seed) % length] = (char)(1 + draw(&seed) % 255);
        if (draw(&seed) % 8 == 0)
            line[draw(&seed) % length] = '\0';
        if (draw(&seed) % 16 == 0)
            for (size_t at = 0; at < length; at++)
                line[at] = (char)(1 + draw(&seed) % 255);
        struct guest_packet packet;
        taken += guest_report_parse(line, &packet);
    }
    assert_in_range(taken, 10000, 199999); /* both happened */
}

static struct guest_packet packet_to(uint32_t ip, uint16_t port, uint8_t protocol)
{
    return (struct guest_packet){
        .ip_protocol = protocol, .source = {.ip = 1, .port = 2}, .destination = {.ip = ip, .port = port}};
}

static void count(struct guest_reports *reports, uint32_t ip, uint16_t port, uint8_t protocol)
{
    struct guest_packet packet = packet_to(ip, port, protocol);
    guest_reports_count(reports, &packet);
}

static void an_aggregate_is_told_at_once_and_then_once_a_second(void **state)
{
    (void)state;
    static struct guest_reports reports;
    memset(&reports, 0, sizeof reports);
    assert_null(guest_reports_next(&reports, 5000));
    assert_true(guest_reports_due_ms(&reports) == UINT64_MAX);
    count(&reports, 7, 53, 17);
    assert_int_equal(guest_reports_due_ms(&reports), 0);
    const struct vmm_guest_report *report = guest_reports_next(&reports, 5000);
    assert_int_equal(report->serial, VMM_GUEST_SERIAL_FIRST);
    assert_int_equal(report->count, 1);
    assert_int_equal(report->destination.ip, 7);
    assert_int_equal(report->source.port, 2);
    assert_null(guest_reports_next(&reports, 5000));
    for (int at = 0; at < 1000; at++)
        count(&reports, 7, 53, 17);
    assert_int_equal(guest_reports_due_ms(&reports), 6000);
    assert_null(guest_reports_next(&reports, 5999));
    assert_int_equal(guest_reports_next(&reports, 6000)->count, 1001);
    assert_null(guest_reports_next(&reports, 99999));
    assert_true(guest_reports_due_ms(&reports) == UINT64_MAX);
    count(&reports, 7, 53, 17);
    guest_reports_finish(&reports);
    assert_int_equal(guest_reports_next(&reports, 6001)->count, 1002);
}

static void destination_port_and_protocol_make_an_aggregate(void **state)
{
    (void)state;
    static struct guest_reports reports;
    memset(&reports, 0, sizeof reports);
    count(&reports, 7, 53, 17);
    count(&reports, 8, 53, 17);
    count(&reports, 7, 54, 17);
    count(&reports, 7, 53, 6);
    count(&reports, 7, 53, 17);
    assert_int_equal(reports.made, 4);
    assert_int_equal(reports.entries[0].report.count, 2);
    for (uint32_t at = 0; at < 4; at++)
        assert_int_equal(guest_reports_next(&reports, 5000)->serial, VMM_GUEST_SERIAL_FIRST + at);
}

static void what_is_too_much_goes_into_one_overflow_entry(void **state)
{
    (void)state;
    static struct guest_reports reports;
    memset(&reports, 0, sizeof reports);
    for (uint32_t round = 0; round < 2; round++)
        for (uint32_t ip = 0; ip < 10000; ip++)
            count(&reports, ip, 1, 6);
    uint64_t sum = 0;
    size_t told = 0;
    const struct vmm_guest_report *report;
    while ((report = guest_reports_next(&reports, 5000)) != NULL) {
        assert_int_equal(report->serial, VMM_GUEST_SERIAL_FIRST + told);
        assert_int_equal(report->overflow, told == VMM_GUEST_REPORTS_MAX);
        if (report->overflow)
            assert_int_equal(report->destination.ip, 0);
        sum += report->count;
        told++;
    }
    assert_int_equal(told, VMM_GUEST_REPORTS_MAX + 1);
    assert_int_equal(sum, 20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_kernels_lines_are_understood),
        cmocka_unit_test(anything_else_is_no_report),
        cmocka_unit_test(random_bytes_and_mutations_are_taken_or_left_and_no_more),
        cmocka_unit_test(an_aggregate_is_told_at_once_and_then_once_a_second),
        cmocka_unit_test(destination_port_and_protocol_make_an_aggregate),
        cmocka_unit_test(what_is_too_much_goes_into_one_overflow_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
