/* A folder with one sound image, "micro", whose manifest and files a test changes. */
#ifndef TESTS_VMM_IMAGE_FIXTURE_H
#define TESTS_VMM_IMAGE_FIXTURE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum { KERNEL_BYTES = 300000, INITRD_BYTES = 1000 };

/** struct image_fixture - Owner: the test. */
struct image_fixture {
    char folder[64];
    json_t *manifest;
    uint8_t kernel[KERNEL_BYTES];
    uint8_t initrd[INITRD_BYTES];
};

/** image_set_up() - Make it; cmocka's set-up. Thread: the test's */
int image_set_up(void **state);

/** image_tear_down() - Remove it. Thread: the test's */
int image_tear_down(void **state);

/** image_put_file() - Write a file below the folder. Thread: the test's */
void image_put_file(const struct image_fixture *fixture, const char *name, const void *bytes, size_t length);

/** image_put_manifest() - Write the manifest as it stands in the fixture. Thread: the test's */
void image_put_manifest(const struct image_fixture *fixture);

/** image_section() - What a manifest says about a file. Owner: the caller. Thread: the test's */
json_t *image_section(const char *file, const uint8_t *bytes, size_t length);

/** image_put_disk() - Give the image a root disk. Thread: the test's */
void image_put_disk(struct image_fixture *fixture, const char *format, const uint8_t *bytes, size_t length);

/** image_assert_load() - See how vmm_image_load() takes it. Thread: the test's */
void image_assert_load(const struct image_fixture *fixture, int rc, const char *slug, const char *field);

#endif
