/* GET /metrics: everything that a monitor counts, in the text format of Prometheus 0.0.4.
 *
 * Label values come from tables of ours or from columns that only hold words of ours, so their number is bounded. A
 * scrape reads rows' numbers from indexes and counters from memory; no request waits for it but another reader. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/host/process.h"
#include "api/http/problem.h"
#include "api/resource/api.h"
#include "api/resource/handle.h"

#define MEDIA_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum { LABELS_BYTES = 200 }; /* of a request's histogram: the longest route has 80 */

static void family(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
    family(out, name, type, help);
    fprintf(out, "%s %llu\n", name, (unsigned long long)value);
}

/* @labels: without braces, "" for none */
static void histogram(FILE *out, const char *name, const char *labels, const struct histogram_view *view)
{
    const char *comma = labels[0] == '\0' ? "" : ",";
    const char *open = labels[0] == '\0' ? "" : "{";
    const char *close = labels[0] == '\0' ? "" : "}";
    uint64_t below = 0;
    for (unsigned i = 0; i < HISTOGRAM_STEPS; i++) {
        below += view->counts[i];
        fprintf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, labels, comma, (double)histogram_bound_us(i) / 1e6,
                (unsigned long long)below);
    }
    fprintf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, labels, comma, (unsigned long long)view->total);
    fprintf(out, "%s_sum%s%s%s %.6f\n", name, open, labels, close, (double)view->sum_us / 1e6);
    fprintf(out, "%s_count%s%s%s %llu\n", name, open, labels, close, (unsigned long long)view->total);
}

/* ---- the store's numbers --------------------------------------------------------------------------------------- */

/* A family of the census; its lines are made while the rows come, and written when all have. */
struct census_family {
    const char *subject;
    const char *name;
    const char *type;
    const char *help;
    const char *label; /* NULL: no labels */
};

static const struct census_family census_families[] = {
    {"leases", "omertad_leases", "gauge", "Leases by state and mode; of those that have ended the ones that are kept.",
     "state"},
    {"tunnels", "omertad_tunnels", "gauge", "Tunnels of leases that have not ended.", "state"},
    {"violations", "omertad_violations_total", "counter", "Frames that broke a lease's promise, ever.", "code"},
    {"terminations", "omertad_terminations_total", "counter", "Leases that have ended, ever.", "reason"},
    {"events", "omertad_events_total", "counter", "Events, ever: the newest sequence.", NULL},
};

enum { CENSUS_FAMILIES = sizeof census_families / sizeof census_families[0] };

/* Rows of one subject come together, and in this order. */
struct census {
    FILE *out;
    const struct census_family *current;
};

static int census_line(void *context, const struct store_number *number)
{
    struct census *census = context;
    for (size_t i = 0; i < CENSUS_FAMILIES; i++) {
        const struct census_family *one = &census_families[i];
        if (strcmp(one->subject, number->subject) != 0)
            continue;
        if (census->current != one)
            family(census->out, one->name, one->type, one->help);
        census->current = one;
        fputs(one->name, census->out);
        if (one->label != NULL)
            fprintf(census->out, "{%s=\"%s\"", one->label, number->label);
        if (number->mode[0] != '\0')
            fprintf(census->out, ",mode=\"%s\"", number->mode);
        fprintf(census->out, "%s %llu\n", one->label == NULL ? "" : "}", (unsigned long long)number->value);
    }
    return 0;
}

static void write_store(FILE *out, struct api *api)
{
    struct census census = {.out = out};
    struct error err = {0};
    int result = store_census(api->store, census_line, &census, &err);
    if (result < 0)
        log_line(api->log, LOG_ERROR, "store.failed", "what=census cause=\"%s\"", err.message);
    single(out, "omertad_store_up", "gauge", "Whether the store could be read for this answer.", result == 0);
    struct histogram_view commits;
    store_commit_times(api->store, &commits);
    family(out, "omertad_store_commit_duration_seconds", "histogram", "Commits of the store, each of them durable.");
    histogram(out, "omertad_store_commit_duration_seconds", "", &commits);
}

/* ---- the NATs' numbers ----------------------------------------------------------------------------------------- */

static void outbound(FILE *out, const char *name, const char *help, const uint64_t values[static NAT_REASON_COUNT])
{
    family(out, name, "counter", help);
    for (unsigned i = 0; i < NAT_REASON_COUNT; i++) {
        enum nat_reason reason = (enum nat_reason)i;
        fprintf(out, "%s{verdict=\"%s\",reason=\"%s\"} %llu\n", name, nat_verdict_name(nat_verdict_of(reason)),
                nat_reason_name(reason), (unsigned long long)values[i]);
    }
}

static void inbound(FILE *out, const char *name, const char *help, const uint64_t values[static NAT_INBOUND_COUNT])
{
    family(out, name, "counter", help);
    for (unsigned i = 0; i < NAT_INBOUND_COUNT; i++)
        fprintf(out, "%s{outcome=\"%s\"} %llu\n", name, nat_inbound_name((enum nat_inbound)i),
                (unsigned long long)values[i]);
}

static void write_nats(FILE *out, struct api *api)
{
    struct nat_stats totals;
    size_t machines;
    if (!lease_service_totals(api->service, &totals, &machines))
        return;
    single(out, "omertad_machines", "gauge", "Machines that are there.", machines);
    outbound(out, "omertad_nat_frames_total", "Frames from guests since the daemon's start.", totals.frames);
    outbound(out, "omertad_nat_frame_bytes_total", "Bytes of frames from guests since the daemon's start.",
             totals.bytes);
    inbound(out, "omertad_nat_inbound_packets_total", "Packets from consumers since the daemon's start.",
            totals.inbound_packets);
    inbound(out, "omertad_nat_inbound_bytes_total", "Bytes of packets from consumers since the daemon's start.",
            totals.inbound_bytes);
    single(out, "omertad_nat_flows", "gauge", "Flows that are open.", totals.flows_open);
    single(out, "omertad_nat_flows_opened_total", "counter", "Flows opened since the daemon's start.",
           totals.flows_opened);
}

/* ---- the node -------------------------------------------------------------------------------------------------- */

static void resources(FILE *out, const char *name, const char *help, const struct store_resources *of)
{
    family(out, name, "gauge", help);
    fprintf(out, "%s{resource=\"leases\"} %u\n%s{resource=\"vcpus\"} %u\n", name, of->leases, name, of->vcpus);
    fprintf(out, "%s{resource=\"memory_mib\"} %llu\n%s{resource=\"disk_mib\"} %llu\n", name,
            (unsigned long long)of->memory_mib, name, (unsigned long long)of->disk_mib);
}

static void write_node(FILE *out, const struct api *api)
{
    struct store_resources used;
    family(out, "omertad_build_info", "gauge", "Always 1; what runs stands in the labels.");
    fprintf(out, "omertad_build_info{version=\"%s\"} 1\n", OMERTAD_VERSION);
    resources(out, "omertad_capacity", "What the machine gives to leases.", &api->config->capacity);
    if (store_capacity_used(api->store, &used, NULL) == 0)
        resources(out, "omertad_capacity_used", "What leases that have not ended take of it.", &used);
}

static void write_process(FILE *out, const struct api *api)
{
    struct process_usage usage;
    process_usage_read(&usage);
    single(out, "process_resident_memory_bytes", "gauge", "Resident memory of the daemon.", usage.resident_bytes);
    single(out, "process_virtual_memory_bytes", "gauge", "Virtual memory of the daemon.", usage.virtual_bytes);
    single(out, "process_open_fds", "gauge", "Open descriptors of the daemon.", usage.descriptors);
    single(out, "process_max_fds", "gauge", "How many it may open.", usage.descriptors_max);
    single(out, "process_threads", "gauge", "Threads of the daemon.", usage.threads);
    family(out, "process_cpu_seconds_total", "counter", "User and system time of the daemon.");
    fprintf(out, "process_cpu_seconds_total %.3f\n", usage.cpu_s);
    family(out, "process_start_time_seconds", "gauge", "When the daemon started, since 1970.");
    fprintf(out, "process_start_time_seconds %.3f\n", (double)api->started_ms / 1000);
}

/* ---- requests -------------------------------------------------------------------------------------------------- */

static void write_requests(FILE *out, const struct observer *observer)
{
    static const char name[] = "omertad_http_request_duration_seconds";
    static const struct route unmatched = {.method = REQUEST_OTHER, .pattern = ""};
    family(out, name, "histogram",
           "From the request line to the answer, by route and status; no route: refused before.");
    size_t count = 0;
    while (observer->routes[count].pattern != NULL)
        count++;
    for (size_t i = 0; i <= count; i++) {
        size_t place = i < count ? i : OBSERVE_ROUTES_MAX;
        const struct route *route = i < count ? &observer->routes[i] : &unmatched;
        for (unsigned class = 0; class < OBSERVE_CLASSES; class ++) {
            struct histogram_view view;
            char labels[LABELS_BYTES];
            histogram_read(&observer->times[place][class], &view);
            if (view.total == 0)
                continue;
            snprintf(labels, sizeof labels, "method=\"%s\",route=\"%s\",status=\"%uxx\"",
                     i < count ? request_method_name(route->method) : "", route->pattern, class + 2);
            histogram(out, name, labels, &view);
        }
    }
}

void handle_metrics(void *context, const struct request *request, struct response *response)
{
    struct api *api = context;
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (out != NULL) {
        write_node(out, api);
        write_store(out, api);
        write_nats(out, api);
        write_requests(out, api->observer);
        write_process(out, api);
        bool whole = ferror(out) == 0;
        if (fclose(out) == 0 && whole) {
            response_take(response, 200, MEDIA_TYPE, text, length, free);
            return;
        }
    }
    free(text);
    problem_respond(response, request, PROBLEM_INTERNAL_ERROR, "There was no memory for the answer.");
}
