/* What an earlier daemon left: machines that run on are taken over, everything else is ended. */
#ifndef API_LEASE_LEASE_RECOVER_H
#define API_LEASE_LEASE_RECOVER_H

#include "api/lease/lease_service.h"

/**
 * lease_recover() - Adopt the machines of leases that had not ended; end those that cannot be, with their leases
 *
 * Every such lease is `recovering` until its machine is proved and its filter enforces the stored policy; what cannot be
 * proved ends with `recovery_failed`. An external lease has no machine of ours: its socket is opened again. Leases in
 * direct mode are ended: their namespace has died with the daemon.
 *
 * Return: 0; negative when the store cannot be read or written
 * Thread: the service's owner, with the vmm attached and before anybody may ask for a lease
 */
int lease_recover(struct lease_service *service, struct error *err);

#endif
