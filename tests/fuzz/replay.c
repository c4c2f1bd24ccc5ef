/* Gives each file of a corpus to its target: what a fuzzer has found once is an ordinary test from then on. The corpus is the
 * folder tests/fuzz/corpus/NAME of the program test_NAME. */
#include <dirent.h>
#include <stdbool.h>
#include <string.h>

#include "tests/cmocka.h"
#include "tests/fuzz/fuzz.h"

enum { INPUT_BYTES_MAX = 1048576 };

static const char *corpus;

static bool replay_file(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", corpus, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return false;
    uint8_t *room = malloc(INPUT_BYTES_MAX);
    assert_non_null(room);
    const size_t length = fread(room, 1, INPUT_BYTES_MAX, file);
    assert_int_equal(fclose(file), 0);
    uint8_t *bytes = malloc(length > 0 ? length : 1); /* of its own size, so that a sanitizer sees its end */
    assert_non_null(bytes);
    memcpy(bytes, room, length);
    free(room);
    LLVMFuzzerTestOneInput(bytes, length);
    free(bytes);
    return true;
}

static void every_input_of_the_corpus_is_taken(void **state)
{
    (void)state;
    DIR *folder = opendir(corpus);
    if (folder == NULL)
        fail_msg("no corpus %s", corpus);
    size_t replayed = 0;
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder))
        replayed += entry->d_name[0] != '.' && replay_file(entry->d_name);
    assert_int_equal(closedir(folder), 0);
    assert_true(replayed >= 3);
}

static void no_bytes_at_all_are_taken(void **state)
{
    (void)state;
    const uint8_t none = 0;
    LLVMFuzzerTestOneInput(&none, 0);
}

int main(int argc, char **argv)
{
    (void)argc;
    static char path[256];
    const char *name = strrchr(argv[0], '/');
    name = name == NULL ? argv[0] : name + 1;
    snprintf(path, sizeof path, "tests/fuzz/corpus/%s", name + strlen("test_"));
    corpus = path;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_input_of_the_corpus_is_taken),
        cmocka_unit_test(no_bytes_at_all_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
