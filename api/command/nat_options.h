/* The command line of `omertad nat`. */
#ifndef API_COMMAND_NAT_OPTIONS_H
#define API_COMMAND_NAT_OPTIONS_H

#include <stdbool.h>

#include "base/error.h"
#include "nat/nat.h"

/** struct nat_options - The command line, parsed. Owner: the caller; strings are argv's. */
struct nat_options {
    const char *listen;
    const char *peer;
    int fd; /* -1: --listen or --peer is used */
    enum nat_framing framing;
    uint32_t busy_poll_us;
    bool has_mode;
    bool has_rate;
    const char *on_violation; /* NULL: as the mode has it */
    const char *report;
    struct nat_link link;
    struct nat_policy policy;
};

/** nat_options_usage() - The text of --help. Thread: any */
const char *nat_options_usage(void);

/**
 * nat_options_parse() - Read the command line
 * Return: 0; 1 after --help; -EINVAL with what is wrong with which option
 * Thread: main, before others start: getopt_long(3) has a state
 */
int nat_options_parse(int argc, char **argv, struct nat_options *ret_options, struct error *err);

#endif
