/* What has happened: violations, terminations, and the peers of leases. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/http/page.h"
#include "api/http/problem.h"
#include "api/lease/encode.h"
#include "api/resource/api.h"
#include "api/resource/handle.h"
#include "api/resource/pcapng.h"

/* Puts the rows of one kind that a filter holds on a page. Return: 0 or negative errno */
typedef int read_rows(struct store *store, const struct store_filter *filter, struct page *page, struct error *err);

/* @lease_id: of which alone; NULL of all */
static void respond_list(const struct api *api, const struct request *request, struct response *response,
                         const char *lease_id, read_rows *read)
{
    struct error err = {0};
    struct store_filter filter;
    struct page page;
    if (!page_begin(request, response, PAGE_CURSOR_ID, &filter, &page))
        return;
    if (lease_id != NULL)
        filter.lease_id = lease_id;
    if (read(api->store, &filter, &page, &err) < 0 && !page.failed) {
        page_drop(&page);
        problem_respond_error(response, request, &err, NULL, api->log);
        return;
    }
    page_finish(&page, response, false);
}

/* ---- violations ------------------------------------------------------------------------------------------------ */

static int add_violation(void *context, const struct store_violation *violation)
{
    return page_add(context, encode_violation(violation), violation->id.text);
}

static int read_violations(struct store *store, const struct store_filter *filter, struct page *page, struct error *err)
{
    return store_violation_list(store, filter, add_violation, page, err);
}

void handle_violation_list(void *context, const struct request *request, struct response *response)
{
    respond_list(context, request, response, NULL, read_violations);
}

void handle_lease_violations(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct error err = {0};
    struct store_lease lease;
    const char *id = request->parameters[0];
    struct id parsed;
    if (!id_parse(id, strlen(id), &parsed))
        problem_respond(response, request, PROBLEM_LEASE_NOT_FOUND, "A lease's id is a UUID in lower case.");
    else if (store_lease_get(api->store, id, &lease, &err) < 0)
        problem_respond_error(response, request, &err, id, api->log);
    else
        respond_list(api, request, response, id, read_violations);
}

/* The violation of the path. */
static bool take_violation(const struct api *api, const struct request *request, struct response *response,
                           struct store_violation *ret_violation)
{
    struct error err = {0};
    const char *id = request->parameters[0];
    struct id parsed;
    if (!id_parse(id, strlen(id), &parsed))
        problem_respond(response, request, PROBLEM_VIOLATION_NOT_FOUND, "A violation's id is a UUID in lower case.");
    else if (store_violation_get(api->store, id, ret_violation, &err) < 0)
        problem_respond_error(response, request, &err, NULL, api->log);
    else
        return true;
    return false;
}

void handle_violation_get(void *context, const struct request *request, struct response *response)
{
    struct store_violation violation;
    if (take_violation(context, request, response, &violation))
        response_json(response, 200, encode_violation(&violation));
}

static void respond_evidence(const struct store_violation *violation, struct response *response)
{
    char comment[PCAPNG_COMMENT_BYTES];
    uint8_t *bytes = malloc(PCAPNG_BYTES);
    if (bytes == NULL) {
        response_json(response, 200, NULL);
        return;
    }
    snprintf(comment, sizeof comment, "omertad: %s (%s), lease %s, violation %s, seen %llu times", violation->code,
             violation->verdict, violation->lease_id.text, violation->id.text, (unsigned long long)violation->count);
    const struct pcapng_frame frame = {.at_ms = violation->first_seen_ms,
                                       .original_bytes = violation->frame_bytes,
                                       .bytes = violation->evidence,
                                       .length = violation->evidence_bytes,
                                       .comment = comment};
    size_t length = pcapng_write(&frame, bytes);
    response_take(response, 200, PCAPNG_MEDIA_TYPE, bytes, length, free);
    response_header(response, "Content-Disposition", "attachment; filename=\"%s.pcapng\"", violation->id.text);
}

void handle_violation_evidence(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct store_violation violation;
    if (!take_violation(api, request, response, &violation))
        return;
    if (violation.evidence_purged)
        problem_respond(response, request, PROBLEM_EVIDENCE_PURGED, "%s", "");
    else if (violation.evidence_bytes == 0)
        problem_respond(response, request, PROBLEM_EVIDENCE_ABSENT, "%s", "");
    else
        respond_evidence(&violation, response);
}

/* ---- terminations ---------------------------------------------------------------------------------------------- */

static int add_termination(void *context, const struct store_lease *lease)
{
    return page_add(context, encode_termination(lease), lease->id.text);
}

static int read_terminations(struct store *store, const struct store_filter *filter, struct page *page,
                             struct error *err)
{
    return store_termination_list(store, filter, add_termination, page, err);
}

void handle_termination_list(void *context, const struct request *request, struct response *response)
{
    respond_list(context, request, response, NULL, read_terminations);
}

/* ---- peers ----------------------------------------------------------------------------------------------------- */

static int add_peer(void *context, const struct store_peer *peer)
{
    return page_add(context, encode_peer(peer), peer->lease_id.text);
}

static int read_peers(struct store *store, const struct store_filter *filter, struct page *page, struct error *err)
{
    return store_peer_list(store, filter, add_peer, page, err);
}

void handle_peer_list(void *context, const struct request *request, struct response *response)
{
    respond_list(context, request, response, NULL, read_peers);
}

/* A public key as it stands in a path: base64url with or without padding, or base64. */
static bool take_public_key(const char *text, char ret_key[static VMM_KEY_TEXT_BYTES])
{
    static const int variants[] = {sodium_base64_VARIANT_URLSAFE_NO_PADDING, sodium_base64_VARIANT_URLSAFE,
                                   sodium_base64_VARIANT_ORIGINAL};
    uint8_t key[VMM_KEY_BYTES];
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        size_t length = 0;
        if (sodium_base642bin(key, sizeof key, text, strlen(text), NULL, &length, NULL, variants[i]) == 0 &&
            length == sizeof key) {
            vmm_key_format(key, ret_key);
            return true;
        }
    }
    return false;
}

void handle_peer_get(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    struct error err = {0};
    struct store_peer peer;
    char key[VMM_KEY_TEXT_BYTES];
    if (!take_public_key(request->parameters[0], key))
        problem_respond(response, request, PROBLEM_PEER_NOT_FOUND, "This is not a WireGuard public key.");
    else if (store_peer_get(api->store, key, &peer, &err) < 0)
        problem_respond_error(response, request, &err, NULL, api->log);
    else
        response_json(response, 200, encode_peer(&peer));
}
