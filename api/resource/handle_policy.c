/* What a lease's filter enforces, and what it would do. */
#include <errno.h>
#include <string.h>

#include "api/http/etag.h"
#include "api/http/problem.h"
#include "api/json/decode.h"
#include "api/lease/encode.h"
#include "api/lease/lease_policy.h"
#include "api/lease/policy.h"
#include "api/lease/policy_request.h"
#include "api/resource/api.h"
#include "api/resource/handle.h"
#include "api/resource/lease_path.h"
#include "base/clock.h"

/* The lease of the path, which must have a filter. */
static bool take_filtered(struct api *api, const struct request *request, struct response *response,
                          struct store_lease *ret_lease)
{
    struct id id;
    if (!lease_path_lease(api, request, response, &id, ret_lease))
        return false;
    if (strcmp(ret_lease->mode, mode_name(MODE_DIRECT)) != 0)
        return true;
    problem_respond(response, request, PROBLEM_POLICY_ABSENT, "%s", "");
    return false;
}

static void respond_policy(struct response *response, const struct store_lease *lease)
{
    struct nat_policy policy;
    bool good = policy_of_lease(lease, &policy);
    response_json(response, 200, good ? encode_policy(lease, &policy) : NULL);
    etag_header(response, policy_generation(lease));
}

void handle_policy_get(void *context, const struct request *request, struct response *response)
{
    struct store_lease lease;
    if (take_filtered(context, request, response, &lease) &&
        !etag_unchanged(request, response, policy_generation(&lease)))
        respond_policy(response, &lease);
}

static void put_from(struct api *api, json_t *tree, const struct store_lease *lease, const struct request *request,
                     struct response *response)
{
    struct error err = {0};
    struct lease_offer offer;
    struct decode_errors errors = {0};
    struct nat_policy policy;
    struct store_lease changed;
    if (lease_offer_read(api, &offer, &err) < 0) {
        problem_respond_error(response, request, &err, NULL, api->log);
        return;
    }
    policy_request_decode(tree, &offer, &errors, &policy);
    if (errors.count > 0) {
        problem_respond_invalid(response, request, &errors);
        return;
    }
    int result = lease_policy_set(api->service, lease, &policy, &changed, &err);
    if (result == -ESTALE)
        etag_refuse(request, response, policy_generation(lease));
    else if (result < 0)
        problem_respond_error(response, request, &err, lease->id.text, api->log);
    else
        respond_policy(response, &changed);
}

void handle_policy_put(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct store_lease lease;
    json_t *tree = NULL;
    if (!take_filtered(api, request, response, &lease))
        return;
    if (lease_is_final(lease.state) || lease.state == LEASE_STOPPING) {
        problem_respond(response, request, PROBLEM_LEASE_ENDED, "The lease is %s.", lease_state_name(lease.state));
        return;
    }
    if (!etag_required(request, response, policy_generation(&lease)) ||
        !problem_parse_body(response, request, &tree, api->log))
        return;
    put_from(api, tree, &lease, request, response);
    json_decref(tree);
}

/* ---- what it would do ------------------------------------------------------------------------------------------ */

/* In `sampled` a frame has two fates; the second one is that of a frame which the sampler does not draw. */
static void respond_evaluation(const struct nat_policy *policy, const struct nat_link *link,
                               const struct evaluation_request *asked, struct response *response)
{
    struct nat_evaluation drawn;
    struct nat_evaluation passed_over;
    bool sampled = policy->mode == NAT_MODE_SAMPLED && policy->sampling_ppm < NAT_SAMPLING_PPM_MAX;
    int result = nat_evaluate(policy, link, asked->frame, asked->length, true, &drawn);
    if (result == 0 && sampled)
        result = nat_evaluate(policy, link, asked->frame, asked->length, false, &passed_over);
    response_json(response, 200,
                  result < 0 ? NULL : encode_evaluation(policy, asked->length, &drawn, sampled ? &passed_over : NULL));
}

void handle_policy_evaluate(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct error err = {0};
    struct store_lease lease;
    struct nat_policy policy;
    struct nat_link link;
    struct decode_errors errors = {0};
    struct evaluation_request asked;
    json_t *tree = NULL;
    if (!take_filtered(api, request, response, &lease) || !problem_parse_body(response, request, &tree, api->log))
        return;
    if (!policy_of_lease(&lease, &policy) || !policy_link_of_lease(&lease, &link)) {
        error_set(&err, -EUCLEAN, "the lease's addresses make no sense");
        problem_respond_error(response, request, &err, lease.id.text, api->log);
    } else if (vmm_own_addresses(policy.own, NAT_OWN_MAX, &policy.own_count, &err) < 0 &&
               policy.mode == NAT_MODE_SAMPLED) {
        problem_respond_error(response, request, &err, lease.id.text, api->log);
    } else {
        evaluation_request_decode(tree, &link, &errors, &asked);
        if (errors.count > 0)
            problem_respond_invalid(response, request, &errors);
        else
            respond_evaluation(&policy, &link, &asked, response);
    }
    json_decref(tree);
}

void handle_lease_flows(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct store_lease lease;
    struct nat_flow flows[NAT_FLOWS_MAX];
    if (!take_filtered(api, request, response, &lease))
        return;
    int count = lease_service_flows(api->service, &lease.id, flows);
    if (count == -ESHUTDOWN)
        problem_respond(response, request, PROBLEM_SHUTTING_DOWN, "%s", "");
    else if (count < 0)
        problem_respond(response, request, PROBLEM_MACHINE_ABSENT, "The lease is %s.", lease_state_name(lease.state));
    else
        response_json(response, 200, encode_flows(flows, (size_t)count, clock_monotonic_ms(), clock_wall_ms()));
}
