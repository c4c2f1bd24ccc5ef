/* Order is the promise:
 *
 * 1. Only what has the leased address leaves the guest's side.
 * 2. The host's own addresses and the ranges that are nobody's stand before `established`: an address that the host gets
 *    later cuts what already runs to it.
 * 3. Answers, and nothing else, come back. pasta's sockets take datagrams from anybody; conntrack does not.
 * 4. The consumer, then the private ranges, then the rest of the world.
 *
 * Input and output are closed: neither the gateway nor anything else in the namespace can be talked to. Interfaces are meant by
 * their index (iif, oif), which costs a packet less than their names; both are there when the rules are loaded, and stay. */
#include "vmm/direct_rules.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "vmm/vmm.h"

enum {
    LOOPBACK_NET = 127,
};

#define IP_FORMAT "%u.%u.%u.%u"
#define IP_PARTS(ip) (ip) >> 24, (ip) >> 16 & 255, (ip) >> 8 & 255, (ip)&255

/* RFC 6890: this network, loopback, link-local with its metadata service, IETF protocol assignments (pasta's own link),
 * multicast, reserved and broadcast. */
static const char never_ranges[] = "0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 192.0.0.0/24, 224.0.0.0/3";
/* RFC 1918, RFC 6598 (carrier-grade NAT), RFC 2544 (benchmarks). */
static const char private_ranges[] = "10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16, 198.18.0.0/15";

struct printer {
    char *text;
    size_t capacity;
    size_t used;
    bool failed;
};

static void print(struct printer *printer, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void print(struct printer *printer, const char *format, ...)
{
    if (printer->failed)
        return;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(printer->text + printer->used, printer->capacity - printer->used, format, arguments);
    va_end(arguments);
    printer->failed = length < 0 || (size_t)length >= printer->capacity - printer->used;
    if (!printer->failed)
        printer->used += (size_t)length;
}

static void print_addresses(struct printer *printer, const uint32_t *ips, size_t count)
{
    for (size_t at = 0; at < count; at++)
        print(printer, "%s" IP_FORMAT, at == 0 ? "" : ", ", IP_PARTS(ips[at]));
}

static int check_own(const uint32_t *own, size_t own_count, struct error *err)
{
    for (size_t at = 0; at < own_count && own_count <= DIRECT_OWN_MAX; at++)
        if (own[at] >> 24 != LOOPBACK_NET)
            return 0;
    return error_set(err, -EINVAL, "the set of the host's own addresses is %s",
                     own_count <= DIRECT_OWN_MAX ? "empty but for loopback" : "too long");
}

static int finish(const struct printer *printer, struct error *err)
{
    return printer->failed ? error_set(err, -E2BIG, "the firewall rules take more than %zu bytes", printer->capacity)
                           : (int)printer->used;
}

static void print_sets(struct printer *printer, const struct direct_rules *rules)
{
    print(printer, "\tset own {\n\t\ttype ipv4_addr\n\t\telements = { ");
    print_addresses(printer, rules->own, rules->own_count);
    print(printer, " }\n\t}\n");
    print(printer, "\tset never {\n\t\ttype ipv4_addr\n\t\tflags interval\n\t\telements = { %s }\n\t}\n", never_ranges);
    if (!rules->allow_private)
        print(printer, "\tset private {\n\t\ttype ipv4_addr\n\t\tflags interval\n\t\telements = { %s }\n\t}\n",
              private_ranges);
}

static void print_forward(struct printer *printer, const struct direct_rules *rules)
{
    print(printer, "\tchain forward {\n\t\ttype filter hook forward priority 0; policy drop;\n");
    print(printer, "\t\tiif \"%s\" ip saddr != " IP_FORMAT " drop\n", DIRECT_TAP, IP_PARTS(VMM_LINK_GUEST_IP));
    print(printer, "\t\tiif \"%s\" ip daddr @own drop\n", DIRECT_TAP);
    print(printer, "\t\tiif \"%s\" ip daddr @never drop\n", DIRECT_TAP);
    print(printer, "\t\tct state invalid drop\n");
    print(printer, "\t\tct state established accept\n");
    print(printer, "\t\tiif != \"%s\" drop\n", DIRECT_TAP);
    print(printer, "\t\toif != \"%s\" drop\n", DIRECT_UPLINK);
    print(printer, "\t\tip daddr " IP_FORMAT " udp dport %u accept\n", IP_PARTS(rules->consumer.ip),
          (unsigned)rules->consumer.port);
    if (!rules->allow_private)
        print(printer, "\t\tip daddr @private drop\n");
    print(printer, "\t\taccept\n\t}\n");
}

int direct_rules_print(const struct direct_rules *rules, char ret_text[static DIRECT_RULES_BYTES], struct error *err)
{
    int rc = check_own(rules->own, rules->own_count, err);
    if (rc != 0)
        return rc;
    if (rules->consumer.ip == 0 || rules->consumer.port == 0)
        return error_set(err, -EINVAL, "there is no consumer");
    ret_text[0] = '\0';
    struct printer printer = {.text = ret_text, .capacity = DIRECT_RULES_BYTES};
    print(&printer, "table ip omerta {\n");
    print_sets(&printer, rules);
    print_forward(&printer, rules);
    print(&printer, "\tchain input {\n\t\ttype filter hook input priority 0; policy drop;\n\t}\n");
    print(&printer, "\tchain output {\n\t\ttype filter hook output priority 0; policy drop;\n\t}\n");
    print(&printer, "\tchain postrouting {\n\t\ttype nat hook postrouting priority 100; policy accept;\n");
    print(&printer, "\t\toif \"%s\" ip saddr " IP_FORMAT " masquerade\n\t}\n}\n", DIRECT_UPLINK,
          IP_PARTS(VMM_LINK_GUEST_IP));
    return finish(&printer, err);
}

int direct_rules_print_own(const uint32_t *own, size_t own_count, char ret_text[static DIRECT_ELEMENTS_BYTES],
                           struct error *err)
{
    int rc = check_own(own, own_count, err);
    if (rc != 0)
        return rc;
    ret_text[0] = '\0';
    struct printer printer = {.text = ret_text, .capacity = DIRECT_ELEMENTS_BYTES};
    print(&printer, "flush set ip omerta own; add element ip omerta own { ");
    print_addresses(&printer, own, own_count);
    print(&printer, " }");
    return finish(&printer, err);
}
