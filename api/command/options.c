#include "api/command/options.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "api/command/command.h"

static const struct option known[] = {
    {"config", required_argument, NULL, 'c'},
    {"data", required_argument, NULL, 'd'},
    {"runtime", required_argument, NULL, 'r'},
    {"images", required_argument, NULL, 'i'},
    {"listen", required_argument, NULL, 'l'},
    {"allow-root", no_argument, NULL, 'R'},
    {"handover", no_argument, NULL, 'H'},
    {"scope", required_argument, NULL, 's'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void take(int letter, struct options *options)
{
    switch (letter) {
    case 'c':
        options->overrides.file = optarg;
        break;
    case 'd':
        options->overrides.data = optarg;
        break;
    case 'r':
        options->overrides.runtime = optarg;
        break;
    case 'i':
        options->overrides.images = optarg;
        break;
    case 'l':
        options->overrides.listen = optarg;
        break;
    case 's':
        options->scope = optarg;
        break;
    case 'R':
        options->allow_root = true;
        break;
    case 'H':
        options->handover = true;
        break;
    case 'j':
        options->json = true;
        break;
    case 'h':
        options->help = true;
        break;
    }
}

bool options_read(int argc, char **argv, const char *allowed, struct options *ret_options)
{
    *ret_options = (struct options){0};
    optind = 1;
    int letter;
    int at = 0;
    while ((letter = getopt_long(argc, argv, "h", known, &at)) != -1) {
        if (letter == '?')
            return false; /* getopt has said why */
        if (letter != 'h' && strchr(allowed, letter) == NULL) {
            fprintf(stderr, "omertad: this command does not take --%s\n", known[at].name);
            return false;
        }
        take(letter, ret_options);
    }
    ret_options->operand_count = argc - optind;
    ret_options->operands = argv + optind;
    return true;
}

bool options_begin(int argc, char **argv, const char *allowed, const char *usage, struct options *ret_options,
                   struct config *ret_config, int *ret_code)
{
    struct error err = {0};
    *ret_code = COMMAND_USAGE;
    if (!options_read(argc, argv, allowed, ret_options))
        return false;
    if (ret_options->help) {
        fputs(usage, stdout);
        *ret_code = COMMAND_OK;
        return false;
    }
    if (config_load(&ret_options->overrides, ret_config, &err) == 0)
        return true;
    fprintf(stderr, "omertad: %s\n", err.message);
    return false;
}
