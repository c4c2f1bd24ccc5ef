#include "api/resource/handle.h"
#include "api/resource/pcapng.h"

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
