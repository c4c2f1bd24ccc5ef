/* A hostile guest and its consumer in one program: sends seeded mutations of frames into the socket of a NAT and receives
 * what comes out at the consumer's end. What may come out is decided here a second time, from the specification alone;
 * after each batch both must agree to the byte.
 *
 * usage: frame_storm NAT_SOCKET OWN_SOCKET CONSUMER_IP:PORT SEED FRAMES
 *
 * Prints one line `frames F forwarded N answered A`. Exit code 0, or 1 and what was wrong. Runs in the consumer's network
 * namespace; it shares no code with the NAT. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    BATCH = 64,
    FRAME_MAX = 2048,
    WAIT_MS = 5000, /* for datagrams that must come; a loaded machine may need long */
    LINKS_MTU = 1500,
};

static const uint8_t guest_mac[6] = {0x52, 0x54, 0x00, 0x6f, 0x6d, 0x01};
static const uint32_t guest_ip = 0xC0A84002;
static const uint32_t gateway_ip = 0xC0A84001;

struct frame {
    size_t length;
    uint8_t b[FRAME_MAX];
};

/* What came out, or has to: how many datagrams and the sum of their digests, as their order is not promised. */
struct tally {
    uint64_t count;
    uint64_t sum;
};

struct storm {
    int nat;
    int consumer;
    uint32_t allowed_ip;
    uint16_t allowed_port;
    uint64_t random;
    struct tally wanted;
    struct tally seen;
    uint64_t answered;
    struct frame arp_answer; /* the first; every later one has to be the same */
    struct frame dhcp_answer;
};

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

/* splitmix64: the same seed gives the same storm everywhere. */
static uint32_t draw(struct storm *storm, uint32_t below)
{
    uint64_t z = storm->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((z ^ z >> 31) >> 32) % below;
}

static unsigned get16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static void put16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value & 0xffff);
}

static unsigned sum16(uint64_t sum, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        sum += i % 2 == 0 ? (unsigned)bytes[i] << 8 : bytes[i];
    while (sum > 0xffff)
        sum = (sum >> 16) + (sum & 0xffff);
    return (unsigned)sum;
}

static unsigned pseudo_sum(const uint8_t *f, size_t udp_length)
{
    return sum16(17 + udp_length, f + 26, 8);
}

static void digest(struct tally *tally, const uint8_t *bytes, size_t length)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ length; /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    tally->count++;
    tally->sum += hash;
}

/* ---- the second opinion ----------------------------------------------------------------------------------------- */

static bool checksums_hold(const uint8_t *f, size_t udp_length)
{
    if (sum16(0, f + 14, 20) != 0xffff)
        return false;
    unsigned field = get16(f + 40);
    unsigned pseudo = pseudo_sum(f, udp_length);
    return field == 0 || field == pseudo || sum16(pseudo, f + 34, udp_length) == 0xffff;
}

/* Whether the specification lets this frame's payload out; every line of it is one condition. */
static bool may_pass(const struct storm *storm, const struct frame *frame)
{
    const uint8_t *f = frame->b;
    if (frame->length < 42 || frame->length > 14 + LINKS_MTU)
        return false;
    size_t total = get16(f + 16);
    size_t udp_length = get16(f + 38);
    return memcmp(f + 6, guest_mac, 6) == 0 && get16(f + 12) == 0x0800 && f[14] == 0x45 &&
           (get16(f + 20) & 0xbfff) == 0 && f[23] == 17 && total >= 28 && total <= frame->length - 14 &&
           udp_length == total - 20 && get32(f + 26) == guest_ip && get32(f + 30) == storm->allowed_ip &&
           get16(f + 34) != 0 && get16(f + 36) == storm->allowed_port && checksums_hold(f, udp_length);
}

/* ---- frames ----------------------------------------------------------------------------------------------------- */

static void fix_ip(struct frame *frame)
{
    put16(frame->b + 24, 0);
    put16(frame->b + 24, ~sum16(0, frame->b + 14, 20) & 0xffff);
}

static void fix_udp(struct frame *frame)
{
    size_t length = get16(frame->b + 38);
    if (length < 8 || 34 + length > FRAME_MAX)
        return;
    put16(frame->b + 40, 0);
    unsigned sum = ~sum16(pseudo_sum(frame->b, length), frame->b + 34, length) & 0xffff;
    put16(frame->b + 40, sum == 0 ? 0xffff : sum);
}

static void make_ip(struct frame *frame, unsigned protocol, uint32_t to, size_t payload)
{
    uint8_t *f = frame->b;
    *frame = (struct frame){.length = 34 + payload};
    memset(f, 0xff, 6);
    memcpy(f + 6, guest_mac, 6);
    put16(f + 12, 0x0800);
    f[14] = 0x45;
    put16(f + 16, (unsigned)(20 + payload));
    f[22] = 64;
    f[23] = (uint8_t)protocol;
    put32(f + 26, guest_ip);
    put32(f + 30, to);
    fix_ip(frame);
}

static void make_udp(struct storm *storm, struct frame *frame, uint32_t to, unsigned port)
{
    static const uint16_t sizes[] = {0, 1, 2, 7, 32, 92, 148, 600, 1471, 1472};
    size_t payload = sizes[draw(storm, sizeof sizes / sizeof sizes[0])];
    make_ip(frame, 17, to, 8 + payload);
    put16(frame->b + 34, 40000 + draw(storm, 8));
    put16(frame->b + 36, port);
    put16(frame->b + 38, (unsigned)(8 + payload));
    for (size_t i = 0; i < payload; i++)
        frame->b[42 + i] = (uint8_t)draw(storm, 256);
    fix_udp(frame);
}

static void make_arp(struct storm *storm, struct frame *frame)
{
    uint8_t *f = frame->b;
    *frame = (struct frame){.length = 42};
    memset(f, 0xff, 6);
    memcpy(f + 6, guest_mac, 6);
    put16(f + 12, 0x0806);
    memcpy(f + 14, (const uint8_t[]){0, 1, 8, 0, 6, 4, 0, 1}, 8);
    memcpy(f + 22, guest_mac, 6);
    put32(f + 28, guest_ip);
    put32(f + 38, draw(storm, 4) == 0 ? guest_ip + 1 : gateway_ip);
}

static void make_dhcp(struct storm *storm, struct frame *frame)
{
    uint8_t *f = frame->b;
    make_ip(frame, 17, UINT32_MAX, 8 + 300);
    put32(f + 26, 0);
    fix_ip(frame);
    put16(f + 34, 68);
    put16(f + 36, 67);
    put16(f + 38, 8 + 300);
    memcpy(f + 42, (const uint8_t[]){1, 1, 6, 0}, 4);
    put32(f + 46, draw(storm, UINT32_MAX));
    memcpy(f + 42 + 28, guest_mac, 6);
    memcpy(f + 42 + 236, (const uint8_t[]){0x63, 0x82, 0x53, 0x63, 53, 1, 1}, 7);
    f[42 + 242] = (uint8_t)(1 + 2 * draw(storm, 2));
    for (size_t i = 42 + 243; i < frame->length; i++)
        f[i] = (uint8_t)draw(storm, 256);
    fix_udp(frame);
}

static void make_frame(struct storm *storm, struct frame *frame)
{
    static const uint16_t types[] = {0x86dd, 0x8100, 0x88a8, 0x88cc, 0x8863, 0x05dc};
    switch (draw(storm, 16)) {
    case 0:
        make_arp(storm, frame);
        return;
    case 1:
        make_dhcp(storm, frame);
        return;
    case 2:
        make_ip(frame, draw(storm, 256), storm->allowed_ip, draw(storm, 200));
        return;
    case 3:
        make_udp(storm, frame, storm->allowed_ip, storm->allowed_port);
        put16(frame->b + 12, types[draw(storm, 6)]);
        return;
    case 4:
        make_udp(storm, frame, draw(storm, UINT32_MAX), storm->allowed_port);
        return;
    case 5:
        make_udp(storm, frame, storm->allowed_ip, draw(storm, 65536));
        return;
    default: /* what passes if nothing is done to it */
        make_udp(storm, frame, storm->allowed_ip, storm->allowed_port);
        return;
    }
}

static void mutate_once(struct storm *storm, struct frame *frame)
{
    static const uint16_t words[] = {0, 1, 19, 20, 27, 28, 0x2000, 0x4000, 0x7fff, 0x8000, 1500, 1501, 0xffff, 0x0800};
    size_t reach = frame->length < 64 ? frame->length : 64;
    size_t at = reach == 0 ? 0 : draw(storm, (uint32_t)reach);
    switch (draw(storm, 8)) {
    case 0:
    case 1:
    case 2:
        frame->b[at] ^= (uint8_t)(1u << draw(storm, 8));
        break;
    case 3:
        frame->b[at] = (uint8_t)draw(storm, 256);
        break;
    case 4:
        put16(frame->b + (at & ~(size_t)1), words[draw(storm, sizeof words / sizeof words[0])]);
        break;
    case 5: /* cut short */
        frame->length = draw(storm, (uint32_t)frame->length + 1);
        break;
    case 6: /* made longer, up to more than the link carries */
        frame->length += draw(storm, (uint32_t)(FRAME_MAX - frame->length) + 1);
        break;
    default: { /* some bytes moved elsewhere */
        size_t from = draw(storm, FRAME_MAX - 16);
        memmove(frame->b + at, frame->b + from, 1 + draw(storm, 15));
        break;
    }
    }
}

static bool is_known_port(unsigned port)
{
    return port >= 40000 && port < 40008;
}

/* A mutation that opens one more flow for each frame would meet the NAT's limit of flows, which is not the subject here. */
static void next_frame(struct storm *storm, struct frame *frame)
{
    do {
        make_frame(storm, frame);
        uint32_t changes = draw(storm, 24) == 0 ? 0 : 1 + draw(storm, 4);
        for (uint32_t i = 0; i < changes; i++)
            mutate_once(storm, frame);
        if (draw(storm, 2) == 0)
            fix_ip(frame);
        if (draw(storm, 4) == 0)
            fix_udp(frame);
        else if (draw(storm, 8) == 0)
            put16(frame->b + 40, draw(storm, 2) == 0 ? 0 : pseudo_sum(frame->b, get16(frame->b + 38)));
    } while (may_pass(storm, frame) && !is_known_port(get16(frame->b + 34)));
}

/* ---- sockets ---------------------------------------------------------------------------------------------------- */

static struct sockaddr_un unix_name(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof name.sun_path)
        die("%s: too long", path);
    memcpy(name.sun_path, path, strlen(path) + 1);
    return name;
}

static void open_sockets(struct storm *storm, const char *nat_path, const char *own_path)
{
    struct sockaddr_un own = unix_name(own_path);
    struct sockaddr_un nat = unix_name(nat_path);
    storm->nat = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (storm->nat < 0 || bind(storm->nat, (struct sockaddr *)&own, sizeof own) < 0 || chmod(own_path, 0777) < 0 ||
        connect(storm->nat, (struct sockaddr *)&nat, sizeof nat) < 0)
        die("%s: %s", nat_path, strerror(errno));
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(storm->allowed_port)};
    here.sin_addr.s_addr = htonl(storm->allowed_ip);
    storm->consumer = socket(AF_INET, SOCK_DGRAM, 0);
    if (storm->consumer < 0 || bind(storm->consumer, (struct sockaddr *)&here, sizeof here) < 0)
        die("consumer: %s", strerror(errno));
}

/* An answer may differ from the first of its kind in nothing; DHCP's repeats the question's number and says what it is. */
static void check_answer(struct storm *storm, struct frame *answer)
{
    bool dhcp = answer->length >= 290 && get16(answer->b + 12) == 0x0800;
    if (!dhcp && (answer->length != 42 || get16(answer->b + 12) != 0x0806))
        die("an answer that is neither ARP's nor DHCP's: %zu bytes", answer->length);
    if (dhcp) {
        memset(answer->b + 40, 0, 2); /* checksum */
        memset(answer->b + 46, 0, 4); /* transaction */
        answer->b[42 + 242] = 0;      /* offer or ack */
    }
    struct frame *first = dhcp ? &storm->dhcp_answer : &storm->arp_answer;
    if (first->length == 0)
        *first = *answer;
    if (first->length != answer->length || memcmp(first->b, answer->b, answer->length) != 0)
        die("%s answers vary with what the guest claims", dhcp ? "DHCP" : "ARP");
    storm->answered++;
}

static void drain_answers(struct storm *storm)
{
    struct frame answer;
    for (;;) {
        ssize_t got = recv(storm->nat, answer.b, sizeof answer.b, MSG_DONTWAIT);
        if (got < 0)
            return;
        answer.length = (size_t)got;
        check_answer(storm, &answer);
    }
}

static void send_batch(struct storm *storm, struct frame *frames)
{
    struct mmsghdr headers[BATCH];
    struct iovec parts[BATCH];
    for (size_t i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){.iov_base = frames[i].b, .iov_len = frames[i].length};
        headers[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &parts[i], .msg_iovlen = 1}};
    }
    for (unsigned sent = 0; sent < BATCH;) {
        int some = sendmmsg(storm->nat, headers + sent, BATCH - sent, 0);
        if (some < 0)
            die("the NAT takes no more frames: %s", strerror(errno));
        sent += (unsigned)some;
        drain_answers(storm);
    }
}

/* Takes what has come out until it is as much as has to. */
static void receive_batch(struct storm *storm)
{
    uint8_t bytes[FRAME_MAX];
    while (storm->seen.count < storm->wanted.count) {
        struct pollfd ready = {.fd = storm->consumer, .events = POLLIN};
        if (poll(&ready, 1, WAIT_MS) <= 0)
            die("%llu datagrams of %llu came out", (unsigned long long)storm->seen.count,
                (unsigned long long)storm->wanted.count);
        ssize_t got = recv(storm->consumer, bytes, sizeof bytes, 0);
        if (got >= 0)
            digest(&storm->seen, bytes, (size_t)got);
    }
    if (storm->seen.sum != storm->wanted.sum)
        die("what came out is not what had to, among the first %llu datagrams", (unsigned long long)storm->seen.count);
}

static void storm_batch(struct storm *storm)
{
    static struct frame frames[BATCH];
    for (size_t i = 0; i < BATCH - 1; i++) {
        next_frame(storm, &frames[i]);
        if (may_pass(storm, &frames[i]))
            digest(&storm->wanted, frames[i].b + 42, get16(frames[i].b + 38) - 8);
    }
    /* The last is good: once it is out all before it have been judged, so what comes later is too much. */
    make_udp(storm, &frames[BATCH - 1], storm->allowed_ip, storm->allowed_port);
    digest(&storm->wanted, frames[BATCH - 1].b + 42, get16(frames[BATCH - 1].b + 38) - 8);
    send_batch(storm, frames);
    receive_batch(storm);
    drain_answers(storm);
}

static void read_endpoint(struct storm *storm, const char *text)
{
    char ip[16] = "";
    const char *colon = strchr(text, ':');
    struct in_addr address = {0};
    if (colon == NULL || (size_t)(colon - text) >= sizeof ip)
        die("%s: not IP:PORT", text);
    memcpy(ip, text, (size_t)(colon - text));
    if (inet_pton(AF_INET, ip, &address) != 1)
        die("%s: not IP:PORT", text);
    storm->allowed_ip = ntohl(address.s_addr);
    storm->allowed_port = (uint16_t)strtoul(colon + 1, NULL, 10);
}

int main(int argc, char **argv)
{
    static struct storm storm;
    if (argc != 6)
        die("usage: frame_storm NAT_SOCKET OWN_SOCKET CONSUMER_IP:PORT SEED FRAMES");
    read_endpoint(&storm, argv[3]);
    storm.random = strtoull(argv[4], NULL, 10);
    uint64_t frames = strtoull(argv[5], NULL, 10);
    open_sockets(&storm, argv[1], argv[2]);
    uint64_t sent = 0;
    for (; sent < frames; sent += BATCH)
        storm_batch(&storm);
    usleep(200000);
    uint8_t byte;
    if (recv(storm.consumer, &byte, 1, MSG_DONTWAIT) >= 0)
        die("more came out than had to");
    unlink(argv[2]);
    printf("frames %llu forwarded %llu answered %llu\n", (unsigned long long)sent, (unsigned long long)storm.seen.count,
           (unsigned long long)storm.answered);
    return 0;
}
