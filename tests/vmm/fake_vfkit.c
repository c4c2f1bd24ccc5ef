#include "tests/vmm/fake_vfkit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    TICK_MS = 5,
    LIFE_S = 60,
    TEXT_BYTES = 2048,
    NAME_BYTES = 256,
    FRAME_BYTES = 65536,
    FLOOD_BYTES = 3 * 1024 * 1024,
    VOLUME_ID_AT = 32808, /* ECMA-119 section 8.4.7 */
    BLOCK_DEVICES_MAX = 3,
};

struct fake {
    char command_line[TEXT_BYTES];
    char rest_path[NAME_BYTES];
    unsigned cpus;
    unsigned memory;
    bool booted; /* there is a boot loader */
    bool gone;   /* what was to happen once has happened */
    bool stopping;
    size_t disks;
    int net;
    int console;
    int listening;
    int relay;
    struct sockaddr_un guest; /* who is the guest at the relay */
    const char *state;
};

bool fake_vfkit_is_meant(const char *program)
{
    const char *slash = strrchr(program, '/');
    return strcmp(slash == NULL ? program : slash + 1, "fake_vfkit") == 0;
}

static _Noreturn void die(const char *what, const char *value)
{
    fprintf(stderr, "Error: %s: %s\n", what, value);
    exit(1);
}

static bool does(const struct fake *fake, const char *word)
{
    const char *at = strstr(fake->command_line, "fake=");
    size_t length = strlen(word);
    return at != NULL && strncmp(at + 5, word, length) == 0 && (at[5 + length] == ' ' || at[5 + length] == '\0');
}

/* The value of a word of the kernel's command line. Return: whether it is there */
static bool word_of(const struct fake *fake, const char *key, char ret_value[static NAME_BYTES])
{
    const char *at = strstr(fake->command_line, key);
    if (at == NULL)
        return false;
    at += strlen(key);
    snprintf(ret_value, NAME_BYTES, "%.*s", (int)strcspn(at, " "), at);
    return true;
}

static void put(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        die("cannot write", text);
}

/* ---- arguments ---------------------------------------------------------------------------------------------------- */

/* The next option of "a,b=c,d"; within quotation marks a comma is a character. Return: NULL at the end */
static char *next_option(char **rest)
{
    char *begin = *rest;
    bool quoted = false;
    if (begin == NULL)
        return NULL;
    char *end = begin;
    for (; *end != '\0' && (quoted || *end != ','); end++)
        quoted ^= *end == '"';
    if (quoted)
        die("mismatched \"", begin);
    *rest = *end == ',' ? end + 1 : NULL;
    *end = '\0';
    return begin;
}

static const char *value_of(const char *option, const char *key)
{
    size_t length = strlen(key);
    return strncmp(option, key, length) == 0 && option[length] == '=' ? option + length + 1 : NULL;
}

static int open_or_die(const char *path, int flags)
{
    int fd = path[0] == '/' ? open(path, flags | O_CLOEXEC, 0666) : -1;
    if (fd < 0)
        die(path, path[0] == '/' ? strerror(errno) : "is no absolute path");
    return fd;
}

static void take_boot_loader(struct fake *fake, char *text)
{
    bool kernel = false;
    if (strcmp(next_option(&text), "linux") != 0)
        die("unknown bootloader type", "");
    for (const char *option; (option = next_option(&text)) != NULL;) {
        const char *value;
        if ((value = value_of(option, "kernel")) != NULL) {
            kernel = true;
            close(open_or_die(value, O_RDONLY));
        } else if ((value = value_of(option, "initrd")) != NULL) {
            close(open_or_die(value, O_RDONLY));
        } else if ((value = value_of(option, "cmdline")) != NULL) {
            size_t length = strlen(value);
            if (length < 2 || value[0] != '"' || value[length - 1] != '"')
                die("cmdline is not within quotation marks", value);
            snprintf(fake->command_line, sizeof fake->command_line, "%.*s", (int)length - 2, value + 1);
        } else {
            die("unknown option for linux bootloaders", option);
        }
    }
    fake->booted = kernel;
}

static void take_network(struct fake *fake, char *text)
{
    int type = 0;
    socklen_t length = sizeof type;
    struct sockaddr_un peer;
    socklen_t peer_length = sizeof peer;
    unsigned mac[6];
    char rest = '\0';
    for (const char *option; (option = next_option(&text)) != NULL;) {
        const char *value;
        if ((value = value_of(option, "fd")) != NULL)
            fake->net = atoi(value);
        else if ((value = value_of(option, "mac")) == NULL ||
                 sscanf(value, "%2x:%2x:%2x:%2x:%2x:%2x%c", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5],
                        &rest) != 6)
            die("unknown option for virtio-net devices", option);
    }
    if (getsockopt(fake->net, SOL_SOCKET, SO_TYPE, &type, &length) != 0 || type != SOCK_DGRAM ||
        getpeername(fake->net, (struct sockaddr *)&peer, &peer_length) != 0)
        die("fd", "is not a connected datagram socket");
}

static void take_device(struct fake *fake, char *text)
{
    struct stat found;
    const char *kind = next_option(&text);
    if (strcmp(kind, "virtio-net") == 0) {
        take_network(fake, text);
        return;
    }
    const char *option = next_option(&text);
    if (strcmp(kind, "virtio-rng") == 0 && option == NULL)
        return;
    const char *value = option == NULL ? NULL : value_of(option, "path");
    if (strcmp(kind, "virtio-blk") == 0 && value != NULL && text == NULL && fake->disks < BLOCK_DEVICES_MAX) {
        int fd = open_or_die(value, O_RDWR);
        if (fstat(fd, &found) != 0 || found.st_size == 0 || found.st_size % 512 != 0)
            die(value, "is no raw disk");
        fake->disks++; /* the descriptor stays open, as a machine's does */
        return;
    }
    value = option == NULL ? NULL : value_of(option, "logFilePath");
    if (strcmp(kind, "virtio-serial") != 0 || value == NULL || text != NULL || fake->console >= 0)
        die("unknown device or option", kind);
    fake->console = open_or_die(value, O_WRONLY | O_CREAT | O_TRUNC);
}

static unsigned number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*end != '\0' || value == 0 || value > 1000000)
        die("is no number", text);
    return (unsigned)value;
}

static void take_uri(struct fake *fake, const char *text)
{
    static const char scheme[] = "unix://";
    const char *path = text + sizeof scheme - 1;
    if (strncmp(text, scheme, sizeof scheme - 1) != 0 || path[0] != '/' || strlen(path) >= sizeof fake->rest_path)
        die("invalid uri", text);
    memcpy(fake->rest_path, path, strlen(path) + 1);
}

static void take_arguments(struct fake *fake, int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("vfkit version v0.0.0-stand-in");
        exit(0);
    }
    for (int at = 1; at < argc; at += 2) {
        char value[TEXT_BYTES]; /* a copy is taken apart, not what ps(1) shows */
        if (at + 1 == argc || strlen(argv[at + 1]) >= sizeof value)
            die("flag needs an argument", argv[at]);
        strcpy(value, argv[at + 1]);
        if (strcmp(argv[at], "--log-level") == 0 && strcmp(value, "error") == 0)
            continue;
        if (strcmp(argv[at], "--restful-uri") == 0)
            take_uri(fake, value);
        else if (strcmp(argv[at], "--cpus") == 0)
            fake->cpus = number(value);
        else if (strcmp(argv[at], "--memory") == 0)
            fake->memory = number(value);
        else if (strcmp(argv[at], "--bootloader") == 0)
            take_boot_loader(fake, value);
        else if (strcmp(argv[at], "--device") == 0)
            take_device(fake, value);
        else
            die("unknown flag", argv[at]);
    }
    if (!fake->booted || fake->cpus == 0 || fake->memory == 0 || fake->rest_path[0] == '\0' || fake->net < 0 ||
        fake->console < 0)
        die("missing", "boot loader, cpus, memory, uri, network or console");
}

/* ---- the guest ---------------------------------------------------------------------------------------------------- */

/* Tells what it was given: its descriptors, and of each disk how long it is and what label it has. */
static void show(const struct fake *fake)
{
    char text[128];
    char label[33] = "";
    struct stat found;
    put(fake->console, "fake guest\n");
    snprintf(text, sizeof text, "cpus %u memory %u disks %zu\n", fake->cpus, fake->memory, fake->disks);
    put(fake->console, text);
    for (int fd = 0; fd < 64; fd++) {
        if (fstat(fd, &found) != 0 || !S_ISREG(found.st_mode) || fd == fake->console)
            continue;
        ssize_t length = pread(fd, label, sizeof label - 1, VOLUME_ID_AT);
        label[length < 0 ? 0 : length] = '\0';
        snprintf(text, sizeof text, "disk %lld %.6s\n", (long long)found.st_size, label);
        put(fake->console, text);
    }
    put(fake->console, "ready\n");
}

static void open_relay(struct fake *fake)
{
    char folder[NAME_BYTES];
    char path[NAME_BYTES];
    struct sockaddr_un own = {.sun_family = AF_UNIX};
    if (!word_of(fake, "relay=", folder))
        return;
    snprintf(path, sizeof path, "%s", fake->rest_path);
    *strrchr(path, '/') = '\0'; /* its folder is called as its lease */
    int length = snprintf(own.sun_path, sizeof own.sun_path, "%s/%s.sock", folder, strrchr(path, '/') + 1);
    fake->relay = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (length >= (int)sizeof own.sun_path || bind(fake->relay, (const struct sockaddr *)&own, sizeof own) != 0 ||
        chmod(own.sun_path, 0777) != 0)
        die(own.sun_path, strerror(errno));
}

static void relay_frames(struct fake *fake)
{
    static char frame[FRAME_BYTES];
    struct sockaddr_un from;
    socklen_t length = sizeof from;
    ssize_t bytes = recvfrom(fake->relay, frame, sizeof frame, MSG_DONTWAIT, (struct sockaddr *)&from, &length);
    if (bytes > 0) {
        fake->guest = from;
        (void)!send(fake->net, frame, (size_t)bytes, MSG_NOSIGNAL);
    }
    bytes = recv(fake->net, frame, sizeof frame, MSG_DONTWAIT);
    if (bytes > 0 && fake->guest.sun_family == AF_UNIX)
        (void)sendto(fake->relay, frame, (size_t)bytes, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&fake->guest,
                     sizeof fake->guest);
}

static void flood_console(const struct fake *fake)
{
    char line[1001];
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    for (size_t written = 0; written < FLOOD_BYTES; written += sizeof line - 1)
        put(fake->console, line);
    put(fake->console, "the end");
}

static void act(struct fake *fake)
{
    char path[NAME_BYTES];
    if (fake->gone || !word_of(fake, "go=", path) || access(path, F_OK) != 0)
        return;
    fake->gone = true;
    if (does(fake, "crash"))
        abort();
    if (does(fake, "guest-shutdown"))
        exit(0);
    if (does(fake, "exit"))
        die("the machine", "is lost");
    if (does(fake, "pause"))
        fake->state = "VirtualMachineStatePaused";
    if (does(fake, "error"))
        fake->state = "VirtualMachineStateError";
    if (does(fake, "stop-and-stay"))
        fake->state = "VirtualMachineStateStopped";
    if (does(fake, "flood-console"))
        flood_console(fake);
}

/* ---- REST --------------------------------------------------------------------------------------------------------- */

static void listen_rest(struct fake *fake)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(fake->rest_path) >= sizeof address.sun_path)
        die("too long", fake->rest_path);
    strcpy(address.sun_path, fake->rest_path);
    fake->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fake->listening, (const struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fake->listening, 8) != 0)
        die(fake->rest_path, strerror(errno));
}

static void respond(int fd, const char *status, const char *body)
{
    char text[TEXT_BYTES];
    int length =
        snprintf(text, sizeof text,
                 "HTTP/1.0 %s\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %zu\r\n\r\n%s",
                 status, strlen(body), body);
    (void)!write(fd, text, (size_t)length);
}

static void say_state(const struct fake *fake, int fd)
{
    char body[256];
    snprintf(body, sizeof body, "{\"canHardStop\":true,\"canStop\":true,\"state\":\"%s\"}", fake->state);
    if (does(fake, "garbage"))
        respond(fd, "200 OK", "VirtualMachineStateRunning");
    else
        respond(fd, "200 OK", body);
}

static void change_state(struct fake *fake, int fd, const char *body)
{
    bool hard = strcmp(body, "{\"state\":\"HardStop\"}") == 0;
    if (!hard && strcmp(body, "{\"state\":\"Stop\"}") != 0) {
        respond(fd, "400 Bad Request", "{\"error\":\"what?\"}");
        return;
    }
    put(fake->console, hard ? "hard stop\n" : "stop\n");
    if (!hard && does(fake, "refuse-stop")) {
        respond(fd, "500 Internal Server Error", "{\"error\":\"invalid state\"}");
        return;
    }
    respond(fd, "202 Accepted", "");
    fake->stopping = !does(fake, "ignore-all") && (hard || !does(fake, "ignore-stop"));
}

static void serve(struct fake *fake)
{
    char text[TEXT_BYTES];
    size_t used = 0;
    int fd = accept(fake->listening, NULL, NULL);
    const char *body = NULL;
    size_t length = 0;
    while (fd >= 0 && (body == NULL || used < (size_t)(body - text) + length)) {
        ssize_t bytes = read(fd, text + used, sizeof text - 1 - used);
        if (bytes <= 0)
            break;
        used += (size_t)bytes;
        text[used] = '\0';
        body = strstr(text, "\r\n\r\n");
        body = body == NULL ? NULL : body + 4;
        const char *said = strstr(text, "Content-Length: ");
        length = said == NULL ? 0 : (size_t)atoi(said + 16);
    }
    if (body != NULL && strncmp(text, "GET /vm/state HTTP/1.", 21) == 0)
        say_state(fake, fd);
    else if (body != NULL && strncmp(text, "POST /vm/state HTTP/1.", 22) == 0)
        change_state(fake, fd, body);
    else if (fd >= 0)
        respond(fd, "404 Not Found", "");
    if (fd >= 0)
        close(fd);
}

int fake_vfkit_main(int argc, char **argv)
{
    static struct fake fake = {.net = -1, .console = -1, .relay = -1, .state = "VirtualMachineStateStopped"};
    signal(SIGPIPE, SIG_IGN);
    take_arguments(&fake, argc, argv);
    alarm(LIFE_S); /* whatever becomes of the test */
    if (does(&fake, "exit-at-once"))
        die("no such machine", "fake");
    if (does(&fake, "mute"))
        pause();
    open_relay(&fake);
    listen_rest(&fake);
    show(&fake);
    for (int tick = 0; !fake.stopping; tick++) {
        struct pollfd polls[] = {{fake.listening, POLLIN, 0}, {fake.net, POLLIN, 0}, {fake.relay, POLLIN, 0}};
        (void)poll(polls, sizeof polls / sizeof *polls, TICK_MS);
        if (polls[0].revents != 0)
            serve(&fake);
        if (fake.relay >= 0)
            relay_frames(&fake);
        if (tick == 0)
            fake.state = "VirtualMachineStateStarting";
        else if (strcmp(fake.state, "VirtualMachineStateStarting") == 0)
            fake.state = "VirtualMachineStateRunning";
        act(&fake);
    }
    exit(0);
}
