#include "tests/vmm/fake_qemu.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/coverage.h"
#include "vmm/accel_rom.h"
#include "vmm/command.h"

enum { TICK_MS = 5, LONG_LINE_BYTES = 100000, FLOOD_BYTES = 300000, LIFE_S = 60 };

struct fake {
    const char *append;
    const char *name;
    bool kvm;
    bool gone;  /* what was to happen once has happened */
    bool named; /* console and QMP take one client after the other, and the network has names */
    int console;
    int net;
    struct sockaddr_un host; /* where frames go when the network has names */
    int client;
    char line[4096];
    size_t used;
};

bool fake_qemu_is_meant(const char *program)
{
    const char *slash = strrchr(program, '/');
    return strcmp(slash == NULL ? program : slash + 1, "fake_qemu") == 0;
}

static bool does(const struct fake *fake, const char *word)
{
    const char *at = strstr(fake->append, "fake=");
    size_t length = strlen(word);
    return at != NULL && strncmp(at + 5, word, length) == 0 && (at[5 + length] == ' ' || at[5 + length] == '\0');
}

static bool may_go(const struct fake *fake)
{
    const char *at = strstr(fake->append, "go=");
    return at != NULL && access(at + 3, F_OK) == 0;
}

static void put(int fd, const char *text)
{
    size_t length = strlen(text);
    while (length > 0) {
        ssize_t written = write(fd, text, length);
        if (written <= 0)
            return; /* nobody is there to hear it: SIGPIPE has ended us, or we outlive our daemon */
        text += written;
        length -= (size_t)written;
    }
}

static void say(const struct fake *fake, const char *line)
{
    if (fake->client < 0)
        return;
    put(fake->client, line);
    put(fake->client, "\r\n");
}

static void event(const struct fake *fake, const char *name, const char *data)
{
    char line[512];
    snprintf(line, sizeof line, "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"%s\"%s%s}", name,
             data[0] == '\0' ? "" : ", \"data\": ", data);
    say(fake, line);
}

static _Noreturn void shut_down(const struct fake *fake, const char *data)
{
    event(fake, "SHUTDOWN", data);
    event(fake, "STOP", "");
    _exit(0);
}

static void show(const struct fake *fake)
{
    extern char **environ;
    char text[64];
    put(fake->console, "fds:");
    for (int fd = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0) {
            snprintf(text, sizeof text, " %d", fd);
            put(fake->console, text);
        }
    put(fake->console, "\nenvironment:");
    for (char **variable = environ; *variable != NULL; variable++) {
        put(fake->console, " ");
        put(fake->console, *variable);
    }
    put(fake->console, "\nshown\n");
}

/* What a hypervisor without a NAT does: the frame is lost. */
static void send_frame(const struct fake *fake, const unsigned char *frame, size_t length)
{
    const struct sockaddr *to = fake->named ? (const struct sockaddr *)&fake->host : NULL;
    if (sendto(fake->net, frame, length, 0, to, to == NULL ? 0 : sizeof fake->host) < 0 && !fake->named)
        _exit(8);
}

/* Until no frame waits in the attachment; where the system cannot tell, no longer than that. */
static void await_taken(const struct fake *fake)
{
    int waiting = 0;
    while (ioctl(fake->net, TIOCOUTQ, &waiting) == 0 && waiting > 0)
        usleep(1000);
}

static void send_vlan_frame(const struct fake *fake)
{
    const unsigned char frame[60] = {0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x81, 0x00, 0, 5};
    send_frame(fake, frame, sizeof frame);
}

/* An IPv4 frame from the leased addresses. @fragment: whether more of it is to come */
static void send_ipv4_frame(const struct fake *fake, unsigned char last_byte, bool fragment)
{
    unsigned char frame[60] = {0x02, 0, 0,   0,  0,   1, 0x02, 0,    0,  0,  0, 2,  0x08, 0x00,
                               0x45, 0, 0,   32, 0,   1, 0,    0,    64, 17, 0, 0,  192,  168,
                               64,   2, 203, 0,  113, 9, 0x30, 0x39, 0,  53, 0, 12, 0,    0};
    frame[33] = last_byte;
    frame[20] = fragment ? 0x20 : 0;
    unsigned sum = 0;
    for (size_t at = 14; at < 34; at += 2)
        sum += frame[at] * 256u + frame[at + 1];
    sum = ~(sum % 65536 + sum / 65536) & 0xffff;
    frame[24] = (unsigned char)(sum / 256);
    frame[25] = (unsigned char)(sum % 256);
    send_frame(fake, frame, 46);
}

/* To 203.0.113.9:53, which nobody has allowed. */
static void send_rogue_frame(const struct fake *fake)
{
    send_ipv4_frame(fake, 9, false);
}

/* Many kinds of what a broken driver might send, each of which is reported and ends nothing. */
static void send_fragments(const struct fake *fake)
{
    for (unsigned char kind = 0; kind < FAKE_QEMU_KINDS; kind++)
        send_ipv4_frame(fake, (unsigned char)(100 + kind), true);
}

/* What an honest guest's kernel prints, in pieces, and what a liar prints around it. */
static void report_rogues(const struct fake *fake)
{
    put(fake->console, "ROGUE-ATTEMPT: IN= OUT=eth0 SRC=10.0.0.1 DST=999.1.1.1 PROTO=UDP\r\n");
    put(fake->console, "[    3.141592] ROGUE-ATTEMPT: IN= OUT=eth0 SRC=192.168.64.2 DST=8.8.");
    usleep(30 * 1000);
    for (int at = 0; at < 3; at++)
        put(fake->console, "8.8 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=7 PROTO=UDP SPT=4000 DPT=53 LEN=40 \r\n"
                           "[    3.2] ROGUE-ATTEMPT: IN= OUT=eth0 SRC=192.168.64.2 DST=8.8.");
    put(fake->console, "x\r\nguest says: ready\r\n");
}

static void flood(int fd, size_t length)
{
    char bytes[1000];
    memset(bytes, 'x', sizeof bytes);
    for (size_t sent = 0; sent < length; sent += sizeof bytes)
        if (write(fd, bytes, sizeof bytes) <= 0)
            _exit(9);
}

static void flood_console(const struct fake *fake)
{
    flood(fake->console, FLOOD_BYTES);
    put(fake->console, "the end");
}

static void hang_up(struct fake *fake)
{
    close(fake->client);
    fake->client = -1;
}

static void go(struct fake *fake)
{
    fake->gone = true;
    if (does(fake, "crash"))
        abort();
    if (does(fake, "guest-shutdown"))
        shut_down(fake, "{\"guest\": true, \"reason\": \"guest-shutdown\"}");
    if (does(fake, "guest-reset"))
        shut_down(fake, "{\"guest\": true, \"reason\": \"guest-reset\"}");
    if (does(fake, "host-signal"))
        shut_down(fake, "{\"guest\": false, \"reason\": \"host-signal\"}");
    if (does(fake, "guest-panic")) {
        event(fake, "GUEST_PANICKED", "{\"action\": \"shutdown\"}");
        shut_down(fake, "{\"guest\": true, \"reason\": \"guest-panic\"}");
    }
    if (does(fake, "exit")) {
        put(STDERR_FILENO, "fake: \"lost\" its \x1b[31mway\n");
        _exit(3);
    }
    if (does(fake, "freeze"))
        raise(SIGSTOP);
    if (does(fake, "close-qmp"))
        hang_up(fake);
    if (does(fake, "internal-error"))
        event(fake, "STOP", "");
    if (does(fake, "garbage"))
        say(fake, "{\"event\": ");
    if (does(fake, "long-line"))
        flood(fake->client, LONG_LINE_BYTES);
    if (does(fake, "flood-console"))
        flood_console(fake);
    if (does(fake, "vlan-frame"))
        send_vlan_frame(fake);
    if (does(fake, "rogue-frame")) {
        send_rogue_frame(fake);
        fake->gone = false; /* once more with the next tick: the gate may have been shut */
    }
    if (does(fake, "flood-then-rogue")) {
        send_fragments(fake);
        send_rogue_frame(fake);
        fake->gone = false;
    }
    if (does(fake, "rogue-then-exit")) {
        send_rogue_frame(fake);
        await_taken(fake);
        usleep(50 * 1000); /* its NAT has judged it by then */
        shut_down(fake, "{\"guest\": true, \"reason\": \"guest-shutdown\"}");
    }
    if (does(fake, "rogue-lines"))
        report_rogues(fake);
    while (does(fake, "flood-qmp"))
        event(fake, "RTC_CHANGE", "{\"offset\": 1}");
}

static void say_name(const struct fake *fake)
{
    char text[128];
    snprintf(text, sizeof text, "{\"return\": {\"name\": \"%s\"}, \"id\": \"name\"}",
             does(fake, "other-name") ? "somebody" : fake->name);
    say(fake, text);
}

static void obey(struct fake *fake, const char *line)
{
    if (strstr(line, "qmp_capabilities") != NULL)
        say(fake, "{\"return\": {}, \"id\": \"negotiate\"}");
    if (strstr(line, "query-name") != NULL)
        say_name(fake);
    if (strstr(line, "query-status") != NULL)
        say(fake, does(fake, "internal-error")
                      ? "{\"return\": {\"status\": \"internal-error\", \"running\": false}, \"id\": \"status\"}"
                      : "{\"return\": {\"status\": \"running\", \"running\": true}, \"id\": \"status\"}");
    if (strstr(line, "system_powerdown") != NULL) {
        say(fake, "{\"return\": {}, \"id\": \"powerdown\"}");
        event(fake, "POWERDOWN", "");
        if (!does(fake, "ignore-powerdown") && !does(fake, "ignore-all"))
            shut_down(fake, "{\"guest\": true, \"reason\": \"guest-shutdown\"}");
    }
    if (strstr(line, "\"quit\"") != NULL && !does(fake, "ignore-all"))
        shut_down(fake, "{\"guest\": false, \"reason\": \"host-qmp-quit\"}");
}

static void listen_to_client(struct fake *fake)
{
    ssize_t length = read(fake->client, fake->line + fake->used, sizeof fake->line - 1 - fake->used);
    if (length <= 0 && !fake->named && !does(fake, "garbage"))
        _exit(7);
    if (length <= 0) {
        hang_up(fake); /* only a signal ends this one, or the next client */
        return;
    }
    fake->used += (size_t)length;
    fake->line[fake->used] = '\0';
    for (char *end; (end = strchr(fake->line, '\n')) != NULL;) {
        *end = '\0';
        obey(fake, fake->line);
        fake->used -= (size_t)(end + 1 - fake->line);
        memmove(fake->line, end + 1, fake->used + 1);
    }
}

static void begin(struct fake *fake)
{
    if (does(fake, "exit-at-once")) {
        put(STDERR_FILENO, "fake: no such machine\n");
        _exit(1);
    }
    bool silent = fake->kvm && (does(fake, "silent-kvm") || does(fake, "frame-kvm"));
    if (!silent)
        put(fake->console, "fake guest\n");
    if (fake->kvm && does(fake, "frame-kvm"))
        send_vlan_frame(fake);
    if (does(fake, "show"))
        show(fake);
}

/* The value of a key within an argument like "dgram,id=net0,local.path=/x,remote.path=/y". */
static struct sockaddr_un address_in(const char *argument, const char *key)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *value = strstr(argument, key) + strlen(key);
    snprintf(address.sun_path, sizeof address.sun_path, "%.*s", (int)strcspn(value, ","), value);
    return address;
}

static void take_names(struct fake *fake, const char *argument)
{
    struct sockaddr_un own = address_in(argument, "local.path=");
    fake->named = true;
    fake->host = address_in(argument, "remote.path=");
    fake->net = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (fake->net < 0 || bind(fake->net, (const struct sockaddr *)&own, sizeof own) != 0)
        _exit(6);
    signal(SIGPIPE, SIG_IGN); /* as QEMU: a console without a reader is no reason to end */
}

/* Return: the accelerator's trial's exit code, which says that kvm works where its device is /dev/null. */
static int answer(int argc, char **argv, struct fake *fake)
{
    for (int at = 1; at + 1 < argc; at++) {
        if (strcmp(argv[at], "-append") == 0)
            fake->append = argv[at + 1];
        if (strcmp(argv[at], "-name") == 0)
            fake->name = argv[at + 1];
        if (strcmp(argv[at], "-accel") == 0)
            fake->kvm = strcmp(argv[at + 1], "kvm") == 0;
        if (strncmp(argv[at + 1], "isa-debug-exit", 14) == 0)
            return ACCEL_ROM_EXIT_CODE;
        if (strstr(argv[at], "local.path=") != NULL)
            take_names(fake, argv[at]);
    }
    return 0;
}

static void greet(struct fake *fake)
{
    fake->used = 0;
    fake->client = accept(COMMAND_FD_QMP, NULL, NULL);
    say(fake,
        "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}}, \"capabilities\": []}}");
}

static bool is_ready(int fd, int wait_ms)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return poll(&one, 1, wait_ms) > 0;
}

/* Another daemon may take the place of the one that went, at console and QMP in any order. */
static void await_daemon(struct fake *fake)
{
    if (fake->named && is_ready(COMMAND_FD_CONSOLE, 0)) {
        close(fake->console);
        fake->console = accept(COMMAND_FD_CONSOLE, NULL, NULL);
        put(fake->console, "fake guest, again\n");
    }
    if (fake->named && fake->client < 0 && is_ready(COMMAND_FD_QMP, TICK_MS))
        greet(fake);
}

int fake_qemu_main(int argc, char **argv)
{
    struct fake fake = {.append = "", .name = "", .client = -1, .console = COMMAND_FD_CONSOLE, .net = COMMAND_FD_NET};
    coverage_leave();
    int code = answer(argc, argv, &fake);
    if (code != 0)
        _exit(code);
    alarm(LIFE_S); /* whatever becomes of the test */
    if (fake.named)
        fake.console = accept(COMMAND_FD_CONSOLE, NULL, NULL);
    begin(&fake);
    if (does(&fake, "mute"))
        pause();
    greet(&fake);
    while (true) {
        await_daemon(&fake);
        if (is_ready(fake.client, TICK_MS)) /* one that is -1 never is */
            listen_to_client(&fake);
        if (!fake.gone && may_go(&fake))
            go(&fake);
    }
}
