/* What the rows of the store hold, as the other folders see them: values with limits, times in milliseconds since 1970. */
#ifndef STORE_ROWS_H
#define STORE_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"
#include "store/lease.h"

enum store_limits {
    STORE_NAME_BYTES = 65,     /* image name: 64 and the NUL */
    STORE_KEY_TEXT_BYTES = 45, /* 32 bytes in base64 and the NUL */
    STORE_ADDRESS_BYTES = 22,  /* "ip:port" */
    STORE_MAC_BYTES = 18,
    STORE_TRACE_BYTES = 33,  /* 32 hexadecimal digits and the NUL */
    STORE_WORD_BYTES = 32,   /* modes, codes, verdicts */
    STORE_DIGEST_BYTES = 65, /* SHA-256 in hexadecimal and the NUL */
    STORE_DETAIL_BYTES = 320,
    STORE_PATH_TEXT_BYTES = 128, /* a unix socket's path has at most 107 bytes */
    STORE_LABELS_BYTES = 4096,   /* JSON object of labels */
    STORE_ALLOWLIST_BYTES = 384, /* 16 endpoints with a space between them */
    STORE_EVIDENCE_BYTES = 96,
    STORE_CONSOLE_BYTES = 65536,    /* console tail kept of a lease that ended */
    STORE_EVENT_DATA_BYTES = 16384, /* JSON of one event and the NUL */
    STORE_EPOCH_BYTES = 17,         /* name of a log of events: 16 hexadecimal digits and the NUL */
    STORE_CURSOR_BYTES = 36,        /* EPOCH-SEQUENCE and the NUL */
    STORE_PAGE_MAX = 200,
    STORE_KEY_BYTES = 256, /* idempotency key and the NUL */
    STORE_REQUEST_HASH_BYTES = 32,
    STORE_ANSWER_BYTES = 16384,            /* JSON of a lease and the NUL; its labels are the most of it */
    STORE_KEYS_AGE_S = 24 * 3600,          /* then an idempotency key may mean something else */
    STORE_KEYS_MAX = 20000,                /* idempotency keys of a day; 60 MB */
    STORE_VIOLATIONS_MAX = 500,            /* rows of one lease; a NAT and a guest's reports make about 200 */
    STORE_EVIDENCE_KEPT = 10000,           /* violations with evidence: 1 MB */
    STORE_EVIDENCE_AGE_S = 30 * 24 * 3600, /* then it is nobody's business any more */
};

/** struct store_resources - What a lease takes of the machine, or what the machine has to give. */
struct store_resources {
    uint32_t leases;
    uint32_t vcpus;
    uint64_t memory_mib;
    uint64_t disk_mib;
};

/** struct store_ports - Ports of a tunnel that is up: the guest's, and the one that its consumer sends to; 0 not known. */
struct store_ports {
    uint32_t guest;
    uint32_t local;
};

/** struct store_lease - One row of `leases` with its peer and, once ended, its termination. */
struct store_lease {
    struct id id;
    uint64_t generation; /* rises with each change of the row */
    enum lease_state state;
    char state_detail[STORE_DETAIL_BYTES];
    char attachment[STORE_WORD_BYTES];       /* qemu | external */
    char allowlist[STORE_ALLOWLIST_BYTES];   /* endpoints with a space between them; "": consumer_endpoint alone */
    char vm_endpoint[STORE_ADDRESS_BYTES];   /* the consumer as the VM was told of it; "": consumer_endpoint */
    char socket_path[STORE_PATH_TEXT_BYTES]; /* external: where its NAT listens; else "" */
    char trace_id[STORE_TRACE_BYTES];        /* of the request that made it; "" without one */
    char image[STORE_NAME_BYTES];            /* "": external, which has none */
    char image_digest[STORE_DIGEST_BYTES];   /* "" until verified; SHA-256 of the manifest */
    struct store_resources resources;        /* leases is 1 */
    uint64_t overhead_memory_mib; /* what the machine needs beyond them, counted in the capacity; not read back */
    uint64_t overhead_disk_mib;
    char mode[STORE_WORD_BYTES];
    char guest_mac[STORE_MAC_BYTES];
    char guest_ip[STORE_ADDRESS_BYTES];
    char consumer_public_key[STORE_KEY_TEXT_BYTES];
    char consumer_endpoint[STORE_ADDRESS_BYTES];
    char consumer_tunnel_ip[STORE_ADDRESS_BYTES];
    char vm_public_key[STORE_KEY_TEXT_BYTES];
    char vm_tunnel_ip[STORE_ADDRESS_BYTES];
    char ssh_user[STORE_WORD_BYTES + 1];
    char labels[STORE_LABELS_BYTES];       /* JSON object, "{}" for none */
    uint32_t sampling_ppm;                 /* sampled only, else 0 */
    char boot_isolation[STORE_WORD_BYTES]; /* prebuilt | offline_packages | online_install */
    char on_violation[STORE_WORD_BYTES];   /* drop | terminate */
    bool require_wireguard;
    uint64_t egress_bits_per_s; /* 0: no limit, as the next three */
    uint64_t ingress_bits_per_s;
    uint64_t egress_packets_per_s;
    uint64_t ingress_packets_per_s;
    bool release_asked;                 /* given back; it ends, whatever becomes of the daemon */
    uint64_t exposed_ms;                /* online_install: how long the guest's network was open; 0 not known yet */
    char accelerator[STORE_WORD_BYTES]; /* "" until chosen */
    uint64_t ttl_s;                     /* 0: no limit; of the last renewal once there was one */
    uint64_t heartbeat_timeout_s;       /* 0: nobody watches */
    uint64_t deadline_ms;               /* when it ends, by the boot clock of @deadline_boot_id; 0: never */
    char deadline_boot_id[ID_TEXT_BYTES];
    uint64_t created_ms;
    uint64_t started_ms;                 /* 0: not yet (running since) */
    uint64_t expires_ms;                 /* the deadline as the wall clock stood when it was set; 0: never */
    uint64_t policy_desired;             /* policy generation that should be enforced */
    uint64_t policy_observed;            /* generation that the NAT said it enforces, 0 none */
    char tunnel_state[STORE_WORD_BYTES]; /* waiting | handshaking | established | lost */
    uint64_t tunnel_established_ms;
    uint64_t tunnel_last_handshake_ms;
    struct store_ports tunnel_ports;
    /* the child process, written before and after the spawn; identity = pid + start time + boot id */
    int64_t pid;              /* 0: none */
    uint64_t pid_start_ticks; /* field 22 of /proc/PID/stat */
    char boot_id[ID_TEXT_BYTES];
    /* termination; reason is LEASE_REASON_NONE while there is none */
    enum lease_reason reason;
    char initiated_by[STORE_WORD_BYTES]; /* orchestrator | provider | guest | filter */
    char termination_detail[STORE_DETAIL_BYTES];
    char violation_id[ID_TEXT_BYTES];
    int exit_code; /* -1: none */
    int signal;    /* 0: none */
    uint64_t detected_ms;
    uint64_t stopped_ms;
};

/** struct store_violation - One row of `violations`. */
struct store_violation {
    struct id id;
    struct id lease_id;
    uint32_t serial; /* the NAT's number for this aggregate; unique within the lease */
    uint64_t first_seen_ms;
    uint64_t last_seen_ms;
    uint64_t count;
    char code[STORE_WORD_BYTES];
    char mode[STORE_WORD_BYTES];
    uint32_t sampling_ppm;          /* 0 unless the mode is sampled */
    uint64_t stop_latency_ms;       /* from the frame to the machine's end; 0 unless terminated */
    char verdict[STORE_WORD_BYTES]; /* dropped | terminated */
    char source[STORE_WORD_BYTES];  /* filter | guest_firewall */
    bool overflow;
    uint32_t ethertype;
    uint32_t ip_protocol;
    char source_mac[STORE_MAC_BYTES];
    char source_ip[STORE_ADDRESS_BYTES]; /* "" where the frame had none */
    uint32_t source_port;
    char destination_ip[STORE_ADDRESS_BYTES];
    uint32_t destination_port;
    uint32_t frame_bytes;
    uint64_t policy_generation;
    uint32_t detection_latency_us;
    uint32_t evidence_bytes;
    uint8_t evidence[STORE_EVIDENCE_BYTES];
    bool evidence_purged; /* there was evidence; it was too old or one too many. Read only */
};

/** struct store_event - One row of `events`; @sequence rises by one and is never used again. */
struct store_event {
    uint64_t sequence;
    uint64_t at_ms;
    char type[STORE_WORD_BYTES];
    char lease_id[ID_TEXT_BYTES];     /* "" for events of the node */
    char trace_id[STORE_TRACE_BYTES]; /* of the request that made the lease; "" without one, or without the lease */
    const char *data;                 /* JSON object; the store's, valid during the callback */
};

/** struct store_peer - A WireGuard peer: the consumer's side of a lease and what is known of its tunnel. */
struct store_peer {
    char public_key[STORE_KEY_TEXT_BYTES];
    struct id lease_id;
    char endpoint[STORE_ADDRESS_BYTES];
    char tunnel_ip[STORE_ADDRESS_BYTES];
    char vm_public_key[STORE_KEY_TEXT_BYTES];
    char vm_tunnel_ip[STORE_ADDRESS_BYTES];
    char tunnel_state[STORE_WORD_BYTES];
    uint64_t established_ms;
    uint64_t last_handshake_ms;
    enum lease_state lease_state;
    uint64_t created_ms;
};

#endif
