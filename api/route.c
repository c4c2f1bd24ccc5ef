#include "api/route.h"

#include <stdio.h>
#include <string.h>

#include "api/handle.h"
#include "api/pcapng.h"

#define JSON "application/json"
#define EVENT_PAGE "limit after lease_id"
#define PAGE "limit after order"

const struct route route_table[] = {
    {REQUEST_POST, "/v1/leases", ROUTE_LEASE, true, "dry_run", JSON, handle_lease_create},
    {REQUEST_GET, "/v1/leases", ROUTE_READ, false, PAGE " state mode label", JSON, handle_lease_list},
    {REQUEST_GET, "/v1/leases/{id}", ROUTE_READ, false, NULL, JSON, handle_lease_get},
    {REQUEST_DELETE, "/v1/leases/{id}", ROUTE_LEASE, false, NULL, JSON, handle_lease_delete},
    {REQUEST_POST, "/v1/leases/{id}/renewals", ROUTE_LEASE, true, NULL, JSON, handle_lease_renew},
    {REQUEST_PUT, "/v1/leases/{id}/heartbeat", ROUTE_LEASE, false, NULL, JSON, handle_lease_heartbeat},
    {REQUEST_GET, "/v1/leases/{id}/policy", ROUTE_READ, false, NULL, JSON, handle_policy_get},
    {REQUEST_PUT, "/v1/leases/{id}/policy", ROUTE_LEASE, true, NULL, JSON, handle_policy_put},
    {REQUEST_POST, "/v1/leases/{id}/policy/evaluations", ROUTE_LEASE, true, NULL, JSON, handle_policy_evaluate},
    {REQUEST_GET, "/v1/leases/{id}/flows", ROUTE_READ, false, NULL, JSON, handle_lease_flows},
    {REQUEST_GET, "/v1/leases/{id}/stats", ROUTE_READ, false, NULL, JSON, handle_lease_stats},
    {REQUEST_GET, "/v1/leases/{id}/console", ROUTE_READ, false, NULL, "text/plain " ROUTE_STREAM, handle_lease_console},
    {REQUEST_GET, "/v1/leases/{id}/violations", ROUTE_READ, false, PAGE, JSON, handle_lease_violations},
    {REQUEST_GET, "/v1/events", ROUTE_READ, false, EVENT_PAGE, JSON " " ROUTE_STREAM, handle_event_list},
    {REQUEST_GET, "/v1/violations", ROUTE_READ, false, PAGE " lease_id", JSON, handle_violation_list},
    {REQUEST_GET, "/v1/violations/{id}", ROUTE_READ, false, NULL, JSON, handle_violation_get},
    {REQUEST_GET, "/v1/violations/{id}/evidence", ROUTE_READ, false, NULL, PCAPNG_MEDIA_TYPE,
     handle_violation_evidence},
    {REQUEST_GET, "/v1/terminations", ROUTE_READ, false, PAGE, JSON, handle_termination_list},
    {REQUEST_GET, "/v1/peers", ROUTE_READ, false, PAGE, JSON, handle_peer_list},
    {REQUEST_GET, "/v1/peers/{public_key}", ROUTE_READ, false, NULL, JSON, handle_peer_get},
    {REQUEST_GET, "/v1/images", ROUTE_READ, false, NULL, JSON, handle_image_list},
    {REQUEST_GET, "/v1/images/{name}", ROUTE_READ, false, NULL, JSON, handle_image_get},
    {REQUEST_POST, "/v1/images/{name}/verifications", ROUTE_LEASE, false, NULL, JSON, handle_image_verify},
    {REQUEST_GET, "/v1/node", ROUTE_READ, false, NULL, JSON, handle_node},
    {REQUEST_GET, "/v1/node/drain", ROUTE_READ, false, NULL, JSON, handle_drain_get},
    {REQUEST_PUT, "/v1/node/drain", ROUTE_ADMIN, true, NULL, JSON, handle_drain_put},
    {REQUEST_GET, "/healthz", ROUTE_OPEN, false, NULL, JSON, handle_healthz},
    {REQUEST_GET, "/readyz", ROUTE_OPEN, false, NULL, JSON, handle_readyz},
    {REQUEST_GET, "/metrics", ROUTE_READ, false, NULL, "text/plain", handle_metrics},
    {REQUEST_GET, "/openapi.yaml", ROUTE_OPEN, false, NULL, "application/yaml", handle_openapi},
    {REQUEST_GET, "/v1/problems/{slug}", ROUTE_OPEN, false, NULL, "text/plain", handle_problem_text},
    {REQUEST_GET, "/", ROUTE_OPEN, false, NULL, "text/html", handle_page},
    {REQUEST_GET, "/app.js", ROUTE_OPEN, false, NULL, "text/javascript", handle_script},
    {REQUEST_GET, "/style.css", ROUTE_OPEN, false, NULL, "text/css", handle_style},
    {.pattern = NULL},
};

enum token_scope route_scope(enum route_auth auth)
{
    switch (auth) {
    case ROUTE_ADMIN:
        return TOKEN_ADMIN;
    case ROUTE_LEASE:
        return TOKEN_LEASE;
    case ROUTE_READ:
    case ROUTE_OPEN:
        return TOKEN_READ;
    }
    return TOKEN_ADMIN;
}

/* Whether the path fits the pattern; the {name} parts go to @ret_parameters. */
static bool path_fits(const char *pattern, const struct request *request,
                      const char *ret_parameters[static REQUEST_PARAMETERS_MAX], size_t *ret_count)
{
    size_t count = 0;
    size_t segment = 0;
    for (const char *at = pattern; at != NULL; segment++) {
        const char *part = at + 1; /* past the slash */
        size_t length = strcspn(part, "/");
        at = part[length] == '/' ? part + length : NULL;
        if (segment == request->segment_count)
            return false;
        const char *given = request->segments[segment];
        if (part[0] == '{') {
            if (given[0] == '\0' || count == REQUEST_PARAMETERS_MAX)
                return false;
            ret_parameters[count++] = given;
        } else if (strlen(given) != length || memcmp(given, part, length) != 0) {
            return false;
        }
    }
    *ret_count = count;
    return segment == request->segment_count;
}

struct route_match route_match(const struct route *table, struct request *request)
{
    struct route_match match = {0};
    enum request_method wanted = request->method == REQUEST_HEAD ? REQUEST_GET : request->method;
    for (const struct route *route = table; route->pattern != NULL; route++) {
        const char *parameters[REQUEST_PARAMETERS_MAX] = {NULL};
        size_t count = 0;
        if (!path_fits(route->pattern, request, parameters, &count))
            continue;
        match.path_known = true;
        match.allowed |= 1u << route->method | 1u << REQUEST_OPTIONS;
        if (route->method == REQUEST_GET)
            match.allowed |= 1u << REQUEST_HEAD;
        if (route->method != wanted)
            continue;
        match.route = route;
        memcpy(request->parameters, parameters, sizeof parameters);
        request->parameter_count = count;
    }
    return match;
}

const char *route_allow_header(unsigned allowed, char ret_text[static ROUTE_ALLOW_BYTES])
{
    size_t used = 0;
    ret_text[0] = '\0';
    for (unsigned i = 0; i < REQUEST_OTHER; i++) {
        if ((allowed & 1u << i) != 0)
            used += (size_t)snprintf(ret_text + used, ROUTE_ALLOW_BYTES - used, "%s%s", used == 0 ? "" : ", ",
                                     request_method_name((enum request_method)i));
    }
    return ret_text;
}

bool route_takes_key(const struct route *route)
{
    return route->method == REQUEST_POST && strcmp(route->pattern, "/v1/leases") == 0;
}

bool route_takes_query(const struct route *route, const char *name)
{
    size_t length = strlen(name);
    if (length == 0)
        return false;
    for (const char *at = route->query; at != NULL && *at != '\0';) {
        size_t word = strcspn(at, " ");
        if (word == length && memcmp(at, name, length) == 0)
            return true;
        at += word;
        at += strspn(at, " ");
    }
    return false;
}
