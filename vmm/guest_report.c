#include "vmm/guest_report.h"

#include <string.h>

enum {
    PROTOCOL_UNKNOWN = 0,
    PROTOCOL_ICMP = 1,
    PROTOCOL_TCP = 6,
    PROTOCOL_UDP = 17,
    PROTOCOL_ESP = 50,
    PROTOCOL_AH = 51,
    PROTOCOL_UDPLITE = 136,
    NUMBER_DIGITS_MAX = 5,
};

/* ---- one line ---------------------------------------------------------------------------------------------- */

/* A word of the line: no copy, not terminated. */
struct word {
    const char *text;
    size_t length;
};

/* The word that @text begins with; words stand one space apart. */
static struct word word_at(const char *text)
{
    return (struct word){.text = text, .length = strcspn(text, " ")};
}

/* Whether the word is @key=..., and what stands behind the equals sign. */
static bool value_of(struct word word, const char *key, struct word *ret_value)
{
    size_t length = strlen(key);
    if (word.length <= length || memcmp(word.text, key, length) != 0 || word.text[length] != '=')
        return false;
    *ret_value = (struct word){.text = word.text + length + 1, .length = word.length - length - 1};
    return true;
}

static bool take_ip(struct word value, uint32_t *ret_ip)
{
    char text[NAT_IP_TEXT_BYTES];
    if (value.length >= sizeof text)
        return false;
    memcpy(text, value.text, value.length);
    text[value.length] = '\0';
    return nat_ip_parse(text, ret_ip);
}

/* A decimal number without leading zeros. */
static bool take_number(struct word value, uint32_t most, uint32_t *ret_number)
{
    uint32_t number = 0;
    if (value.length == 0 || value.length > NUMBER_DIGITS_MAX || (value.text[0] == '0' && value.length > 1))
        return false;
    for (size_t at = 0; at < value.length; at++) {
        if (value.text[at] < '0' || value.text[at] > '9')
            return false;
        number = number * 10 + (uint32_t)(value.text[at] - '0');
    }
    *ret_number = number;
    return number <= most;
}

static bool take_port(struct word value, uint16_t *ret_port)
{
    uint32_t number;
    if (!take_number(value, UINT16_MAX, &number))
        return false;
    *ret_port = (uint16_t)number;
    return true;
}

/* The kernel names six protocols and prints the number of any other. */
static bool take_protocol(struct word value, uint8_t *ret_protocol)
{
    static const struct {
        const char *name;
        uint8_t number;
    } named[] = {{"ICMP", PROTOCOL_ICMP}, {"TCP", PROTOCOL_TCP}, {"UDP", PROTOCOL_UDP},
                 {"ESP", PROTOCOL_ESP},   {"AH", PROTOCOL_AH},   {"UDPLITE", PROTOCOL_UDPLITE}};
    for (size_t at = 0; at < sizeof named / sizeof *named; at++)
        if (value.length == strlen(named[at].name) && memcmp(value.text, named[at].name, value.length) == 0) {
            *ret_protocol = named[at].number;
            return true;
        }
    uint32_t number;
    if (!take_number(value, UINT8_MAX, &number))
        return false;
    *ret_protocol = (uint8_t)number;
    return true;
}

/* What a line has said so far. */
enum seen { SEEN_SRC = 1, SEEN_DST = 2, SEEN_PROTO = 4, SEEN_SPT = 8, SEEN_DPT = 16 };

/* Return: false for a value that the kernel does not print, or one that comes twice. */
static bool take_word(struct word word, unsigned *seen, struct guest_packet *packet)
{
    struct word value;
    unsigned bit = 0;
    bool good = true;
    if (value_of(word, "SRC", &value)) {
        bit = SEEN_SRC;
        good = take_ip(value, &packet->source.ip);
    } else if (value_of(word, "DST", &value)) {
        bit = SEEN_DST;
        good = take_ip(value, &packet->destination.ip);
    } else if (value_of(word, "PROTO", &value)) {
        bit = SEEN_PROTO;
        good = take_protocol(value, &packet->ip_protocol);
    } else if (value_of(word, "SPT", &value)) {
        bit = SEEN_SPT;
        good = take_port(value, &packet->source.port);
    } else if (value_of(word, "DPT", &value)) {
        bit = SEEN_DPT;
        good = take_port(value, &packet->destination.port);
    }
    good = good && (*seen & bit) == 0;
    *seen |= bit;
    return good;
}

static bool has_ports(uint8_t protocol)
{
    return protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP || protocol == PROTOCOL_UDPLITE;
}

/* An ICMP error quotes the packet that it is about in brackets, and MARK= and UID= follow; none of it is used. */
static bool parse_words(const char *text, struct guest_packet *packet)
{
    const unsigned wanted = SEEN_SRC | SEEN_DST | SEEN_PROTO;
    const unsigned ports = SEEN_SPT | SEEN_DPT;
    unsigned seen = 0;
    while (*text != '\0' && *text != '[') {
        struct word word = word_at(text);
        if (!take_word(word, &seen, packet))
            return false;
        text += word.length;
        text += *text == ' ';
    }
    if ((seen & wanted) != wanted)
        return false;
    /* A later fragment has no ports, any other packet of these protocols has both. */
    return (seen & ports) == 0 || ((seen & ports) == ports && has_ports(packet->ip_protocol));
}

bool guest_report_parse(const char *line, struct guest_packet *ret_packet)
{
    const char *at = strstr(line, GUEST_REPORT_PREFIX);
    if (at == NULL)
        return false;
    at += sizeof GUEST_REPORT_PREFIX - 1;
    struct guest_packet packet = {0};
    struct word out = word_at(at);
    if (strncmp(at, "IN=", 3) != 0 || at[out.length] != ' ' || strncmp(at + out.length + 1, "OUT=", 4) != 0)
        return false;
    if (!parse_words(at, &packet))
        return false;
    *ret_packet = packet;
    return true;
}

/* ---- the table --------------------------------------------------------------------------------------------- */

static bool is_same(const struct vmm_guest_report *report, const struct guest_packet *packet)
{
    return report->destination.ip == packet->destination.ip && report->destination.port == packet->destination.port &&
           report->ip_protocol == packet->ip_protocol;
}

static struct guest_report_entry *entry_of(struct guest_reports *reports, const struct guest_packet *packet)
{
    for (size_t at = 0; at < reports->made && at < VMM_GUEST_REPORTS_MAX; at++)
        if (is_same(&reports->entries[at].report, packet))
            return &reports->entries[at];
    size_t at = reports->made < GUEST_REPORT_ENTRIES ? reports->made++ : VMM_GUEST_REPORTS_MAX;
    struct vmm_guest_report *report = &reports->entries[at].report;
    report->serial = VMM_GUEST_SERIAL_FIRST + (uint32_t)at;
    report->overflow = at == VMM_GUEST_REPORTS_MAX;
    if (!report->overflow) {
        report->ip_protocol = packet->ip_protocol;
        report->source = packet->source;
        report->destination = packet->destination;
    }
    return &reports->entries[at];
}

void guest_reports_count(struct guest_reports *reports, const struct guest_packet *packet)
{
    struct guest_report_entry *entry = entry_of(reports, packet);
    if (entry->report.count == entry->told_count)
        reports->untold++;
    entry->report.count++;
}

static bool is_untold(const struct guest_report_entry *entry)
{
    return entry->report.count > entry->told_count;
}

static uint64_t due_ms(const struct guest_report_entry *entry)
{
    return entry->told_count == 0 ? 0 : entry->told_ms + GUEST_REPORT_GROWTH_MS;
}

const struct vmm_guest_report *guest_reports_next(struct guest_reports *reports, uint64_t now_ms)
{
    for (size_t at = 0; at < reports->made && reports->untold > 0; at++) {
        struct guest_report_entry *entry = &reports->entries[at];
        if (!is_untold(entry) || now_ms < due_ms(entry))
            continue;
        entry->told_count = entry->report.count;
        entry->told_ms = now_ms;
        reports->untold--;
        return &entry->report;
    }
    return NULL;
}

uint64_t guest_reports_due_ms(const struct guest_reports *reports)
{
    uint64_t next = UINT64_MAX;
    for (size_t at = 0; at < reports->made && reports->untold > 0; at++) {
        const struct guest_report_entry *entry = &reports->entries[at];
        if (is_untold(entry) && due_ms(entry) < next)
            next = due_ms(entry);
    }
    return next;
}

void guest_reports_finish(struct guest_reports *reports)
{
    for (size_t at = 0; at < reports->made; at++)
        reports->entries[at].told_ms = 0;
}
