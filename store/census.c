/* Numbers of rows for a monitor: one statement, so that they belong to one moment. */
#include "store/internal.h"

/* SQLite keeps the newest number that AUTOINCREMENT gave, also when its row is gone. */
static const char numbers[] =
    "SELECT 'leases', state, mode, count(*) FROM leases GROUP BY state, mode"
    " UNION ALL SELECT 'tunnels', tunnel_state, '', count(*) FROM leases JOIN peers ON lease_id = leases.id"
    " WHERE state <> 'terminated' GROUP BY tunnel_state"
    " UNION ALL SELECT subject, label, '', value FROM totals"
    " UNION ALL SELECT 'events', '', '', seq FROM sqlite_sequence WHERE name = 'events'";

int store_census(struct store *store, store_number_each each, void *context, struct error *err)
{
    struct query query = {0};
    int result = store_read(store, &query, numbers, err);
    while (result == 0 && (result = query_step(&query)) == 1) {
        struct store_number number = {0};
        QUERY_FIELD(&query, number.subject);
        QUERY_FIELD(&query, number.label);
        QUERY_FIELD(&query, number.mode);
        number.value = query_u64(&query);
        result = query.code < 0 ? query.code : each(context, &number);
    }
    store_read_done(store, &query);
    return result;
}

void store_commit_times(const struct store *store, struct histogram_view *ret_view)
{
    histogram_read(&store->commits, ret_view);
}
