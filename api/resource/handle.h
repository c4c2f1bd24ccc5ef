/* The service's routes and their handlers. Each handler takes `struct api *` as its context and follows route_handler. */
#ifndef API_RESOURCE_HANDLE_H
#define API_RESOURCE_HANDLE_H

#include "api/http/request.h"
#include "api/http/response.h"
#include "api/http/route.h"

/** Which handler answers which method and path, ended by a NULL pattern. A test holds it against openapi.yaml, both ways. */
extern const struct route route_table[];

void handle_lease_create(void *context, const struct request *request, struct response *response);
void handle_lease_list(void *context, const struct request *request, struct response *response);
void handle_lease_get(void *context, const struct request *request, struct response *response);
void handle_lease_delete(void *context, const struct request *request, struct response *response);
void handle_lease_renew(void *context, const struct request *request, struct response *response);
void handle_lease_heartbeat(void *context, const struct request *request, struct response *response);
void handle_lease_stats(void *context, const struct request *request, struct response *response);
void handle_lease_flows(void *context, const struct request *request, struct response *response);
void handle_policy_get(void *context, const struct request *request, struct response *response);
void handle_policy_put(void *context, const struct request *request, struct response *response);
void handle_policy_evaluate(void *context, const struct request *request, struct response *response);
void handle_lease_console(void *context, const struct request *request, struct response *response);

void handle_lease_violations(void *context, const struct request *request, struct response *response);
void handle_event_list(void *context, const struct request *request, struct response *response);
void handle_violation_list(void *context, const struct request *request, struct response *response);
void handle_violation_get(void *context, const struct request *request, struct response *response);
void handle_violation_evidence(void *context, const struct request *request, struct response *response);
void handle_termination_list(void *context, const struct request *request, struct response *response);
void handle_peer_list(void *context, const struct request *request, struct response *response);
void handle_peer_get(void *context, const struct request *request, struct response *response);

void handle_image_list(void *context, const struct request *request, struct response *response);
void handle_image_get(void *context, const struct request *request, struct response *response);
void handle_image_verify(void *context, const struct request *request, struct response *response);

void handle_drain_get(void *context, const struct request *request, struct response *response);
void handle_drain_put(void *context, const struct request *request, struct response *response);
void handle_node(void *context, const struct request *request, struct response *response);
void handle_metrics(void *context, const struct request *request, struct response *response);
void handle_healthz(void *context, const struct request *request, struct response *response);
void handle_readyz(void *context, const struct request *request, struct response *response);

void handle_openapi(void *context, const struct request *request, struct response *response);
void handle_problem_text(void *context, const struct request *request, struct response *response);
void handle_page(void *context, const struct request *request, struct response *response);
void handle_script(void *context, const struct request *request, struct response *response);
void handle_style(void *context, const struct request *request, struct response *response);

#endif
