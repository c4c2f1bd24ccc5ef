/* A line of a guest's console: what is taken for a report of its firewall is printed again in the kernel's form and must be
 * understood as the same. */
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/guest_report.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    char *line = malloc(length + 1);
    struct guest_reports *reports = calloc(1, sizeof *reports);
    EXPECT(line != NULL && reports != NULL);
    memcpy(line, bytes, length);
    line[length] = '\0';
    struct guest_packet packet;
    if (guest_report_parse(line, &packet)) {
        EXPECT(strstr(line, GUEST_REPORT_PREFIX) != NULL);
        const bool ports = packet.source.port != 0 || packet.destination.port != 0;
        EXPECT(!ports || packet.ip_protocol == 6 || packet.ip_protocol == 17 || packet.ip_protocol == 136);
        char tail[32] = "";
        char again[256];
        char source[NAT_IP_TEXT_BYTES];
        char destination[NAT_IP_TEXT_BYTES];
        if (ports)
            snprintf(tail, sizeof tail, "SPT=%u DPT=%u", packet.source.port, packet.destination.port);
        snprintf(again, sizeof again, GUEST_REPORT_PREFIX "IN= OUT=eth0 SRC=%s DST=%s PROTO=%u %s",
                 nat_ip_format(packet.source.ip, source), nat_ip_format(packet.destination.ip, destination),
                 packet.ip_protocol, tail);
        struct guest_packet twin;
        EXPECT(guest_report_parse(again, &twin));
        EXPECT(twin.ip_protocol == packet.ip_protocol && twin.source.ip == packet.source.ip);
        EXPECT(twin.destination.ip == packet.destination.ip && twin.destination.port == packet.destination.port);
        for (unsigned i = 0; i < 2 * GUEST_REPORT_ENTRIES; i++) {
            packet.destination.ip += i % 3; /* more kinds than there are entries */
            guest_reports_count(reports, &packet);
            (void)guest_reports_next(reports, i * 10);
        }
        EXPECT(reports->made <= GUEST_REPORT_ENTRIES);
    }
    free(reports);
    free(line);
    return 0;
}
