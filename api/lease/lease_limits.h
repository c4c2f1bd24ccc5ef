/* The time limits of leases, between the rows that keep them and the thread that waits for them. What handlers call of it
 * stands in lease_service.h. */
#ifndef API_LEASE_LEASE_LIMITS_H
#define API_LEASE_LEASE_LIMITS_H

#include "api/lease/lease_service.h"

/** lease_limits_end_in() - When a lease ends that has @ttl_s from now on. Thread: any */
struct store_renewal lease_limits_end_in(const struct lease_service *service, uint64_t ttl_s);

/** lease_limits_fill() - Put an end into a row; a ttl of 0 is none. Thread: any */
void lease_limits_fill(struct store_lease *row, const struct store_renewal *end);

/** lease_limits_span() - What there is to wait for in a row. Thread: any */
struct lease_span lease_limits_span(const struct lease_service *service, const struct store_lease *row);

/**
 * lease_limits_came() - A time limit has come
 * @context: struct lease_service
 * Thread:   the watch's, which tells it again until the lease has ended, so that no order is lost
 */
void lease_limits_came(void *context, const struct id *id, enum lease_due due);

#endif
