#include "api/resource/lease_path.h"

#include <string.h>

#include "api/http/etag.h"
#include "api/http/problem.h"
#include "api/lease/encode.h"

bool lease_path_id(const struct request *request, struct response *response, struct id *ret_id)
{
    const char *text = request->parameters[0];
    if (id_parse(text, strlen(text), ret_id))
        return true;
    problem_respond(response, request, PROBLEM_LEASE_NOT_FOUND, "A lease's id is a UUID in lower case.");
    return false;
}

bool lease_path_lease(struct api *api, const struct request *request, struct response *response, struct id *ret_id,
                      struct store_lease *ret_lease)
{
    struct error err = {0};
    if (!lease_path_id(request, response, ret_id))
        return false;
    if (store_lease_get(api->store, ret_id->text, ret_lease, &err) == 0)
        return true;
    problem_respond_error(response, request, &err, ret_id->text, api->log);
    return false;
}

void lease_respond(struct api *api, struct response *response, unsigned status, const struct store_lease *lease)
{
    json_t *json = encode_lease(lease);
    encode_kernel_filter(json, lease_service_kernel_filter(api->service, &lease->id));
    response_json(response, status, json);
    etag_header(response, lease->generation);
}

int lease_offer_read(const struct api *api, struct lease_offer *ret_offer, struct error *err)
{
    *ret_offer = (struct lease_offer){
        .image_dir = api->config->paths.images,
        .capacity = api->config->capacity,
        .network = {.mode = api->config->network.mode,
                    .sampling_rate = api->config->network.sampling_rate,
                    .allow_mode_override = api->config->network.allow_mode_override,
                    .allow_online_install = api->config->network.allow_online_install,
                    .packages_dir = api->config->paths.packages},
        .allow_private_endpoints = api->config->network.allow_private_endpoints,
    };
    return own_addresses_list(&ret_offer->own, err);
}
