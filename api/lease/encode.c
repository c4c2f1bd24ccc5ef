#include "api/lease/encode.h"

#include <sodium.h>
#include <string.h>

#include "api/lease/mode.h"
#include "base/clock.h"
#include "base/log.h"

/* Packing stops at the first part that is NULL and frees the others, so a lack of memory yields NULL at the top. */

json_t *encode_time(uint64_t unix_ms)
{
    char text[CLOCK_TEXT_BYTES];
    return unix_ms == 0 ? json_null() : json_string(clock_format(unix_ms, text));
}

static json_t *integer(uint64_t value)
{
    return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

/* A string, or null for an empty one. Text that is not UTF-8, as a guest may have chosen it, is shown escaped. */
static json_t *text_or_null(const char *text)
{
    if (text[0] == '\0')
        return json_null();
    json_t *json = json_string(text);
    char escaped[STORE_DETAIL_BYTES * 4];
    return json != NULL ? json : json_string(log_escape(text, strlen(text), escaped, sizeof escaped));
}

static json_t *port_or_null(uint32_t port)
{
    return port == 0 ? json_null() : integer(port);
}

/* ---- leases ---------------------------------------------------------------------------------------------------- */

static bool is_direct(const struct store_lease *lease)
{
    return strcmp(lease->mode, mode_name(MODE_DIRECT)) == 0;
}

static const char *enforcement(const struct store_lease *lease)
{
    if (is_direct(lease))
        return "none"; /* the guest's own firewall is all there is */
    if (lease_is_final(lease->state))
        return "ended";
    if (lease->policy_observed == 0)
        return "deny_all";
    return lease->policy_observed == lease->policy_desired ? "enforcing" : "updating";
}

static json_t *ending(const struct store_lease *lease)
{
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "reason", lease_reason_name(lease->reason),
                     "initiated_by", lease->initiated_by, "detail", text_or_null(lease->termination_detail),
                     "violation_id", text_or_null(lease->violation_id), "exit_code",
                     lease->exit_code < 0 ? json_null() : json_integer(lease->exit_code), "signal",
                     lease->signal == 0 ? json_null() : json_integer(lease->signal), "detected_at",
                     encode_time(lease->detected_ms), "stopped_at", encode_time(lease->stopped_ms));
}

static json_t *lease_parties(const struct store_lease *lease)
{
    json_t *ssh = lease->ssh_user[0] == '\0' ? json_null() : json_pack("{s:s}", "user", lease->ssh_user);
    return json_pack("{s:{s:s, s:s, s:s}, s:{s:o, s:s}, s:o}", "consumer", "public_key", lease->consumer_public_key,
                     "endpoint", lease->consumer_endpoint, "tunnel_ip", lease->consumer_tunnel_ip, "vm", "public_key",
                     text_or_null(lease->vm_public_key), "tunnel_ip", lease->vm_tunnel_ip, "ssh", ssh);
}

static json_t *integer_or_null(uint64_t value)
{
    return value == 0 ? json_null() : integer(value);
}

static json_t *rate_or_null(uint32_t ppm)
{
    return ppm == 0 ? json_null() : json_real((double)ppm / NAT_SAMPLING_PPM_MAX);
}

static json_t *sampling(const struct store_lease *lease)
{
    if (lease->sampling_ppm == 0)
        return json_null();
    return json_pack("{s:o, s:o, s:o}", "rate", rate_or_null(lease->sampling_ppm), "packets_for_50_percent",
                     integer(sampling_packets(lease->sampling_ppm, 50)), "packets_for_99_percent",
                     integer(sampling_packets(lease->sampling_ppm, 99)));
}

static json_t *limits(const struct store_lease *lease)
{
    return json_pack("{s:o, s:o, s:o, s:o}", "egress_bits_per_s", integer_or_null(lease->egress_bits_per_s),
                     "ingress_bits_per_s", integer_or_null(lease->ingress_bits_per_s), "egress_packets_per_s",
                     integer_or_null(lease->egress_packets_per_s), "ingress_packets_per_s",
                     integer_or_null(lease->ingress_packets_per_s));
}

/* No tunnel is watched where there is no NAT. */
static const char *tunnel_state(const struct store_lease *lease)
{
    bool watched = !is_direct(lease) || strcmp(lease->tunnel_state, nat_tunnel_name(NAT_TUNNEL_WAITING)) != 0;
    return watched ? lease->tunnel_state : "unobserved";
}

static json_t *lease_network(const struct store_lease *lease)
{
    return json_pack("{s:{s:s, s:s, s:s, s:o, s:o, s:s, s:b, s:o, s:o}, s:o}", "network", "mode", lease->mode,
                     "guest_ip", lease->guest_ip, "guest_mac", lease->guest_mac, "sampling_rate",
                     rate_or_null(lease->sampling_ppm), "sampling", sampling(lease), "boot_isolation",
                     lease->boot_isolation, "require_wireguard", (int)lease->require_wireguard, "limits", limits(lease),
                     "exposed_ms", integer_or_null(lease->exposed_ms), "on_violation",
                     is_direct(lease) ? json_null() : json_string(lease->on_violation));
}

static json_t *lease_filter(const struct store_lease *lease)
{
    return json_pack("{s:{s:s, s:o, s:o, s:s}, s:{s:s, s:o, s:o}}", "filter", "enforcement", enforcement(lease),
                     "desired_generation", integer(lease->policy_desired), "observed_generation",
                     integer(lease->policy_observed), "kernel_filter",
                     nat_kernel_filter_name(NAT_KERNEL_FILTER_UNSUPPORTED), "tunnel", "state", tunnel_state(lease),
                     "established_at", encode_time(lease->tunnel_established_ms), "last_handshake_at",
                     encode_time(lease->tunnel_last_handshake_ms));
}

void encode_kernel_filter(json_t *lease, enum nat_kernel_filter kernel_filter)
{
    json_object_set_new(json_object_get(lease, "filter"), "kernel_filter",
                        json_string(nat_kernel_filter_name(kernel_filter)));
}

/* Add the members of @more to @json. Takes both; yields NULL when either is. */
static json_t *merged(json_t *json, json_t *more)
{
    if (json != NULL && (more == NULL || json_object_update(json, more) != 0)) {
        json_decref(json);
        json = NULL;
    }
    json_decref(more);
    return json;
}

static json_t *lease_limits(const struct store_lease *lease)
{
    return json_pack("{s:o, s:o, s:o}", "expires_at", encode_time(lease->expires_ms), "ttl_s",
                     integer_or_null(lease->ttl_s), "heartbeat_timeout_s", integer_or_null(lease->heartbeat_timeout_s));
}

static json_t *lease_image(const struct store_lease *lease)
{
    if (lease->image[0] == '\0')
        return json_null(); /* somebody else runs the VM */
    return json_pack("{s:s, s:o}", "name", lease->image, "digest", text_or_null(lease->image_digest));
}

json_t *encode_lease(const struct store_lease *lease)
{
    json_t *json =
        json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:{s:s, s:o}, s:o, s:{s:o, s:o, s:o}, s:o, s:o}", "id",
                  lease->id.text, "generation", integer(lease->generation), "state", lease_state_name(lease->state),
                  "state_reason", text_or_null(lease->state_detail), "created_at", encode_time(lease->created_ms),
                  "started_at", encode_time(lease->started_ms), "attachment", "kind", lease->attachment, "socket_path",
                  text_or_null(lease->socket_path), "image", lease_image(lease), "resources", "vcpus",
                  integer(lease->resources.vcpus), "memory_mib", integer(lease->resources.memory_mib), "disk_mib",
                  integer(lease->resources.disk_mib), "accelerator", text_or_null(lease->accelerator), "labels",
                  json_loads(lease->labels, JSON_REJECT_DUPLICATES, NULL));
    json = merged(json, lease_limits(lease));
    json = merged(json, lease_parties(lease));
    json = merged(json, lease_network(lease));
    json = merged(json, lease_filter(lease));
    return merged(json,
                  json_pack("{s:o}", "termination", lease->reason == LEASE_REASON_NONE ? json_null() : ending(lease)));
}

json_t *encode_termination(const struct store_lease *lease)
{
    json_t *json = json_pack("{s:s, s:o, s:s, s:o}", "lease_id", lease->id.text, "image", text_or_null(lease->image),
                             "mode", lease->mode, "created_at", encode_time(lease->created_ms));
    return merged(json, ending(lease));
}

/* ---- violations, events, peers --------------------------------------------------------------------------------- */

static json_t *evidence(const struct store_violation *violation)
{
    if (violation->evidence_bytes == 0)
        return json_null();
    unsigned char hash[crypto_hash_sha256_BYTES];
    char hex[crypto_hash_sha256_BYTES * 2 + 1];
    crypto_hash_sha256(hash, violation->evidence, violation->evidence_bytes);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    return json_pack("{s:o, s:s}", "bytes", integer(violation->evidence_bytes), "sha256", hex);
}

json_t *encode_violation(const struct store_violation *violation)
{
    json_t *json = json_pack("{s:s, s:s, s:o, s:o, s:o, s:s, s:s, s:s, s:s, s:b}", "id", violation->id.text, "lease_id",
                             violation->lease_id.text, "first_seen_at", encode_time(violation->first_seen_ms),
                             "last_seen_at", encode_time(violation->last_seen_ms), "count", integer(violation->count),
                             "code", violation->code, "mode", violation->mode, "verdict", violation->verdict, "source",
                             violation->source, "overflow", (int)violation->overflow);
    json_t *frame = json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "ethertype", integer(violation->ethertype),
        "ip_protocol", integer(violation->ip_protocol), "source_mac", text_or_null(violation->source_mac), "source_ip",
        text_or_null(violation->source_ip), "source_port", port_or_null(violation->source_port), "destination_ip",
        text_or_null(violation->destination_ip), "destination_port", port_or_null(violation->destination_port),
        "frame_bytes", integer(violation->frame_bytes), "policy_generation", integer(violation->policy_generation),
        "detection_latency_us", integer(violation->detection_latency_us), "evidence", evidence(violation));
    json_t *stop =
        json_pack("{s:o, s:o}", "sampling_rate", rate_or_null(violation->sampling_ppm), "stop_latency_ms",
                  strcmp(violation->verdict, "terminated") == 0 ? integer(violation->stop_latency_ms) : json_null());
    return merged(merged(json, frame), stop);
}

json_t *encode_drain(const struct store_drain *drain)
{
    return json_pack("{s:b, s:o, s:o}", "draining", (int)drain->draining, "generation", integer(drain->generation),
                     "changed_at", encode_time(drain->changed_ms));
}

json_t *encode_event(const struct store_event *event, const char *epoch)
{
    return json_pack("{s:o, s:o, s:o, s:s, s:o, s:o, s:o}", "id",
                     json_sprintf("%s-%llu", epoch, (unsigned long long)event->sequence), "sequence",
                     integer(event->sequence), "at", encode_time(event->at_ms), "type", event->type, "lease_id",
                     text_or_null(event->lease_id), "trace_id", text_or_null(event->trace_id), "data",
                     json_loads(event->data, JSON_REJECT_DUPLICATES, NULL));
}

json_t *encode_peer(const struct store_peer *peer)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:{s:o, s:s}, s:{s:s, s:o, s:o}, s:o}", "public_key", peer->public_key,
                     "lease_id", peer->lease_id.text, "lease_state", lease_state_name(peer->lease_state), "endpoint",
                     peer->endpoint, "tunnel_ip", peer->tunnel_ip, "vm", "public_key",
                     text_or_null(peer->vm_public_key), "tunnel_ip", peer->vm_tunnel_ip, "tunnel", "state",
                     peer->tunnel_state, "established_at", encode_time(peer->established_ms), "last_handshake_at",
                     encode_time(peer->last_handshake_ms), "created_at", encode_time(peer->created_ms));
}

/* ---- counters -------------------------------------------------------------------------------------------------- */

static json_t *outbound_counters(const struct nat_stats *stats)
{
    json_t *list = json_array();
    for (int i = 0; i < NAT_REASON_COUNT; i++) {
        enum nat_reason reason = (enum nat_reason)i;
        json_t *one =
            json_pack("{s:s, s:s, s:b, s:o, s:o}", "reason", nat_reason_name(reason), "verdict",
                      nat_verdict_name(nat_verdict_of(reason)), "violation", (int)nat_reason_is_violation(reason),
                      "frames", integer(stats->frames[i]), "bytes", integer(stats->bytes[i]));
        if (json_array_append_new(list, one) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *inbound_counters(const struct nat_stats *stats)
{
    json_t *list = json_array();
    for (int i = 0; i < NAT_INBOUND_COUNT; i++) {
        json_t *one = json_pack("{s:s, s:o, s:o}", "outcome", nat_inbound_name((enum nat_inbound)i), "packets",
                                integer(stats->inbound_packets[i]), "bytes", integer(stats->inbound_bytes[i]));
        if (json_array_append_new(list, one) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *wall_time(uint64_t at_mono_ms, uint64_t mono_ms, uint64_t wall_ms)
{
    if (at_mono_ms == 0)
        return json_null();
    return encode_time(wall_ms - (mono_ms > at_mono_ms ? mono_ms - at_mono_ms : 0));
}

json_t *encode_stats(const struct nat_stats *stats, uint64_t mono_ms, uint64_t wall_ms)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:{s:s, s:o, s:o}}", "read_at",
                     encode_time(wall_ms), "from_guest", outbound_counters(stats), "from_consumer",
                     inbound_counters(stats), "violations", integer(stats->violations), "flows_opened",
                     integer(stats->flows_opened), "flows_open", integer(stats->flows_open), "policy_generation",
                     integer(stats->policy_generation), "kernel_filter", nat_kernel_filter_name(stats->kernel_filter),
                     "kernel_filter_closings", integer(stats->kernel_filter_closings), "tunnel", "state",
                     nat_tunnel_name(stats->tunnel), "established_at",
                     wall_time(stats->tunnel_established_ms, mono_ms, wall_ms), "last_handshake_at",
                     wall_time(stats->tunnel_last_handshake_ms, mono_ms, wall_ms));
}

/* ---- policies and flows ---------------------------------------------------------------------------------------- */

static json_t *endpoint(struct nat_endpoint value)
{
    char text[NAT_ENDPOINT_TEXT_BYTES];
    return json_string(nat_endpoint_format(value, text));
}

static json_t *allowlist(const struct nat_policy *policy)
{
    json_t *list = json_array();
    for (size_t i = 0; i < policy->allow_count; i++) {
        if (json_array_append_new(list, endpoint(policy->allow[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *encode_policy(const struct store_lease *lease, const struct nat_policy *policy)
{
    return json_pack(
        "{s:o, s:o, s:o, s:s, s:s, s:o, s:o, s:s, s:s, s:o, s:s, s:b}", "generation", integer(policy->generation),
        "desired_generation", integer(lease->policy_desired), "observed_generation", integer(lease->policy_observed),
        "enforcement", enforcement(lease), "mode", lease->mode, "sampling", sampling(lease), "allowlist",
        allowlist(policy), "consumer_endpoint", lease->consumer_endpoint, "vm_endpoint",
        lease->vm_endpoint[0] == '\0' ? lease->consumer_endpoint : lease->vm_endpoint, "limits", limits(lease),
        "on_violation", lease->on_violation, "require_wireguard", (int)lease->require_wireguard);
}

static json_t *fate(const struct nat_evaluation *evaluation)
{
    bool goes = evaluation->verdict == NAT_FORWARD;
    return json_pack("{s:s, s:s, s:b, s:o}", "verdict", nat_verdict_name(evaluation->verdict), "reason",
                     nat_reason_name(evaluation->reason), "violation", (int)evaluation->violation, "forwarded_to",
                     goes ? endpoint(evaluation->destination) : json_null());
}

json_t *encode_evaluation(const struct nat_policy *policy, size_t frame_bytes, const struct nat_evaluation *drawn,
                          const struct nat_evaluation *passed_over)
{
    json_t *json = json_pack("{s:o, s:s, s:o, s:o}", "policy_generation", integer(policy->generation), "mode",
                             nat_mode_name(policy->mode), "frame_bytes", integer(frame_bytes), "when_not_sampled",
                             passed_over == NULL ? json_null() : fate(passed_over));
    return merged(json, fate(drawn));
}

json_t *encode_flows(const struct nat_flow *flows, size_t count, uint64_t mono_ms, uint64_t wall_ms)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        const struct nat_flow *flow = &flows[i];
        json_t *one =
            json_pack("{s:i, s:o, s:b, s:o, s:o, s:{s:o, s:o}, s:{s:o, s:o}}", "guest_port", (int)flow->guest_port,
                      "endpoint", endpoint(flow->consumer), "answered", (int)flow->listens, "opened_at",
                      wall_time(flow->opened_ms, mono_ms, wall_ms), "used_at",
                      wall_time(flow->used_ms, mono_ms, wall_ms), "from_guest", "packets", integer(flow->sent_packets),
                      "payload_bytes", integer(flow->sent_bytes), "from_consumer", "packets",
                      integer(flow->received_packets), "payload_bytes", integer(flow->received_bytes));
        if (json_array_append_new(list, one) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return json_pack("{s:o, s:o, s:n}", "read_at", encode_time(wall_ms), "items", list, "next_cursor");
}

/* ---- images and the machine ------------------------------------------------------------------------------------ */

json_t *encode_image(const struct vmm_image *image)
{
    return json_pack("{s:s, s:o, s:s, s:s, s:o, s:o, s:{s:s, s:s, s:o}, s:{s:s, s:s, s:o}}", "name", image->name,
                     "description", text_or_null(image->description), "architecture", image->architecture, "digest",
                     image->digest, "bytes", integer(image->bytes), "min_memory_mib", integer(image->min_memory_mib),
                     "kernel", "file", image->kernel_file, "sha256", image->kernel_sha256, "bytes",
                     integer(image->kernel_bytes), "initrd", "file", image->initrd_file, "sha256", image->initrd_sha256,
                     "bytes", integer(image->initrd_bytes));
}

json_t *encode_resources(const struct store_resources *resources)
{
    return json_pack("{s:o, s:o, s:o, s:o}", "leases", integer(resources->leases), "vcpus", integer(resources->vcpus),
                     "memory_mib", integer(resources->memory_mib), "disk_mib", integer(resources->disk_mib));
}
