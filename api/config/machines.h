/* What the machines are told of the configuration. */
#ifndef API_CONFIG_MACHINES_H
#define API_CONFIG_MACHINES_H

#include "api/config/config.h"
#include "vmm/vmm.h"

/** machines_program() - The configured hypervisor's name or path. Thread: any */
const char *machines_program(const struct config *config);

/** machines_config() - Without log and callback. @config: the result points into it. Thread: any */
struct vmm_config machines_config(const struct config *config);

#endif
