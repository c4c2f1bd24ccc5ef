/* Guest images: what there is, and whether it is still what its manifest says. */
#include <errno.h>

#include "api/http/problem.h"
#include "api/lease/encode.h"
#include "api/resource/api.h"
#include "api/resource/handle.h"
#include "base/clock.h"

enum {
    IMAGES_MAX = 200, /* one page; a provider has a handful */
};

void handle_image_list(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct error err = {0};
    char names[IMAGES_MAX][VMM_NAME_BYTES];
    const char *dir = api->config->paths.images;
    int count = vmm_image_list(dir, names, IMAGES_MAX, &err);
    if (count < 0) {
        problem_respond_error(response, request, &err, NULL, api->log);
        return;
    }
    json_t *items = json_array();
    for (int i = 0; i < count; i++) {
        struct vmm_image image;
        struct error fault = {0};
        if (vmm_image_load(dir, names[i], &image, &fault) == 0)
            json_array_append_new(items, encode_image(&image));
        else
            json_array_append_new(items, json_pack("{s:s, s:s}", "name", names[i], "invalid", fault.message));
    }
    response_json(response, 200, json_pack("{s:o, s:n}", "items", items, "next_cursor"));
}

/* The image of the path. */
static bool take_image(struct api *api, const struct request *request, struct response *response,
                       struct vmm_image *ret_image)
{
    struct error err = {0};
    const char *name = request->parameters[0];
    if (!vmm_image_name_valid(name)) {
        problem_respond(response, request, PROBLEM_IMAGE_NOT_FOUND, "An image's name is [a-z0-9][a-z0-9._-]{0,63}.");
        return false;
    }
    if (vmm_image_load(api->config->paths.images, name, ret_image, &err) == 0)
        return true;
    problem_respond_error(response, request, &err, NULL, api->log);
    return false;
}

void handle_image_get(void *context, const struct request *request, struct response *response)
{
    struct vmm_image image;
    if (take_image(context, request, response, &image))
        response_json(response, 200, encode_image(&image));
}

void handle_image_verify(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct error err = {0};
    struct vmm_image image;
    if (!take_image(api, request, response, &image))
        return;
    uint64_t duration_ms = 0;
    int result = image_verifier_run(api->verifier, &image, IMAGE_VERIFIER_WAIT_MS, &duration_ms, &err);
    if (result == -EBUSY) {
        problem_respond(response, request, PROBLEM_VERIFICATION_BUSY, "%s", err.message);
        return;
    }
    if (result < 0) {
        problem_respond_error(response, request, &err, NULL, api->log);
        return;
    }
    response_json(response, 200,
                  json_pack("{s:s, s:s, s:I, s:o, s:I}", "image", image.name, "digest", image.digest, "bytes",
                            (json_int_t)image.bytes, "verified_at", encode_time(clock_wall_ms()), "duration_ms",
                            (json_int_t)duration_ms));
}
