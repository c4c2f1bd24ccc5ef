/* What a NAT thread may still do once it runs: nat/confine.c holds the table. */
#ifndef NAT_CONFINE_H
#define NAT_CONFINE_H

#include "base/confine.h"
#include "nat/nat.h"

/**
 * nat_confine_table() - The system calls of a NAT thread, each with its reason
 * @ret_count: rules, some of them for the same call
 * Return:     constant
 * Thread:     any
 */
const struct confine_rule *nat_confine_table(size_t *ret_count);

/**
 * nat_confinement_program() - The program for a NAT thread with this attachment
 * Return: the confinement's
 * Thread: any
 */
const struct confine_program *nat_confinement_program(const struct nat_confinement *confinement,
                                                      const struct nat_config *config);

#endif
