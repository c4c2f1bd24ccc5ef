/* The firewall of a direct machine's namespace, as text for nft(8). Pure. */
#ifndef VMM_DIRECT_RULES_H
#define VMM_DIRECT_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "nat/nat.h"

#define DIRECT_TAP "vm0"    /* towards the guest */
#define DIRECT_UPLINK "up0" /* towards pasta, and so the world */

enum direct_rules_limits {
    DIRECT_OWN_MAX = 256,         /* a host of containers has a bridge address for each of its networks */
    DIRECT_RULES_BYTES = 8192,    /* 256 addresses take 4,352 */
    DIRECT_ELEMENTS_BYTES = 5120, /* the same, alone */
};

/**
 * struct direct_rules - What the rules are printed from
 * @consumer:      reachable by UDP even in a private range
 * @allow_private: private ranges are reachable like the internet
 * @own:           the host's own addresses, all of them
 *
 * Owner: whoever holds the copy. It has no pointers: it is handed to the launcher as it stands.
 */
struct direct_rules {
    struct nat_endpoint consumer;
    bool allow_private;
    size_t own_count;
    uint32_t own[DIRECT_OWN_MAX];
};

/**
 * direct_rules_print() - The whole ruleset of a fresh namespace
 * @ret_text: filled and terminated on success
 * Return:    its length; -EINVAL when @own has no address outside of 127/8 (then it cannot be the whole set) or when
 *            there is no consumer
 * Thread:    any
 */
int direct_rules_print(const struct direct_rules *rules, char ret_text[static DIRECT_RULES_BYTES], struct error *err);

/**
 * direct_rules_print_own() - Replaces the set of own addresses, as one transaction
 * @ret_text: filled and terminated on success
 * Return:    its length; -EINVAL as above
 * Thread:    any
 */
int direct_rules_print_own(const uint32_t *own, size_t own_count, char ret_text[static DIRECT_ELEMENTS_BYTES],
                           struct error *err);

#endif
