/* `omertad token`: tokens of an installation, whether or not its daemon runs. */
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "api/command/command.h"
#include "api/command/options.h"
#include "api/http/token_set.h"
#include "api/lease/encode.h"
#include "base/clock.h"

static const char usage[] =
    "usage: omertad token list [OPTION...]                    names, scopes and ages\n"
    "       omertad token add NAME --scope SCOPE [OPTION...]  make one and print it, this once\n"
    "       omertad token revoke NAME [OPTION...]             make one worthless, at once\n"
    "\n"
    "  --scope SCOPE  read: look at everything; lease: and make, change and end leases; admin: and change the node\n"
    "  --json         list as JSON\n"
    "  --config FILE  configuration of the daemon\n"
    "  --data DIR     data folder of the daemon\n"
    "\n"
    "A running daemon follows each change without a restart. The token \"first\" is the one in the file `token` of "
    "the\n"
    "data folder.\n"
    "Exit code: 0 all went well, 1 it failed, 2 the command line or the configuration is wrong.\n";

static int failed(const struct error *err)
{
    fprintf(stderr, "omertad: %s\n", err->message);
    return COMMAND_FAILED;
}

static int list_json(const struct token_list *list)
{
    json_t *tokens = json_array();
    for (size_t i = 0; i < list->count; i++) {
        const struct token_entry *entry = &list->entries[i];
        json_array_append_new(tokens,
                              json_pack("{s:s, s:s, s:o, s:o}", "name", entry->name, "scope",
                                        token_scope_name(entry->scope), "created_at", encode_time(entry->created_ms),
                                        "revoked_at", encode_time(entry->revoked_ms)));
    }
    int result = json_dumpf(tokens, stdout, JSON_INDENT(2));
    json_decref(tokens);
    putchar('\n');
    return result == 0 ? COMMAND_OK : COMMAND_FAILED;
}

static int list_tokens(const char *data_dir, bool as_json)
{
    struct token_list list;
    struct error err = {0};
    if (token_list_read(data_dir, &list, &err) < 0)
        return failed(&err);
    if (as_json)
        return list_json(&list);
    for (size_t i = 0; i < list.count; i++) {
        const struct token_entry *entry = &list.entries[i];
        char created[CLOCK_TEXT_BYTES];
        printf("%-24s %-6s %s  %s\n", entry->name, token_scope_name(entry->scope),
               clock_format(entry->created_ms, created), entry->revoked_ms == 0 ? "good" : "revoked");
    }
    return COMMAND_OK;
}

static int add(const char *data_dir, const char *name, const char *scope_name)
{
    enum token_scope scope;
    struct error err = {0};
    char text[TOKEN_TEXT_BYTES];
    if (scope_name == NULL || !token_scope_parse(scope_name, &scope)) {
        fputs("omertad: token add needs --scope read, lease or admin\n", stderr);
        return COMMAND_USAGE;
    }
    if (token_list_add(data_dir, name, scope, text, &err) < 0)
        return failed(&err);
    puts(text);
    sodium_memzero(text, sizeof text);
    return fflush(stdout) == 0 ? COMMAND_OK : COMMAND_FAILED;
}

static int revoke(const char *data_dir, const char *name)
{
    struct error err = {0};
    return token_list_revoke(data_dir, name, &err) < 0 ? failed(&err) : COMMAND_OK;
}

int command_token(int argc, char **argv)
{
    struct options options;
    struct config config;
    int code;
    if (!options_begin(argc, argv, "cdjs", usage, &options, &config, &code))
        return code;
    const char *verb = options.operand_count > 0 ? options.operands[0] : "";
    if (strcmp(verb, "list") == 0 && options.operand_count == 1)
        return list_tokens(config.paths.data, options.json);
    if (strcmp(verb, "add") == 0 && options.operand_count == 2)
        return add(config.paths.data, options.operands[1], options.scope);
    if (strcmp(verb, "revoke") == 0 && options.operand_count == 2)
        return revoke(config.paths.data, options.operands[1]);
    fputs(usage, stderr);
    return COMMAND_USAGE;
}
