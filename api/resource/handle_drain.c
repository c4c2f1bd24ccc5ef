/* Taking the machine out of service: no new lease is admitted, and those that are there go on to their ends. */
#include <errno.h>

#include "api/http/etag.h"
#include "api/http/problem.h"
#include "api/lease/encode.h"
#include "api/resource/api.h"
#include "api/resource/handle.h"
#include "base/clock.h"

static void respond(struct response *response, const struct store_drain *drain)
{
    response_json(response, 200, encode_drain(drain));
    etag_header(response, drain->generation);
}

void handle_drain_get(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct error err = {0};
    struct store_drain drain;
    if (store_drain_get(api->store, &drain, &err) < 0)
        problem_respond_error(response, request, &err, NULL, api->log);
    else if (!etag_unchanged(request, response, drain.generation))
        respond(response, &drain);
}

/* Return: false when the response says what is wrong with the document. */
static bool take_draining(const struct api *api, const struct request *request, struct response *response,
                          bool *ret_draining)
{
    static const char *const keys[] = {"draining", NULL};
    struct decode_errors errors = {0};
    json_t *tree = NULL;
    if (!problem_parse_body(response, request, &tree, api->log))
        return false;
    struct decode_node root = decode_root(tree, &errors);
    if (decode_object(&root, keys)) {
        struct decode_node draining = decode_member(&root, "draining");
        decode_boolean(&draining, ret_draining);
    }
    json_decref(tree);
    if (errors.count > 0)
        problem_respond_invalid(response, request, &errors);
    return errors.count == 0;
}

void handle_drain_put(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct error err = {0};
    struct store_drain drain;
    bool draining = false;
    if (!take_draining(api, request, response, &draining))
        return;
    if (store_drain_get(api->store, &drain, &err) < 0) {
        problem_respond_error(response, request, &err, NULL, api->log);
        return;
    }
    if (!etag_required(request, response, drain.generation))
        return;
    bool before = drain.draining;
    int result = store_drain_set(api->store, drain.generation, draining, clock_wall_ms(), &drain, &err);
    if (result == -ESTALE) {
        etag_refuse(request, response, drain.generation);
    } else if (result < 0) {
        problem_respond_error(response, request, &err, NULL, api->log);
    } else {
        if (before != draining)
            log_line(api->log, LOG_INFO, "node.drain_changed", "draining=%s", draining ? "true" : "false");
        respond(response, &drain);
    }
}
