/* The machine itself: what it has, and whether it can serve. */
#include <stdio.h>

#include "api/http/problem.h"
#include "api/lease/encode.h"
#include "api/resource/api.h"
#include "api/resource/handle.h"
#include "base/clock.h"

enum {
    IMAGES_LOOKED_AT = 64, /* readiness needs one good one */
};

static json_t *accelerator(const struct vmm_accel *accel)
{
    if (!accel->known)
        return json_pack("{s:b, s:n, s:n, s:s}", "known", 0, "name", "cpu", "reason", "The probe still runs.");
    return json_pack("{s:b, s:s, s:s?, s:s}", "known", 1, "name", accel->name, "cpu",
                     accel->cpu[0] == '\0' ? NULL : accel->cpu, "reason", accel->reason);
}

static json_t *modes(const struct config *config)
{
    json_t *list = json_array();
    for (int i = 0; list != NULL && i < MODE_COUNT; i++) {
        enum mode mode = (enum mode)i;
        bool possible = mode != MODE_DIRECT || vmm_hypervisor_abilities(config->hypervisor.kind).direct;
        bool offered = possible && (mode == config->network.mode || config->network.allow_mode_override);
        if (offered && json_array_append_new(list, json_string(mode_name(mode))) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *network(const struct config *config)
{
    return json_pack("{s:s, s:o, s:b, s:f, s:b, s:b, s:b}", "default_mode", mode_name(config->network.mode), "modes",
                     modes(config), "allow_mode_override", (int)config->network.allow_mode_override, "sampling_rate",
                     config->network.sampling_rate, "allow_private_endpoints",
                     (int)config->network.allow_private_endpoints, "allow_online_install",
                     (int)config->network.allow_online_install, "offline_packages", config->paths.packages[0] != '\0');
}

void handle_node(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct error err = {0};
    struct store_resources used;
    struct vmm_accel accel;
    struct store_drain drain;
    if (store_capacity_used(api->store, &used, &err) < 0 || store_drain_get(api->store, &drain, &err) < 0) {
        problem_respond_error(response, request, &err, NULL, api->log);
        return;
    }
    lease_service_accel(api->service, &accel);
    response_json(response, 200,
                  json_pack("{s:s, s:o, s:o, s:s, s:o, s:{s:o, s:o}, s:o, s:o}", "version", OMERTAD_VERSION, "time",
                            encode_time(clock_wall_ms()), "started_at", encode_time(api->started_ms), "hypervisor",
                            vmm_hypervisor_name(api->config->hypervisor.kind), "accelerator", accelerator(&accel),
                            "capacity", "total", encode_resources(&api->config->capacity), "used",
                            encode_resources(&used), "network", network(api->config), "drain", encode_drain(&drain)));
}

void handle_healthz(void *context, const struct request *request, struct response *response)
{
    (void)context;
    (void)request;
    response_json(response, 200, json_pack("{s:s}", "status", "ok"));
}

/* ---- readiness ------------------------------------------------------------------------------------------------- */

static void unready(struct decode_errors *reasons, const char *part, const char *detail)
{
    struct decode_node node = {.errors = reasons};
    snprintf(node.pointer, sizeof node.pointer, "/%s", part);
    decode_fault(&node, NULL, "%s", detail);
}

static bool has_image(const char *dir)
{
    char names[IMAGES_LOOKED_AT][VMM_NAME_BYTES];
    int count = vmm_image_list(dir, names, IMAGES_LOOKED_AT, NULL);
    for (int i = 0; i < count; i++) {
        struct vmm_image image;
        if (vmm_image_load(dir, names[i], &image, NULL) == 0)
            return true;
    }
    return false;
}

void handle_readyz(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct decode_errors reasons = {0};
    struct error err = {0};
    struct vmm_accel accel;
    struct store_drain drain = {0};
    if (!lease_service_accel(api->service, &accel))
        unready(&reasons, "daemon", "The daemon is ending.");
    else if (!accel.known)
        unready(&reasons, "accelerator", "The accelerator probe still runs.");
    if (store_check(api->store, &err) < 0)
        unready(&reasons, "store", "The store cannot be written.");
    else if (store_drain_get(api->store, &drain, &err) == 0 && drain.draining)
        unready(&reasons, "drain", "The machine is being drained and admits no lease.");
    /* Another mode than the configuration's is a matter of the request that asks it. */
    if (api->config->network.mode == MODE_DIRECT && direct_check_result(api->direct, 0, &err) < 0)
        unready(&reasons, "direct", err.message);
    if (!has_image(api->config->paths.images))
        unready(&reasons, "images", "There is no guest image; `make image` or deploy/guest/build-micro.sh builds one.");
    if (reasons.count > 0)
        problem_respond_unready(response, request, &reasons);
    else
        response_json(response, 200, json_pack("{s:s}", "status", "ready"));
}
