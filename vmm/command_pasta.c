/* pasta's arguments. It is to carry IPv4 connections and datagrams outwards and do nothing else: no port of the host
 * leads in (-t, -u) and none of the namespace leads to the host's loopback (-T, -U, --no-map-gw); no DHCP, no router
 * advertisements. Its link has addresses that are never routed (RFC 7335), so that no network of the host's can be
 * the same. What pasta leaves open, and that is the host by its own addresses, the namespace's firewall closes. */
#include "vmm/command_pasta.h"

#include <errno.h>
#include <stddef.h>

#include "vmm/direct_rules.h"

static int refuse(struct error *err, const char *field)
{
    error_set(err, -EINVAL, "the path of %s is not absolute", field);
    error_tag(err, NULL, field);
    return -EINVAL;
}

int command_pasta_build(const struct command_pasta *pasta, struct command *ret_command, struct error *err)
{
    static const char *const options[] = {
        "-f", /* in the foreground: it is watched */
        "-q", /* no reports; errors only */
        "-4", /* no IPv6: the firewall and the guest know none */
        "--config-net", "-I",   DIRECT_UPLINK, "-a",          "192.0.0.2", "-n",       "29",      "-g",
        "192.0.0.1",    "-m",   "1500",        "--no-map-gw", "-t",        "none",     "-u",      "none",
        "-T",           "none", "-U",          "none",        "--no-dhcp", "--no-ndp", "--no-ra", "--",
    };
    *ret_command = (struct command){0};
    if (pasta->pasta[0] != '/')
        return refuse(err, "pasta");
    if (pasta->program[0] != '/')
        return refuse(err, "program");
    command_start(ret_command, pasta->program);
    command_add(ret_command, COMMAND_PASTA_LAUNCHER);
    command_add(ret_command, "%s", pasta->pasta);
    for (size_t at = 0; at < sizeof options / sizeof *options; at++)
        command_add(ret_command, "%s", options[at]);
    /* Debian's AppArmor profile lets pasta execute what lies in /usr/bin, which this program may not. */
    command_add(ret_command, "/usr/bin/env");
    command_add(ret_command, "%s", pasta->program);
    command_add(ret_command, COMMAND_PASTA_LAUNCHER);
    if (!ret_command->failed)
        return 0;
    *ret_command = (struct command){0};
    return error_set(err, -E2BIG, "pasta's arguments take more than %d bytes", COMMAND_TEXT_BYTES);
}
