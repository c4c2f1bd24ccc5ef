#include "api/command/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/command/command.h"
#include "tests/cmocka.h"

enum { LINE_BYTES = 128, WORDS_MAX = 8, SAID_BYTES = 512 };

/* A subcommand that has begun, or what came instead. */
struct begun {
    bool goes_on;
    int code;
    struct options options;
    struct config config;
    char line[LINE_BYTES];
    char *words[WORDS_MAX]; /* of @line */
    char said[SAID_BYTES];
};

/* Not with the configuration of whoever runs this. */
static int forget_home(void **state)
{
    (void)state;
    return setenv("XDG_CONFIG_HOME", "/nowhere", 1);
}

/* @heard: the standard descriptor whose text is kept meanwhile */
static void begin(const char *line, int heard, struct begun *ret_begun)
{
    *ret_begun = (struct begun){.code = -1};
    int count = 0;
    snprintf(ret_begun->line, LINE_BYTES, "%s", line);
    for (char *word = strtok(ret_begun->line, " "); word != NULL && count < WORDS_MAX - 1; word = strtok(NULL, " "))
        ret_begun->words[count++] = word;
    FILE *text = tmpfile();
    assert_non_null(text);
    int kept = dup(heard);
    fflush(NULL);
    assert_int_equal(dup2(fileno(text), heard), heard);
    ret_begun->goes_on = options_begin(count, ret_begun->words, "cij", "usage: image\n", &ret_begun->options,
                                       &ret_begun->config, &ret_begun->code);
    fflush(NULL);
    assert_int_equal(dup2(kept, heard), heard);
    close(kept);
    rewind(text);
    ret_begun->said[fread(ret_begun->said, 1, SAID_BYTES - 1, text)] = '\0';
    fclose(text);
}

static void options_are_read_and_operands_left(void **state)
{
    struct begun begun;
    (void)state;
    begin("image show --images /srv/images --json micro", STDERR_FILENO, &begun);
    assert_true(begun.goes_on);
    assert_true(begun.options.json);
    assert_int_equal(begun.options.operand_count, 2);
    assert_string_equal(begun.options.operands[0], "show");
    assert_string_equal(begun.options.operands[1], "micro");
    assert_string_equal(begun.config.paths.images, "/srv/images");
    assert_string_equal(begun.said, "");
}

static void what_ends_a_subcommand_is_said_and_has_its_code(void **state)
{
    static const struct {
        const char *line;
        int heard;
        const char *said;
        int code;
    } table[] = {
        {"image list --handover", STDERR_FILENO, "omertad: this command does not take --handover\n", COMMAND_USAGE},
        {"image list --config /nowhere/omertad.json", STDERR_FILENO,
         "omertad: The configuration file /nowhere/omertad.json cannot be opened: No such file or directory.\n",
         COMMAND_USAGE},
        {"image --help --config /nowhere/omertad.json", STDOUT_FILENO, "usage: image\n", COMMAND_OK},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct begun begun;
        begin(table[i].line, table[i].heard, &begun);
        assert_false(begun.goes_on);
        assert_string_equal(begun.said, table[i].said);
        assert_int_equal(begun.code, table[i].code);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_read_and_operands_left),
        cmocka_unit_test(what_ends_a_subcommand_is_said_and_has_its_code),
    };
    return cmocka_run_group_tests(tests, forget_home, NULL);
}
