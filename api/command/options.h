/* The options that several subcommands share. */
#ifndef API_COMMAND_OPTIONS_H
#define API_COMMAND_OPTIONS_H

#include <stdbool.h>

#include "api/config/config.h"

/** struct options - A command line, read. Strings are argv's. */
struct options {
    struct config_overrides overrides;
    const char *scope; /* NULL: not given */
    bool allow_root;
    bool handover;
    bool json;
    bool help;
    int operand_count;
    char **operands;
};

/**
 * options_read() - Read a subcommand's options
 * @allowed: letters of those that it takes: c --config, d --data, r --runtime, i --images, l --listen, R --allow-root,
 *           H --handover, j --json, s --scope. --help is always taken
 * Return:   true; false after a line on stderr about what is wrong
 * Thread:   main
 */
bool options_read(int argc, char **argv, const char *allowed, struct options *ret_options);

/**
 * options_begin() - Read a subcommand's options and the configuration that they lead to; or, asked for help, print @usage
 * @allowed:  as options_read()
 * @ret_code: set when this returns false
 * Return:    true; false when the subcommand is to end with the code, after what there is to say
 * Thread:    main
 */
bool options_begin(int argc, char **argv, const char *allowed, const char *usage, struct options *ret_options,
                   struct config *ret_config, int *ret_code);

#endif
