#include "api/command/nat_options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: omertad nat (--listen PATH [--peer PATH] | --fd N) --mode MODE --allow IP:PORT [--allow ...] [options]\n"
    "\n"
    "Carries the frames of one VM that somebody else runs (vfkit, krunkit, QEMU): answers its ARP and DHCP, forwards\n"
    "UDP to the allowed endpoints, drops and reports all else. Ends on SIGTERM or SIGINT, or with a violation that\n"
    "terminates.\n"
    "\n"
    "  --listen PATH      bind a unix socket; its first sender (of a stream the first to connect) is the VM and stays "
    "so\n"
    "  --peer PATH        the VM's socket, when it is there already; then nobody else is listened to. A stream "
    "connects\n"
    "                     to it and needs no --listen\n"
    "  --fd N             use an open, connected unix socket instead\n"
    "  --framing FRAMING  dgram: one Ethernet frame a datagram (default); stream: each behind its length, as QEMU's\n"
    "                     -netdev stream has it, at a third of the cost. Ends when the VM closes it\n"
    "  --busy-poll-us N   while packets come, look for more so long before sleeping, 1 to 1000 (default: never)\n"
    "  --mode MODE        filtered: judge every frame; conntrack: the first to each destination; sampled: a share of "
    "them\n"
    "  --sampling-rate R  share that sampled judges, 0.001 to 1 (default 0.01)\n"
    "  --on-violation V   drop, or terminate: shut the gate, report, exit 3 (default: drop in filtered, else "
    "terminate)\n"
    "  --allow IP:PORT    UDP endpoint that the VM may reach; up to 16\n"
    "  --require-wireguard              what has not the shape of WireGuard is a violation\n"
    "  --limit-egress-bits N            bits a second from the VM; over it is dropped, as with the next three\n"
    "  --limit-ingress-bits N           bits a second to the VM\n"
    "  --limit-egress-packets N         packets a second from the VM\n"
    "  --limit-ingress-packets N        packets a second to the VM\n"
    "  --guest-mac MAC    the VM's address (default: learnt from its first frame and kept)\n"
    "  --guest-ip IP      default 192.168.64.2\n"
    "  --gateway-ip IP    default 192.168.64.1\n"
    "  --prefix N         default 24\n"
    "  --mtu N            default 1500\n"
    "  --report PATH|-    append reports as JSON lines (default -, the standard output)\n"
    "  --help             show this\n"
    "\n"
    "Exit codes: 0 ended by a signal, 1 could not start or go on, 2 bad options, 3 ended by a violation.\n";

const char *nat_options_usage(void)
{
    return usage;
}

static bool parse_unsigned(const char *text, unsigned long largest, unsigned long *ret_value)
{
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0' || value > largest)
        return false;
    *ret_value = value;
    return true;
}

static int bad_option(struct error *err, const char *option, const char *value, const char *wanted)
{
    return error_set(err, -EINVAL, "--%s %s: %s", option, value, wanted);
}

static int take_allow(struct nat_options *options, const char *value, struct error *err)
{
    struct nat_policy *policy = &options->policy;
    if (policy->allow_count == NAT_ALLOW_MAX)
        return bad_option(err, "allow", value, "too many endpoints, 16 at most");
    if (!nat_endpoint_parse(value, &policy->allow[policy->allow_count]))
        return bad_option(err, "allow", value, "not an IPv4 endpoint as 198.51.100.2:51900");
    policy->allow_count++;
    return 0;
}

static int take_number_option(const char *option, const char *value, unsigned long largest, unsigned long *ret_value,
                              struct error *err)
{
    if (!parse_unsigned(value, largest, ret_value))
        return bad_option(err, option, value, "not a number in range");
    return 0;
}

static int take_link_option(struct nat_options *options, int letter, const char *option, const char *value,
                            struct error *err)
{
    unsigned long number = 0;
    int rc = 0;
    switch (letter) {
    case 'M':
        return nat_mac_parse(value, &options->link.guest_mac)
                   ? 0
                   : bad_option(err, option, value, "not a unicast hardware address as 52:54:00:12:34:56");
    case 'g':
        return nat_ip_parse(value, &options->link.guest_ip) ? 0 : bad_option(err, option, value, "not an IPv4 address");
    case 'w':
        return nat_ip_parse(value, &options->link.gateway_ip) ? 0
                                                              : bad_option(err, option, value, "not an IPv4 address");
    case 'x':
        rc = take_number_option(option, value, 32, &number, err);
        options->link.prefix = (uint8_t)number;
        return rc;
    default: /* 'u': getopt gives nothing else */
        rc = take_number_option(option, value, UINT16_MAX, &number, err);
        options->link.mtu = (uint16_t)number;
        return rc;
    }
}

/* A decimal fraction into millionths. strtod() is not used: it knows hexadecimal, infinities and the locale. */
static bool parse_share(const char *text, uint32_t *ret_ppm)
{
    unsigned long whole = 0;
    uint32_t ppm = 0;
    uint32_t place = 100000;
    size_t digits = strspn(text, "0123456789");
    const char *at = text + digits;
    char head[4];
    if (digits == 0 || digits >= sizeof head)
        return false;
    memcpy(head, text, digits);
    head[digits] = '\0';
    if (!parse_unsigned(head, 1, &whole))
        return false;
    if (*at == '.') {
        for (at++; *at >= '0' && *at <= '9' && place > 0; at++, place /= 10)
            ppm += (uint32_t)(*at - '0') * place;
    }
    ppm += (uint32_t)whole * NAT_SAMPLING_PPM_MAX;
    if (*at != '\0' || ppm < NAT_SAMPLING_PPM_MIN || ppm > NAT_SAMPLING_PPM_MAX)
        return false;
    *ret_ppm = ppm;
    return true;
}

static int take_rate(const char *option, const char *value, uint64_t *ret_rate, struct error *err)
{
    unsigned long number = 0;
    if (!parse_unsigned(value, NAT_RATE_MAX, &number) || number == 0)
        return bad_option(err, option, value, "not a number from 1 to 1000000000000");
    *ret_rate = number;
    return 0;
}

static int take_policy_option(struct nat_options *options, int letter, const char *option, const char *value,
                              struct error *err)
{
    struct nat_policy *policy = &options->policy;
    switch (letter) {
    case 'm':
        options->has_mode = nat_mode_parse(value, &policy->mode);
        return options->has_mode ? 0 : bad_option(err, option, value, "must be filtered, conntrack or sampled");
    case 's':
        options->has_rate = parse_share(value, &policy->sampling_ppm);
        return options->has_rate ? 0 : bad_option(err, option, value, "not a share from 0.001 to 1");
    case 'v':
        options->on_violation = value;
        return strcmp(value, "drop") == 0 || strcmp(value, "terminate") == 0
                   ? 0
                   : bad_option(err, option, value, "must be drop or terminate");
    case 'W':
        policy->require_wireguard = true;
        return 0;
    case '1':
        return take_rate(option, value, &policy->limits.egress_bits_per_s, err);
    case '2':
        return take_rate(option, value, &policy->limits.ingress_bits_per_s, err);
    case '3':
        return take_rate(option, value, &policy->limits.egress_packets_per_s, err);
    case '4':
        return take_rate(option, value, &policy->limits.ingress_packets_per_s, err);
    default:
        return take_link_option(options, letter, option, value, err);
    }
}

static int take_option(struct nat_options *options, int letter, const char *option, const char *value,
                       struct error *err)
{
    unsigned long number = 0;
    int rc = 0;
    switch (letter) {
    case 'l':
        options->listen = value;
        return 0;
    case 'p':
        options->peer = value;
        return 0;
    case 'f':
        rc = take_number_option(option, value, 1 << 20, &number, err);
        options->fd = (int)number;
        return rc;
    case 'F':
        options->framing = strcmp(value, "stream") == 0 ? NAT_FRAMING_STREAM : NAT_FRAMING_DATAGRAM;
        return options->framing == NAT_FRAMING_STREAM || strcmp(value, "dgram") == 0
                   ? 0
                   : bad_option(err, option, value, "must be dgram or stream");
    case 'b':
        rc = take_number_option(option, value, NAT_BUSY_POLL_MAX_US, &number, err);
        options->busy_poll_us = (uint32_t)number;
        return rc;
    case 'a':
        return take_allow(options, value, err);
    case 'r':
        options->report = value;
        return 0;
    default:
        return take_policy_option(options, letter, option, value, err);
    }
}

static int check_options(const struct nat_options *options, struct error *err)
{
    const bool stream = options->framing == NAT_FRAMING_STREAM;
    if (stream && (options->listen != NULL) + (options->peer != NULL) + (options->fd >= 0) != 1)
        return error_set(err, -EINVAL, "with --framing stream give one of --listen PATH, --peer PATH and --fd N");
    if (!stream && (options->listen == NULL) == (options->fd < 0))
        return error_set(err, -EINVAL, "give either --listen PATH or --fd N");
    if (!stream && options->peer != NULL && options->listen == NULL)
        return error_set(err, -EINVAL, "--peer goes with --listen");
    if (!options->has_mode)
        return error_set(err, -EINVAL, "--mode is missing (filtered, conntrack or sampled)");
    if (options->has_rate && options->policy.mode != NAT_MODE_SAMPLED)
        return error_set(err, -EINVAL, "--sampling-rate goes with --mode sampled");
    if (options->policy.allow_count == 0)
        return error_set(err, -EINVAL, "--allow is missing: without an endpoint nothing could pass");
    return 0;
}

static const struct option long_options[] = {
    {"listen", required_argument, NULL, 'l'},
    {"peer", required_argument, NULL, 'p'},
    {"fd", required_argument, NULL, 'f'},
    {"framing", required_argument, NULL, 'F'},
    {"mode", required_argument, NULL, 'm'},
    {"busy-poll-us", required_argument, NULL, 'b'},
    {"allow", required_argument, NULL, 'a'},
    {"guest-mac", required_argument, NULL, 'M'},
    {"guest-ip", required_argument, NULL, 'g'},
    {"gateway-ip", required_argument, NULL, 'w'},
    {"prefix", required_argument, NULL, 'x'},
    {"mtu", required_argument, NULL, 'u'},
    {"report", required_argument, NULL, 'r'},
    {"sampling-rate", required_argument, NULL, 's'},
    {"on-violation", required_argument, NULL, 'v'},
    {"require-wireguard", no_argument, NULL, 'W'},
    {"limit-egress-bits", required_argument, NULL, '1'},
    {"limit-ingress-bits", required_argument, NULL, '2'},
    {"limit-egress-packets", required_argument, NULL, '3'},
    {"limit-ingress-packets", required_argument, NULL, '4'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

int nat_options_parse(int argc, char **argv, struct nat_options *ret_options, struct error *err)
{
    *ret_options = (struct nat_options){
        .fd = -1,
        .report = "-",
        .link = {.guest_ip = 0xC0A84002, .gateway_ip = 0xC0A84001, .prefix = 24, .mtu = NAT_MTU_MAX},
        .policy = {.generation = 1, .sampling_ppm = NAT_SAMPLING_PPM_DEFAULT},
    };
    optind = 1;
    opterr = 0;
    int index = 0;
    for (int letter = 0; (letter = getopt_long(argc, argv, ":", long_options, &index)) != -1;) {
        if (letter == 'h')
            return 1;
        if (letter == ':')
            return error_set(err, -EINVAL, "%s: a value is missing", argv[optind - 1]);
        if (letter == '?')
            return error_set(err, -EINVAL, "%s: no such option", argv[optind - 1]);
        int rc = take_option(ret_options, letter, long_options[index].name, optarg, err);
        if (rc < 0)
            return rc;
    }
    if (optind < argc)
        return error_set(err, -EINVAL, "%s: no such argument", argv[optind]);
    int rc = check_options(ret_options, err);
    bool by_default = ret_options->policy.mode != NAT_MODE_FILTERED;
    ret_options->policy.terminate =
        ret_options->on_violation == NULL ? by_default : strcmp(ret_options->on_violation, "terminate") == 0;
    return rc;
}
