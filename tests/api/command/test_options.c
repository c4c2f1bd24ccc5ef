#include "api/command/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/command/command.h"
#include "tests/cmocka.h"

enum { SAID_BYTES = 512 };

/* What one of the two standard descriptors gets; it is put back by said(). */
struct listener {
    FILE *file;
    int fd;
    int kept;
};

static struct listener listen_to(int fd)
{
    struct listener listener = {.file = tmpfile(), .fd = fd, .kept = dup(fd)};
    assert_non_null(listener.file);
    fflush(NULL);
    assert_int_equal(dup2(fileno(listener.file), fd), fd);
    return listener;
}

static const char *said(struct listener *listener)
{
    static char text[SAID_BYTES];
    fflush(NULL);
    assert_int_equal(dup2(listener->kept, listener->fd), listener->fd);
    close(listener->kept);
    rewind(listener->file);
    text[fread(text, 1, sizeof text - 1, listener->file)] = '\0';
    fclose(listener->file);
    return text;
}

/* Not with the configuration of whoever runs this. */
static int forget_home(void **state)
{
    (void)state;
    return setenv("XDG_CONFIG_HOME", "/nowhere", 1);
}

static bool begin(char *const *argv, int argc, struct options *ret_options, struct config *ret_config, int *ret_code)
{
    char *words[8];
    memcpy(words, argv, (size_t)argc * sizeof *words);
    words[argc] = NULL;
    return options_begin(argc, words, "cij", "usage: image\n", ret_options, ret_config, ret_code);
}

#define BEGIN(...)                                                                                                     \
    begin((char *const[]){(char *)"image", __VA_ARGS__},                                                               \
          (int)(sizeof(char *const[]){NULL, __VA_ARGS__} / sizeof(char *)), &options, &config, &code)
#define WORD(text) (char *)(text)

static void options_are_read_and_operands_left(void **state)
{
    struct options options;
    struct config config;
    int code = -1;
    (void)state;
    assert_true(BEGIN(WORD("show"), WORD("--images"), WORD("/srv/images"), WORD("--json"), WORD("micro")));
    assert_true(options.json);
    assert_int_equal(options.operand_count, 2);
    assert_string_equal(options.operands[0], "show");
    assert_string_equal(options.operands[1], "micro");
    assert_string_equal(config.paths.images, "/srv/images");
}

static void an_option_of_another_subcommand_is_refused_by_its_name(void **state)
{
    struct options options;
    struct config config;
    int code = -1;
    (void)state;
    struct listener errors = listen_to(STDERR_FILENO);
    assert_false(BEGIN(WORD("list"), WORD("--handover")));
    assert_string_equal(said(&errors), "omertad: this command does not take --handover\n");
    assert_int_equal(code, COMMAND_USAGE);
}

static void help_is_printed_and_no_configuration_read(void **state)
{
    struct options options;
    struct config config;
    int code = -1;
    (void)state;
    struct listener output = listen_to(STDOUT_FILENO);
    assert_false(BEGIN(WORD("--help"), WORD("--config"), WORD("/nowhere/omertad.json")));
    assert_string_equal(said(&output), "usage: image\n");
    assert_int_equal(code, COMMAND_OK);
}

static void a_configuration_that_cannot_be_read_ends_it(void **state)
{
    struct options options;
    struct config config;
    int code = -1;
    (void)state;
    struct listener errors = listen_to(STDERR_FILENO);
    assert_false(BEGIN(WORD("list"), WORD("--config"), WORD("/nowhere/omertad.json")));
    assert_non_null(strstr(said(&errors), "/nowhere/omertad.json"));
    assert_int_equal(code, COMMAND_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_read_and_operands_left),
        cmocka_unit_test(an_option_of_another_subcommand_is_refused_by_its_name),
        cmocka_unit_test(help_is_printed_and_no_configuration_read),
        cmocka_unit_test(a_configuration_that_cannot_be_read_ends_it),
    };
    return cmocka_run_group_tests(tests, forget_home, NULL);
}
