/* nat/ carries the frames of one VM: it parses each one, judges it against the lease's policy, answers ARP and
 * DHCP itself, forwards allowed UDP through sockets connected to the consumer, and drops all else.
 *
 * This header is the folder's border. Only descriptors and plain values cross it, so that the NAT threads
 * could move into a process of their own by changing nat.c alone. */
#ifndef NAT_NAT_H
#define NAT_NAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum nat_limits {
    NAT_ALLOW_MAX = 16,          /* a lease has one consumer; the rest is room for its other addresses */
    NAT_EVIDENCE_BYTES = 96,     /* headers only: Ethernet 14 + IPv4 60 + first bytes of the transport header */
    NAT_MTU_MIN = 576,           /* RFC 791: every host accepts this much */
    NAT_OWN_MAX = 256,           /* the provider's own addresses; a host of containers has a bridge for each network */
    NAT_FLOWS_MIN = 4,           /* WireGuard needs one, and one more while it changes its port */
    NAT_FLOWS_MAX = 64,          /* sockets that one guest can make us open */
    NAT_SAMPLING_PPM_MIN = 1000, /* one packet in a thousand */
    NAT_SAMPLING_PPM_MAX = 1000000, /* every packet */
    NAT_SAMPLING_PPM_DEFAULT = 10000,
    NAT_BUSY_POLL_MAX_US = 1000, /* a longer look costs more than any wake-up */
    NAT_MTU_MAX = 1500,          /* Ethernet; a guest that sends more is dropped as malformed */
};

/* Largest limit a second, of bits or packets: a thousand times what a network card does. */
#define NAT_RATE_MAX UINT64_C(1000000000000)

/** enum nat_mode - What the NAT promises about the frames of a lease. */
enum nat_mode {
    NAT_MODE_FILTERED,  /* every frame is judged; nothing but the allowlist is forwarded */
    NAT_MODE_CONNTRACK, /* the first packet to each destination is judged in full, then a table answers */
    NAT_MODE_SAMPLED,   /* an unpredictable share of the frames is judged; of the rest UDP is forwarded unchecked */
    NAT_MODE_COUNT,
};

/** enum nat_framing - How frames lie on the attachment. */
enum nat_framing {
    NAT_FRAMING_DATAGRAM, /* unix datagram socket, one Ethernet frame a datagram */
    NAT_FRAMING_STREAM,   /* unix stream socket, each frame behind its length in four bytes, most significant first */
};

/** enum nat_kernel_filter - Whether the kernel itself drops what the policy forbids, before the NAT sees it. */
enum nat_kernel_filter {
    NAT_KERNEL_FILTER_UNSUPPORTED, /* a stream, or a system without such filters */
    NAT_KERNEL_FILTER_INACTIVE,    /* as a rule: every frame is seen */
    NAT_KERNEL_FILTER_ACTIVE,      /* during a flood of forbidden frames: what it drops is in no counter */
    NAT_KERNEL_FILTER_COUNT,
};

/** enum nat_verdict - What happens to one frame. DROP is zero, so that a forgotten verdict drops. */
enum nat_verdict { NAT_DROP, NAT_ANSWER, NAT_FORWARD, NAT_TERMINATE, NAT_VERDICT_COUNT };

/**
 * enum nat_reason - Why a frame from the VM got its verdict; the index of the counters
 *
 * From NAT_REASON_MALFORMED to NAT_REASON_NOT_WIREGUARD each is a violation as well.
 */
enum nat_reason {
    NAT_REASON_ALLOWED,      /* FORWARD: UDP to an allowlisted endpoint */
    NAT_REASON_ARP,          /* ANSWER */
    NAT_REASON_DHCP,         /* ANSWER */
    NAT_REASON_IGNORED,      /* DROP: what a guest kernel says by itself (ND, MLD, IGMP, mDNS, LLDP, broadcast) */
    NAT_REASON_GATE_SHUT,    /* DROP: not armed yet, or shut for good */
    NAT_REASON_UPLINK,       /* DROP: judged FORWARD, but no socket or the kernel refused the datagram */
    NAT_REASON_UNCHECKED,    /* FORWARD, sampled mode: UDP that was not drawn */
    NAT_REASON_UNSAMPLED,    /* DROP, sampled mode: was not drawn and is not UDP from the leased addresses */
    NAT_REASON_NEVER,        /* DROP, sampled mode: was not drawn, and goes where nothing may ever go */
    NAT_REASON_RATE_LIMITED, /* DROP: over the lease's limits; no violation */
    NAT_REASON_UNANSWERED,   /* DROP: the consumer has not answered yet and the budget for that is used up */
    NAT_REASON_MALFORMED,
    NAT_REASON_VLAN,
    NAT_REASON_IPV6,
    NAT_REASON_FRAGMENT,
    NAT_REASON_IP_OPTIONS,
    NAT_REASON_SOURCE_MAC_SPOOFED,
    NAT_REASON_SOURCE_IP_SPOOFED,
    NAT_REASON_ARP_SPOOFED,
    NAT_REASON_PROTOCOL_NOT_ALLOWED,
    NAT_REASON_DESTINATION_NOT_ALLOWED,
    NAT_REASON_PORT_NOT_ALLOWED,
    NAT_REASON_NOT_WIREGUARD, /* with require_wireguard alone */
    NAT_REASON_COUNT,
};

/** enum nat_inbound - What happened to a datagram from the consumer; the index of the inbound counters. */
enum nat_inbound {
    NAT_INBOUND_DELIVERED,
    NAT_INBOUND_RATE_LIMITED,
    NAT_INBOUND_TOO_BIG, /* would not fit the guest's MTU */
    NAT_INBOUND_VM_GONE, /* the attachment refused the frame */
    NAT_INBOUND_COUNT,
};

/** struct nat_mac - A hardware address. */
struct nat_mac {
    uint8_t b[6];
};

/** struct nat_endpoint - An IPv4 address and a UDP port, both in host byte order. */
struct nat_endpoint {
    uint32_t ip;
    uint16_t port;
};

/** struct nat_link - The VM's side of the NAT: who it is and what it may believe about its network. */
struct nat_link {
    struct nat_mac guest_mac; /* all zeros: learnt from the first frame and kept */
    uint32_t guest_ip;
    uint32_t gateway_ip; /* answers ARP and DHCP; nothing listens there */
    uint8_t prefix;
    uint16_t mtu;
};

/** struct nat_rates - Token buckets each way, over IPv4 packets; 0: no limit. */
struct nat_rates {
    uint64_t egress_bits_per_s;
    uint64_t ingress_bits_per_s;
    uint64_t egress_packets_per_s;
    uint64_t ingress_packets_per_s;
};

/**
 * struct nat_policy - What is allowed; replaced as a whole
 * @sampling_ppm:       share of the frames that `sampled` judges, in millionths
 * @terminate:          a violation that is an attack shuts the gate and asks for the VM's end. Frames that a broken driver
 *                      may send (malformed, fragment, VLAN) are dropped all the same
 * @require_wireguard:  what has not the shape of WireGuard is a violation
 * @budget_unanswered:  until the consumer has answered with WireGuard, only a few packets pass
 * @own:                the provider's own addresses: unsampled packets never go there
 * @known_as:           port 0: nothing. Else what the guest calls allow[0], its consumer, which has moved there since the guest
 *                      was told: what it sends to @known_as is taken for a packet to allow[0] before it is judged, and what
 *                      comes from allow[0] is shown as coming from @known_as. The guest's WireGuard, its routes and its firewall
 *                      know no other address
 */
struct nat_policy {
    enum nat_mode mode;
    uint32_t sampling_ppm;
    bool terminate;
    bool require_wireguard;
    bool budget_unanswered;
    struct nat_rates limits;
    size_t own_count;
    uint32_t own[NAT_OWN_MAX];
    uint64_t generation; /* rises with each replacement; reports name it */
    size_t allow_count;
    struct nat_endpoint allow[NAT_ALLOW_MAX];
    struct nat_endpoint known_as;
};

/** enum nat_tunnel - What message types and lengths say about the lease's tunnel. Nothing is decrypted. */
enum nat_tunnel { NAT_TUNNEL_WAITING, NAT_TUNNEL_HANDSHAKING, NAT_TUNNEL_ESTABLISHED, NAT_TUNNEL_LOST };

/**
 * struct nat_violation - One kind of forbidden frame, aggregated per (reason, destination, port, protocol)
 * @serial: stable for the life of this aggregate; a later report with the same serial replaces the earlier one
 * @count:  frames so far
 *
 * Addresses and ports are zero where the frame had none. @overflow marks the aggregate that takes what no
 * longer has a place of its own (a hostile VM must not fill the store).
 */
struct nat_violation {
    uint32_t serial;
    enum nat_reason reason;
    enum nat_mode mode;
    bool overflow;
    bool terminated;       /* the gate was shut because of it, and the VM has to end */
    uint32_t sampling_ppm; /* in force when it was seen; 0 in other modes */
    uint64_t count;
    uint64_t first_ms; /* monotonic */
    uint64_t last_ms;
    uint64_t policy_generation;
    uint32_t detection_latency_us; /* from the batch's receipt to the verdict's record */
    uint16_t ethertype;
    uint8_t ip_protocol;
    struct nat_mac source_mac;
    struct nat_endpoint source;
    struct nat_endpoint destination;
    uint32_t frame_bytes;
    uint16_t evidence_bytes;
    uint8_t evidence[NAT_EVIDENCE_BYTES]; /* first bytes of the first frame */
};

enum nat_report_kind {
    NAT_REPORT_POLICY,    /* @generation is enforced from now on */
    NAT_REPORT_VIOLATION, /* @violation is new or has grown */
    NAT_REPORT_TUNNEL,    /* @tunnel changed at @at_ms */
    NAT_REPORT_DETACHED,  /* the VM has closed its end of a stream; nothing comes or goes any more */
    NAT_REPORT_FAILED,    /* the thread cannot go on and has shut its gate; @error_code, @text */
};

/** struct nat_ports - Both ends of a tunnel's flow: the guest's port, and the local one of the socket towards the consumer. */
struct nat_ports {
    uint16_t guest;
    uint16_t local;
};

/** struct nat_report - One datagram on the report descriptor; fixed size, plain values. */
struct nat_report {
    enum nat_report_kind kind;
    uint64_t at_ms; /* monotonic */
    uint64_t generation;
    enum nat_tunnel tunnel;
    struct nat_ports ports; /* TUNNEL, when it is established; where the system does not tell, 0 */
    int error_code;
    struct nat_violation violation;
    char text[96];
};

/** struct nat_stats - Counters of one VM since its NAT started. */
struct nat_stats {
    uint64_t frames[NAT_REASON_COUNT]; /* from the VM, by reason */
    uint64_t bytes[NAT_REASON_COUNT];
    uint64_t inbound_packets[NAT_INBOUND_COUNT]; /* from the consumer */
    uint64_t inbound_bytes[NAT_INBOUND_COUNT];
    uint64_t violations; /* aggregates made */
    uint64_t flows_opened;
    uint32_t flows_open;
    enum nat_kernel_filter kernel_filter;
    uint64_t kernel_filter_closings; /* floods, or seconds of one flood */
    enum nat_tunnel tunnel;
    uint64_t tunnel_established_ms;    /* monotonic, 0 never */
    uint64_t tunnel_last_handshake_ms; /* monotonic, 0 never */
    uint64_t consumer_heard_ms;        /* monotonic; newest datagram from the consumer, 0 never */
    uint64_t policy_generation;        /* enforced now; 0 while the gate is shut */
    struct nat_mac guest_mac;
};

/**
 * struct nat_config - What a NAT needs to start
 * @frame_fd:  non-blocking unix socket of the framing's type; taken by nat_start() on success
 * @framing:   how frames lie on it
 * @peer_known: the socket is connected already (a socketpair, or a path whose peer was named). When false the first
 *             sender becomes the only one: the thread connects to it; a stream's socket listens, and the first to connect
 *             is the only one
 * @report_fd: unix datagram or seqpacket socket that takes struct nat_report; taken on success. A reader that lags
 *             loses nothing but time: aggregates are sent again when there is room
 * @flows_max: as many sockets at most; 0: NAT_FLOWS_MAX
 * @link:      the VM's side
 * @resume:    ports of a tunnel that was up under the NAT before; its flow is opened with the first policy, so that what the
 *             consumer sends reaches the guest before that has said anything. 0: there was none
 * @confinement: made before, outlives the NAT's start; NULL: nat_start() makes what it needs
 * @busy_poll_us: how long the thread looks for more work before it sleeps, while work comes; 0 (the default) is never
 */
struct nat_config {
    int frame_fd;
    enum nat_framing framing;
    bool peer_known;
    int report_fd;
    uint32_t flows_max;
    struct nat_link link;
    struct nat_ports resume;
    const struct nat_confinement *confinement;
    uint32_t busy_poll_us;
};

struct nat;

/**
 * nat_confinement_make() - What NAT threads run under (nat/confine.h), made once for all that will be started: it takes the
 *                          time and the memory of a start that must not fail for a lack of either
 * @ret_confinement: owned by the caller until nat_confinement_free()
 * Return:           0, -ENOMEM, or what libseccomp said
 * Thread:           any
 */
int nat_confinement_make(struct nat_confinement **ret_confinement, struct error *err);

/** nat_confinement_free() - @confinement: NULL is allowed; no NAT is being started with it. Thread: the owner */
void nat_confinement_free(struct nat_confinement *confinement);

/**
 * nat_start() - Start the NAT thread of one VM with its gate shut
 * @config:  as above; copied
 * @ret_nat: owned by the caller until nat_stop()
 * Return:   0; -EINVAL for a link that makes no sense (err names the field), -ENOMEM, or what the system said
 * Thread:   any
 */
int nat_start(const struct nat_config *config, struct nat **ret_nat, struct error *err);

/**
 * nat_apply() - Replace the policy; the gate opens with the first one
 * @policy: copied; generation must be above the one before
 * Return:  0 once it is posted; NAT_REPORT_POLICY says when it is enforced. -EINVAL for a policy that must not be
 *          enforced (port 0, too many endpoints); the policy before stays in force
 * Thread:  the caller that owns the nat
 */
int nat_apply(struct nat *nat, const struct nat_policy *policy, struct error *err);

/**
 * nat_replace_own() - Replace the provider's own addresses in the policy, whose generation stays
 * @own:   copied; a change before the first policy is lost, because each policy brings its own
 * Return: 0 once it is posted; -ENOMEM; -E2BIG above NAT_OWN_MAX
 * Thread: the caller that owns the nat
 */
int nat_replace_own(struct nat *nat, const uint32_t *own, size_t count, struct error *err);

/**
 * nat_shut() - Shut the gate for good: not one more frame is forwarded either way
 * Thread: any; takes effect before the next batch of frames
 */
void nat_shut(struct nat *nat);

/**
 * nat_recall() - Take a posted policy back, if the thread has not taken it yet
 * Return: true when it was there: the policy before stays in force, and the generation may be used again; false when there
 *         was none to take back, which says that the newest is enforced, or about to be
 * Thread: the owner
 */
bool nat_recall(struct nat *nat);

/** struct nat_flow - One of the guest's flows. */
struct nat_flow {
    uint16_t guest_port;
    struct nat_endpoint consumer; /* where it goes, whatever the guest calls that */
    bool listens;                 /* datagrams from there reach the guest */
    uint64_t opened_ms;           /* monotonic, as the next */
    uint64_t used_ms;
    uint64_t sent_packets; /* handed to the system; bytes are the UDP payload's */
    uint64_t sent_bytes;
    uint64_t received_packets;
    uint64_t received_bytes;
};

/**
 * nat_list_flows() - The flows that are open at this moment; one that is being opened or closed may be missed
 * @ret_flows: NAT_FLOWS_MAX
 * Return:     how many
 * Thread:     any, while the caller keeps the nat from being stopped
 */
size_t nat_list_flows(const struct nat *nat, struct nat_flow ret_flows[static NAT_FLOWS_MAX]);

/** struct nat_description - A packet put into words. */
struct nat_description {
    struct nat_mac source_mac;
    struct nat_endpoint source;
    struct nat_endpoint destination;
    uint8_t ip_protocol;
    uint16_t payload_bytes; /* behind the UDP header; other protocols carry 8 bytes more at least */
};

enum nat_description_limits { NAT_FRAME_BYTES_MAX = 14 + NAT_MTU_MAX };

/**
 * nat_describe() - The frame of a described packet, as a well-behaved guest would send it; its payload is zeros
 * @ret_frame: NAT_FRAME_BYTES_MAX
 * Return:     its length, 0 when it would be longer
 * Thread:     any
 */
size_t nat_describe(const struct nat_description *description, uint8_t ret_frame[static NAT_FRAME_BYTES_MAX]);

/**
 * struct nat_evaluation - What the NAT would do with a frame
 * @destination: where a forwarded one would go
 */
struct nat_evaluation {
    enum nat_verdict verdict;
    enum nat_reason reason;
    bool violation;
    struct nat_endpoint destination;
};

/**
 * nat_evaluate() - Judge a frame by the very function that judges a guest's, without any effect
 * @drawn:  with `sampled` whether the sampler has drawn it; other modes judge every frame
 * Return:  0; -ENOMEM
 * Thread:  any
 */
int nat_evaluate(const struct nat_policy *policy, const struct nat_link *link, const uint8_t *frame, size_t length,
                 bool drawn, struct nat_evaluation *ret_evaluation);

/**
 * nat_read_stats() - Counters as they are now
 * Thread: any, while the caller keeps the nat from being stopped
 */
void nat_read_stats(const struct nat *nat, struct nat_stats *ret_stats);

/**
 * nat_condemned() - Whether a terminating violation has shut the gate, so that the VM has to end
 * @ret_violation: the first such one, untouched when there is none
 *
 * A report tells the same, but it stands behind others that a reader may need time for; this is there at once.
 *
 * Thread: any, while the caller keeps the nat from being stopped
 */
bool nat_condemned(const struct nat *nat, struct nat_violation *ret_violation);

/**
 * nat_stop() - End the thread, close its descriptors, free it
 * @nat:       NULL is allowed
 * @ret_stats: the last counters, with the last frame in them; may be NULL, untouched when @nat is
 * Thread:     the caller that owns the nat; joins the thread
 */
void nat_stop(struct nat *nat, struct nat_stats *ret_stats);

/** nat_confined_calls() - How many system calls a NAT thread may make; 0 when this build does not confine it. Thread: any */
size_t nat_confined_calls(void);

/** nat_reason_name() - "allowed", "arp", ..., "port_not_allowed": the API's words. Thread: any */
const char *nat_reason_name(enum nat_reason reason);

/*@ predicate forwards(integer reason) = reason == NAT_REASON_ALLOWED || reason == NAT_REASON_UNCHECKED;

    predicate never(integer ip) =
      ip <= 0x00ffffff || 0x7f000000 <= ip <= 0x7fffffff || 0xa9fe0000 <= ip <= 0xa9feffff || 0xe0000000 <= ip; */

/** nat_reason_is_violation() - Whether a drop for this reason breaks the lease's promise. Thread: any */
/*@ requires NAT_REASON_ALLOWED <= reason < NAT_REASON_COUNT;
    assigns \nothing;
    ensures \result != 0 ==> !forwards(reason); */
bool nat_reason_is_violation(enum nat_reason reason);

/** nat_reason_is_attack() - Whether it is a violation that no broken driver sends. Thread: any */
/*@ requires NAT_REASON_ALLOWED <= reason < NAT_REASON_COUNT;
    assigns \nothing;
    ensures \result != 0 ==> !forwards(reason); */
bool nat_reason_is_attack(enum nat_reason reason);

/** nat_verdict_of() - The verdict that goes with a reason in the counters. Thread: any */
/*@ requires NAT_REASON_ALLOWED <= reason < NAT_REASON_COUNT;
    assigns \nothing;
    ensures \result == NAT_FORWARD <==> forwards(reason); */
enum nat_verdict nat_verdict_of(enum nat_reason reason);

/** nat_verdict_name() - "drop", "answer", "forward", "terminate". Thread: any */
const char *nat_verdict_name(enum nat_verdict verdict);

/** nat_inbound_name() - "delivered", "rate_limited", "too_big", "vm_gone". Thread: any */
const char *nat_inbound_name(enum nat_inbound inbound);

/** nat_tunnel_name() - "waiting", "handshaking", "established", "lost". Thread: any */
const char *nat_tunnel_name(enum nat_tunnel tunnel);

/** nat_kernel_filter_name() - "unsupported", "inactive", "active". Thread: any */
const char *nat_kernel_filter_name(enum nat_kernel_filter filter);

/** nat_mode_name() - "filtered", "conntrack", "sampled". Thread: any */
const char *nat_mode_name(enum nat_mode mode);

/** nat_mode_parse() - From the API's word; "direct" is none, because it has no NAT. Return: true when known. Thread: any */
bool nat_mode_parse(const char *name, enum nat_mode *ret_mode);

enum nat_text_limits {
    NAT_IP_TEXT_BYTES = 16,       /* 255.255.255.255 and the NUL */
    NAT_ENDPOINT_TEXT_BYTES = 22, /* with :65535 */
    NAT_MAC_TEXT_BYTES = 18,
};

/** nat_ip_parse() - Dotted quad without leading zeros, nothing before or after it. Return: true. Thread: any */
bool nat_ip_parse(const char *text, uint32_t *ret_ip);

/** nat_endpoint_parse() - "ip:port", port 1 to 65535. Return: true. Thread: any */
bool nat_endpoint_parse(const char *text, struct nat_endpoint *ret_endpoint);

/** nat_mac_parse() - Six pairs of hexadecimal digits with colons; unicast and not zero. Return: true. Thread: any */
bool nat_mac_parse(const char *text, struct nat_mac *ret_mac);

/** nat_ip_format() - Return: @ret_text. Thread: any */
const char *nat_ip_format(uint32_t ip, char ret_text[static NAT_IP_TEXT_BYTES]);

/** nat_endpoint_format() - Return: @ret_text. Thread: any */
const char *nat_endpoint_format(struct nat_endpoint endpoint, char ret_text[static NAT_ENDPOINT_TEXT_BYTES]);

/** nat_mac_format() - Return: @ret_text. Thread: any */
const char *nat_mac_format(struct nat_mac mac, char ret_text[static NAT_MAC_TEXT_BYTES]);

/**
 * nat_ip_is_never() - Addresses that no policy may hold: 0/8, loopback, link-local with the metadata service, multicast,
 * reserved and broadcast
 * Return: the range's name for an error message, NULL when the address is not in one
 * Thread: any
 * Source: RFC 6890 section 2.2.2
 */
/*@ assigns \nothing;
    ensures \result != \null <==> never(ip); */
const char *nat_ip_is_never(uint32_t ip);

#endif
