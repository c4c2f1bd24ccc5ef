/* The lease that a path /v1/leases/{id}... names. */
#ifndef API_RESOURCE_LEASE_PATH_H
#define API_RESOURCE_LEASE_PATH_H

#include <stdbool.h>

#include "api/http/request.h"
#include "api/http/response.h"
#include "api/resource/api.h"

/**
 * lease_path_id() - The {id} of the path
 * Return: true; false when the response says that an id of this form names no lease
 * Thread: the exchange's
 */
bool lease_path_id(const struct request *request, struct response *response, struct id *ret_id);

/** lease_path_lease() - The id and the row. Return: true; false when the response says why not. Thread: the exchange's */
bool lease_path_lease(struct api *api, const struct request *request, struct response *response, struct id *ret_id,
                      struct store_lease *ret_lease);

/** lease_offer_read() - What requests are checked against at this moment. Return: 0 or negative. Thread: any */
int lease_offer_read(const struct api *api, struct lease_offer *ret_offer, struct error *err);

/** lease_respond() - Answer with a lease and its ETag, which does not stand for the state of its kernel filter. Thread: the exchange's */
void lease_respond(struct api *api, struct response *response, unsigned status, const struct store_lease *lease);

#endif
