/* `omertad image`: guest images without a daemon. */
#include <stdio.h>
#include <string.h>

#include "api/command/command.h"
#include "api/command/options.h"
#include "api/lease/encode.h"

static const char usage[] =
    "usage: omertad image list [OPTION...]         names, sizes and digests\n"
    "       omertad image show NAME [OPTION...]    what the manifest says, as JSON\n"
    "       omertad image verify NAME [OPTION...]  read every file and compare it with the manifest\n"
    "\n"
    "  --images DIR   folder of images (default: as the daemon's)\n"
    "  --config FILE  configuration of the daemon\n"
    "  --data DIR     data folder of the daemon\n"
    "\n"
    "Exit code: 0 all went well, 1 it failed, 2 the command line or the configuration is wrong.\n";

enum {
    IMAGES_MAX = 200,
};

static int failed(const struct error *err)
{
    fprintf(stderr, "omertad: %s\n", err->message);
    return COMMAND_FAILED;
}

static int list(const char *dir)
{
    char names[IMAGES_MAX][VMM_NAME_BYTES];
    struct error err = {0};
    int count = vmm_image_list(dir, names, IMAGES_MAX, &err);
    if (count < 0)
        return failed(&err);
    int exit_code = COMMAND_OK;
    for (int i = 0; i < count; i++) {
        struct vmm_image image;
        if (vmm_image_load(dir, names[i], &image, &err) < 0) {
            printf("%-24s not valid: %s\n", names[i], err.message);
            exit_code = COMMAND_FAILED;
            continue;
        }
        printf("%-24s %6llu MiB  %.12s  %s\n", image.name, (unsigned long long)(image.bytes / 1048576), image.digest,
               image.description);
    }
    if (count == 0)
        fprintf(stderr, "omertad: there is no image in %s; `make image` or deploy/guest/build-micro.sh builds one\n",
                dir);
    return exit_code;
}

static int show(const struct vmm_image *image)
{
    json_t *json = encode_image(image);
    int result = json_dumpf(json, stdout, JSON_INDENT(2));
    json_decref(json);
    putchar('\n');
    return result == 0 ? COMMAND_OK : COMMAND_FAILED;
}

static int verify(const char *dir, const struct vmm_image *image)
{
    struct error err = {0};
    if (vmm_image_verify(dir, image, &err) < 0)
        return failed(&err);
    printf("%s is as its manifest says (%llu bytes, digest %s)\n", image->name, (unsigned long long)image->bytes,
           image->digest);
    return COMMAND_OK;
}

int command_image(int argc, char **argv)
{
    struct options options;
    struct config config;
    struct error err = {0};
    int code;
    if (!options_begin(argc, argv, "cdi", usage, &options, &config, &code))
        return code;
    const char *what = options.operand_count > 0 ? options.operands[0] : "";
    if (strcmp(what, "list") == 0 && options.operand_count == 1)
        return list(config.paths.images);
    bool is_show = strcmp(what, "show") == 0;
    if ((!is_show && strcmp(what, "verify") != 0) || options.operand_count != 2) {
        fputs(usage, stderr);
        return COMMAND_USAGE;
    }
    struct vmm_image image;
    if (vmm_image_load(config.paths.images, options.operands[1], &image, &err) < 0)
        return failed(&err);
    return is_show ? show(&image) : verify(config.paths.images, &image);
}
