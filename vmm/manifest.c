/* Guest images' manifests.
 *
 * The image folder may be written by people who are not the daemon, so a manifest is read as a stranger's text: every key
 * is known, every value is bounded, and file names are names and not paths. */
#include "vmm/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

enum manifest_limits {
    SHOWN_NAME_BYTES = 80, /* of a name that somebody else chose, in a message */
    POINTER_BYTES = 48,    /* a JSON pointer to a known key */
    MEMORY_MIB_MAX = 1024 * 1024,
};

#define FILE_BYTES_MAX (INT64_C(1) << 40)

int manifest_invalid(const char *key, const char *why, struct error *err)
{
    char shown[SHOWN_NAME_BYTES];
    log_escape(key, strlen(key), shown, sizeof shown);
    error_set(err, -EINVAL, "manifest.json: %s: %s", shown, why);
    error_tag(err, "image-manifest-invalid", shown);
    return -EINVAL;
}

static int check_keys(const json_t *object, const char *parent, const char *const *known, struct error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        size_t i = 0;
        while (known[i] != NULL && strcmp(known[i], key) != 0)
            i++;
        if (known[i] == NULL) {
            char pointer[SHOWN_NAME_BYTES];
            snprintf(pointer, sizeof pointer, "%s/%s", parent, key);
            return manifest_invalid(pointer, "unknown key", err);
        }
    }
    return 0;
}

/* Return: the object's value of the key, whose JSON pointer is written; NULL with err when there is none. */
static const json_t *find_value(const json_t *object, const char *parent, const char *key,
                                char ret_pointer[static POINTER_BYTES], struct error *err)
{
    snprintf(ret_pointer, POINTER_BYTES, "%s/%s", parent, key);
    const json_t *value = json_object_get(object, key);
    if (value == NULL)
        (void)manifest_invalid(ret_pointer, "is missing", err);
    return value;
}

/* Printable ASCII of 1 to @capacity - 1 characters. */
static int take_text(const json_t *object, const char *parent, const char *key, char *ret_text, size_t capacity,
                     struct error *err)
{
    char pointer[POINTER_BYTES];
    const json_t *value = find_value(object, parent, key, pointer, err);
    if (value == NULL)
        return -EINVAL;
    if (!json_is_string(value))
        return manifest_invalid(pointer, "is not a string", err);
    const char *text = json_string_value(value);
    size_t length = json_string_length(value);
    if (length == 0 || length >= capacity)
        return manifest_invalid(pointer, "is empty or too long", err);
    for (size_t i = 0; i < length; i++)
        if (text[i] < ' ' || text[i] > '~')
            return manifest_invalid(pointer, "holds more than printable ASCII", err);
    memcpy(ret_text, text, length + 1);
    return 0;
}

/* A whole number from 1 to @most. */
static int take_number(const json_t *object, const char *parent, const char *key, int64_t most, uint64_t *ret_number,
                       struct error *err)
{
    char pointer[POINTER_BYTES];
    const json_t *value = find_value(object, parent, key, pointer, err);
    if (value == NULL)
        return -EINVAL;
    if (!json_is_integer(value))
        return manifest_invalid(pointer, "is not a whole number", err);
    if (json_integer_value(value) < 1 || json_integer_value(value) > most)
        return manifest_invalid(pointer, "is out of range", err);
    *ret_number = (uint64_t)json_integer_value(value);
    return 0;
}

/* The section of one file: its name, digest and size, and whatever else is in @known. */
static int take_file(const json_t *manifest, const char *key, const char *const *known,
                     char ret_file[static VMM_NAME_BYTES], char ret_sha256[static VMM_DIGEST_BYTES],
                     uint64_t *ret_bytes, struct error *err)
{
    char parent[POINTER_BYTES];
    char pointer[POINTER_BYTES];
    snprintf(parent, sizeof parent, "/%s", key);
    const json_t *section = json_object_get(manifest, key);
    if (!json_is_object(section))
        return manifest_invalid(parent, section == NULL ? "is missing" : "is not an object", err);
    int rc = check_keys(section, parent, known, err);
    if (rc == 0)
        rc = take_text(section, parent, "file", ret_file, VMM_NAME_BYTES, err);
    if (rc == 0)
        rc = take_text(section, parent, "sha256", ret_sha256, VMM_DIGEST_BYTES, err);
    if (rc == 0)
        rc = take_number(section, parent, "bytes", FILE_BYTES_MAX, ret_bytes, err);
    if (rc != 0)
        return rc;
    snprintf(pointer, sizeof pointer, "/%s/file", key);
    if (!vmm_image_name_valid(ret_file))
        return manifest_invalid(pointer, "is not a file name", err);
    snprintf(pointer, sizeof pointer, "/%s/sha256", key);
    if (strspn(ret_sha256, "0123456789abcdef") != VMM_DIGEST_BYTES - 1)
        return manifest_invalid(pointer, "is not 64 hexadecimal digits in lower case", err);
    return 0;
}

static int take_words(const json_t *manifest, const char *name, struct vmm_image *ret_image, struct error *err)
{
    char boot[16];
    int rc = take_text(manifest, "", "name", ret_image->name, sizeof ret_image->name, err);
    if (rc == 0 && strcmp(ret_image->name, name) != 0)
        rc = manifest_invalid("/name", "differs from the image's folder", err);
    if (rc == 0)
        rc = take_text(manifest, "", "description", ret_image->description, sizeof ret_image->description, err);
    if (rc == 0)
        rc = take_text(manifest, "", "architecture", ret_image->architecture, sizeof ret_image->architecture, err);
    if (rc == 0 && strcmp(ret_image->architecture, "x86_64") != 0 && strcmp(ret_image->architecture, "aarch64") != 0)
        rc = manifest_invalid("/architecture", "is neither x86_64 nor aarch64", err);
    if (rc == 0)
        rc = take_text(manifest, "", "boot", boot, sizeof boot, err);
    if (rc == 0 && strcmp(boot, "kernel") != 0)
        rc = manifest_invalid("/boot", "is not \"kernel\"", err);
    if (rc == 0)
        rc = take_text(manifest, "", "command_line", ret_image->command_line, sizeof ret_image->command_line, err);
    if (rc == 0 && json_object_get(manifest, "ready_line") != NULL)
        rc = take_text(manifest, "", "ready_line", ret_image->ready_line, sizeof ret_image->ready_line, err);
    return rc;
}

/* An image may bring a root disk; its format is stated, so that nobody has to guess it from contents. */
static int take_disk(const json_t *manifest, struct vmm_image *ret_image, struct error *err)
{
    static const char *const known[] = {"file", "sha256", "bytes", "format", NULL};
    if (json_object_get(manifest, "disk") == NULL)
        return 0;
    int rc =
        take_file(manifest, "disk", known, ret_image->disk_file, ret_image->disk_sha256, &ret_image->disk_bytes, err);
    if (rc == 0)
        rc = take_text(json_object_get(manifest, "disk"), "/disk", "format", ret_image->disk_format,
                       sizeof ret_image->disk_format, err);
    if (rc == 0 && strcmp(ret_image->disk_format, "raw") != 0 && strcmp(ret_image->disk_format, "qcow2") != 0)
        rc = manifest_invalid("/disk/format", "is neither \"raw\" nor \"qcow2\"", err);
    return rc;
}

static int take_manifest(const json_t *manifest, const char *name, struct vmm_image *ret_image, struct error *err)
{
    static const char *const known[] = {"name", "description",  "architecture",   "boot",       "kernel", "initrd",
                                        "disk", "command_line", "min_memory_mib", "ready_line", NULL};
    static const char *const known_of_file[] = {"file", "sha256", "bytes", NULL};
    uint64_t memory_mib = 0;
    int rc = check_keys(manifest, "", known, err);
    if (rc == 0)
        rc = take_words(manifest, name, ret_image, err);
    if (rc == 0)
        rc = take_number(manifest, "", "min_memory_mib", MEMORY_MIB_MAX, &memory_mib, err);
    if (rc == 0)
        rc = take_file(manifest, "kernel", known_of_file, ret_image->kernel_file, ret_image->kernel_sha256,
                       &ret_image->kernel_bytes, err);
    if (rc == 0)
        rc = take_file(manifest, "initrd", known_of_file, ret_image->initrd_file, ret_image->initrd_sha256,
                       &ret_image->initrd_bytes, err);
    if (rc == 0)
        rc = take_disk(manifest, ret_image, err);
    ret_image->min_memory_mib = (uint32_t)memory_mib;
    ret_image->bytes = ret_image->kernel_bytes + ret_image->initrd_bytes + ret_image->disk_bytes;
    return rc;
}

int manifest_parse(const char *text, size_t length, const char *name, struct vmm_image *ret_image, struct error *err)
{
    json_error_t reason;
    json_t *manifest = json_loadb(text, length, JSON_REJECT_DUPLICATES, &reason);
    if (manifest == NULL) /* reason.text quotes the manifest, so it is not passed on */
        return manifest_invalid("", reason.line < 0 ? "out of memory" : "is no JSON, or holds a key twice", err);
    struct vmm_image image = {0};
    int rc = json_is_object(manifest) ? take_manifest(manifest, name, &image, err)
                                      : manifest_invalid("", "is not an object", err);
    json_decref(manifest);
    if (rc == 0)
        *ret_image = image;
    return rc;
}
