/* Leases: what an orchestrator asks for and gives back. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/http/etag.h"
#include "api/http/page.h"
#include "api/http/problem.h"
#include "api/json/decode.h"
#include "api/lease/encode.h"
#include "api/lease/lease_request.h"
#include "api/resource/api.h"
#include "api/resource/handle.h"
#include "api/resource/lease_path.h"
#include "base/clock.h"

enum {
    LABEL_TEXT_BYTES = LEASE_LABEL_KEY_BYTES + LEASE_LABEL_NAME_BYTES + 2, /* key, colon, value and the NUL */
};

/* ---- create ---------------------------------------------------------------------------------------------------- */

static bool dry_run(const struct request *request)
{
    const char *text = request_query(request, "dry_run");
    return text != NULL && strcmp(text, "true") == 0;
}

/* The first answer once more, byte for byte. */
static void respond_again(struct response *response, const struct store_answer *answer)
{
    char *copy = strdup(answer->body);
    if (copy == NULL) {
        response_json(response, 202, NULL);
        return;
    }
    response_take(response, 202, "application/json", copy, strlen(copy), free);
    etag_header(response, LEASE_FIRST_GENERATION);
    response_header(response, "Location", "/v1/leases/%s", answer->lease_id.text);
}

static void create(struct api *api, const struct lease_request *asked, const struct lease_once *once,
                   const struct request *request, struct response *response)
{
    struct error err = {0};
    struct store_lease lease;
    bool dry = dry_run(request);
    int result = dry ? lease_service_try(api->service, asked, &lease, &err)
                     : lease_service_create(api->service, asked, once, &lease, &err);
    if (result < 0) {
        problem_respond_error(response, request, &err, NULL, api->log);
    } else if (dry) {
        response_json(response, 200, encode_lease(&lease));
    } else {
        /* The row as it was made and nothing that came since, so that the same request again has the same answer. */
        response_json(response, 202, encode_lease(&lease));
        etag_header(response, lease.generation);
        response_header(response, "Location", "/v1/leases/%s", lease.id.text);
    }
}

static void create_from(struct api *api, json_t *tree, const struct lease_once *once, const struct request *request,
                        struct response *response)
{
    struct error err = {0};
    struct lease_offer offer;
    struct decode_errors errors = {0};
    struct lease_request asked;
    if (lease_offer_read(api, &offer, &err) < 0) {
        problem_respond_error(response, request, &err, NULL, api->log);
        return;
    }
    lease_request_decode(tree, &offer, &errors, &asked);
    asked.trace_id = request->trace.id;
    if (errors.count > 0)
        problem_respond_invalid(response, request, &errors);
    else if (asked.network.mode == MODE_DIRECT && direct_check_result(api->direct, DIRECT_CHECK_WAIT_MS, &err) < 0)
        problem_respond_error(response, request, &err, NULL, api->log);
    else
        create(api, &asked, once, request, response);
    lease_request_done(&asked);
}

/* A request that is done once: what it was answered with, if it was answered; and nobody answers it beside us. */
static void create_once(struct api *api, json_t *tree, const struct request *request, struct response *response)
{
    struct error err = {0};
    struct lease_once once = {.key = request->idempotency_key};
    struct store_answer answer;
    if (idempotency_hash(api->idempotency, tree, once.request_hash, &err) < 0 ||
        idempotency_claim(api->idempotency, once.key, &err) < 0) {
        problem_respond_error(response, request, &err, NULL, api->log);
        return;
    }
    int recalled = store_key_recall(api->store, once.key, once.request_hash, clock_wall_ms(), &answer, &err);
    if (recalled == 0)
        respond_again(response, &answer);
    else if (recalled == -ENOENT)
        create_from(api, tree, &once, request, response);
    else
        problem_respond_error(response, request, &err, NULL, api->log);
    idempotency_release(api->idempotency, once.key);
}

void handle_lease_create(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    json_t *tree = NULL;
    const char *dry = request_query(request, "dry_run");
    if (dry != NULL && strcmp(dry, "true") != 0 && strcmp(dry, "false") != 0) {
        problem_respond_query(response, request, "dry_run", "must be \"true\" or \"false\".");
        return;
    }
    if (!problem_parse_body(response, request, &tree, api->log))
        return;
    if (request->idempotency_key == NULL || dry_run(request)) /* which does nothing that could be done twice */
        create_from(api, tree, NULL, request, response);
    else
        create_once(api, tree, request, response);
    json_decref(tree);
}

/* ---- read and release ------------------------------------------------------------------------------------------ */

static int add_lease(void *context, const struct store_lease *lease)
{
    return page_add(context, encode_lease(lease), lease->id.text);
}

/* `label=key:value` as two texts; neither of them holds a colon. @ret_key: buffer that both stand in */
static bool take_label(const char *text, char ret_key[static LABEL_TEXT_BYTES], struct store_filter *filter)
{
    size_t length = strnlen(text, LABEL_TEXT_BYTES);
    const char *colon = strchr(text, ':');
    if (length == LABEL_TEXT_BYTES || colon == NULL)
        return false;
    memcpy(ret_key, text, length + 1);
    ret_key[colon - text] = '\0';
    filter->label_key = ret_key;
    filter->label_value = ret_key + (colon - text) + 1;
    return lease_label_key_valid(filter->label_key) && lease_label_value_valid(filter->label_value);
}

/* The filters of leases. Return: false when the response says what is wrong with one. */
static bool take_filters(const struct request *request, struct response *response,
                         char ret_label[static LABEL_TEXT_BYTES], struct store_filter *filter)
{
    enum lease_state state;
    enum mode mode;
    const char *label = request_query(request, "label");
    filter->state = request_query(request, "state");
    filter->mode = request_query(request, "mode");
    if (filter->state != NULL && !lease_state_parse(filter->state, &state))
        problem_respond_query(response, request, "state", "must be a lease's state.");
    else if (filter->mode != NULL && !mode_parse(filter->mode, &mode))
        problem_respond_query(response, request, "mode", "must be filtered, conntrack, sampled or direct.");
    else if (label != NULL && !take_label(label, ret_label, filter))
        problem_respond_query(response, request, "label", "must be a label's key, a colon and its value.");
    else
        return true;
    return false;
}

void handle_lease_list(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct error err = {0};
    struct store_filter filter;
    struct page page;
    char label[LABEL_TEXT_BYTES];
    if (!page_begin(request, response, PAGE_CURSOR_ID, &filter, &page))
        return;
    if (!take_filters(request, response, label, &filter)) {
        page_drop(&page);
        return;
    }
    int result = store_lease_list(api->store, &filter, add_lease, &page, &err);
    if (result < 0 && !page.failed) {
        page_drop(&page);
        problem_respond_error(response, request, &err, NULL, api->log);
        return;
    }
    /* After the list: while its rows are read nothing waits for a machine. */
    for (size_t at = 0; at < json_array_size(page.items); at++) {
        json_t *lease = json_array_get(page.items, at);
        const json_t *text = json_object_get(lease, "id");
        struct id id;
        if (text != NULL && id_parse(json_string_value(text), json_string_length(text), &id))
            encode_kernel_filter(lease, lease_service_kernel_filter(api->service, &id));
    }
    page_finish(&page, response, false);
}

void handle_lease_get(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct id id;
    struct store_lease lease;
    if (lease_path_lease(api, request, response, &id, &lease) && !etag_unchanged(request, response, lease.generation))
        lease_respond(api, response, 200, &lease);
}

void handle_lease_delete(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct error err = {0};
    struct id id;
    struct store_lease lease;
    if (!lease_path_lease(api, request, response, &id, &lease) || !etag_allows(request, response, lease.generation))
        return;
    if (lease_service_release(api->service, id.text, &lease, &err) < 0)
        problem_respond_error(response, request, &err, id.text, api->log);
    else
        lease_respond(api, response, lease_is_final(lease.state) ? 200 : 202, &lease);
}

/* ---- stats ----------------------------------------------------------------------------------------------------- */

void handle_lease_stats(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct id id;
    struct store_lease lease;
    struct nat_stats stats;
    if (!lease_path_lease(api, request, response, &id, &lease))
        return;
    if (strcmp(lease.mode, mode_name(MODE_DIRECT)) == 0) {
        problem_respond(response, request, PROBLEM_COUNTERS_ABSENT, "%s", "");
        return;
    }
    int result = lease_service_stats(api->service, &id, &stats);
    if (result == -ESHUTDOWN)
        problem_respond(response, request, PROBLEM_SHUTTING_DOWN, "%s", "");
    else if (result < 0)
        problem_respond(response, request, PROBLEM_MACHINE_ABSENT, "The lease is %s.", lease_state_name(lease.state));
    else
        response_json(response, 200, encode_stats(&stats, clock_monotonic_ms(), clock_wall_ms()));
}
