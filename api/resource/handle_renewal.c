/* What keeps a lease going: renewals, and heartbeats of whoever asked for it. */
#include <errno.h>

#include "api/http/etag.h"
#include "api/http/problem.h"
#include "api/json/decode.h"
#include "api/lease/lease_request.h"
#include "api/resource/api.h"
#include "api/resource/handle.h"
#include "api/resource/lease_path.h"

void handle_lease_renew(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct error err = {0};
    struct decode_errors errors = {0};
    struct id id;
    struct store_lease lease;
    json_t *tree = NULL;
    uint64_t ttl_s = 0;
    if (!lease_path_id(request, response, &id) || !problem_parse_body(response, request, &tree, api->log))
        return;
    bool good = lease_renewal_decode(tree, &errors, &ttl_s);
    json_decref(tree);
    if (!good)
        problem_respond_invalid(response, request, &errors);
    else if (lease_service_renew(api->service, &id, ttl_s, &lease, &err) < 0)
        problem_respond_error(response, request, &err, id.text, api->log);
    else
        lease_respond(api, response, 201, &lease);
}

void handle_lease_heartbeat(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct error err = {0};
    struct id id;
    struct store_lease lease;
    if (!lease_path_id(request, response, &id))
        return;
    /* A heartbeat replaces nothing, so it needs no If-Match; one that is sent holds. */
    if (request->if_match != NULL &&
        (!lease_path_lease(api, request, response, &id, &lease) || !etag_allows(request, response, lease.generation)))
        return;
    if (lease_service_heartbeat(api->service, &id, &err) < 0)
        problem_respond_error(response, request, &err, id.text, api->log);
    else
        response_empty(response, 204);
}
