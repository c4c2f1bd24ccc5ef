/* `omertad run LEASE.json`: a lease as a foreground process, so that whatever starts and ends processes (a shell, Slurm,
 * Nomad, Kubernetes) can place leases. It asks the daemon for the lease, follows its events and gives heartbeats; with
 * the process the heartbeats end, and with them the lease, even when nobody could say so any more. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/command/client.h"
#include "api/command/command.h"
#include "api/command/event_reader.h"
#include "api/command/options.h"
#include "api/command/run_exit.h"
#include "api/command/run_view.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/scope.h"

static const char usage[] =
    "usage: omertad run [--json] [--config FILE] [--data DIR] [--runtime DIR] LEASE.json\n"
    "\n"
    "Leases a VM from the daemon of this machine and stays until the lease ends. LEASE.json is what POST /v1/leases\n"
    "takes, - is the standard input. Events are printed as they come: lines and a progress line on a terminal, JSON\n"
    "lines elsewhere and with --json. SIGTERM, SIGINT or SIGHUP releases the lease; one that comes a second later\n"
    "leaves at once. Killed, this process takes the lease with it, some seconds later (heartbeat_timeout_s; 30\n"
    "unless the file says otherwise).\n"
    "\n"
    "Exit code: 0 the guest shut down, or the lease was released; 1 this command failed; 2 the command line or the\n"
    "file is wrong; 3 a violation ended it; 4 its time was up; 5 the tunnel never came up, or was lost; 6 the guest\n"
    "crashed; 7 machine, filter or image failed; 8 the daemon ended or was away too long; 9 the lease was refused;\n"
    "10 there is no room now; 11 no daemon listens.\n";

enum {
    FILE_BYTES = 262144, /* as the API takes */
    HEAD_BYTES = 8192,   /* status and headers of the stream */
    PIECE_BYTES = 4096,  /* of the stream, read at once */
    ANSWER_MS = 10000,   /* a daemon answers within some milliseconds; a machine without air needs longer */
    ATTEMPTS = 3,        /* at a request whose answer does not come */
    BEATS = 3,           /* within the heartbeat's limit: one may be late, and one be lost */
    HEARTBEAT_S = 30,    /* unless the request says otherwise */
    AGAIN_MS = 500,      /* between attempts to reach a daemon that is away */
    SAME_SIGNAL_MS = 1000,
    TICK_MS = 1000, /* of the progress line */
    PATH_BYTES = CONFIG_PATH_BYTES + 16,
    STOP_SIGNAL = SIGUSR1, /* from us to the thread that waits for the others */
    DETAIL_BYTES = 512,
};

/* One lease, from the request on. */
struct run {
    char socket_path[PATH_BYTES];
    char id[ID_TEXT_BYTES];
    struct run_view view;
    struct event_reader reader;
    int stream; /* -1 while there is none */
    char head[HEAD_BYTES];
    size_t head_used;
    bool in_body;
    uint64_t heard_ms; /* when the daemon was last there */
    uint64_t retry_ms; /* when a lost stream is tried again */
    uint64_t beat_every_ms;
    uint64_t next_beat_ms;
    uint64_t interrupted_ms; /* when the first signal came; 0: none has */
    bool over;               /* the lease has ended, or is not known any more */
};

/* ---- the request ----------------------------------------------------------------------------------------------- */

static int read_all(int fd, char *text, size_t capacity, size_t *ret_length)
{
    size_t length = 0;
    ssize_t got = 1;
    while (got > 0 && length < capacity) {
        got = read(fd, text + length, capacity - length);
        length += got > 0 ? (size_t)got : 0;
    }
    *ret_length = length;
    return got < 0 ? -errno : 0;
}

/* The file as JSON, with a heartbeat in it. Return: owned by the caller; NULL after a line about what is wrong */
static json_t *read_request(const char *path, uint64_t *ret_heartbeat_s)
{
    bool standard = strcmp(path, "-") == 0;
    int fd SCOPED_FD = standard ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    char *text SCOPED_FREE = malloc(FILE_BYTES + 1);
    size_t length = 0;
    int result = fd < 0 ? -errno : text == NULL ? -ENOMEM : read_all(fd, text, FILE_BYTES + 1, &length);
    if (result == 0 && length > FILE_BYTES)
        result = -EFBIG;
    if (result < 0 || text == NULL) {
        fprintf(stderr, "omertad: %s cannot be read: %s\n", path, strerror(-result));
        return NULL;
    }
    json_error_t fault;
    json_t *request = json_loadb(text, length, JSON_REJECT_DUPLICATES, &fault);
    if (request == NULL) {
        fprintf(stderr, "omertad: %s, line %d: %s\n", path, fault.line, fault.text);
        return NULL;
    }
    if (!json_is_object(request)) {
        fprintf(stderr, "omertad: %s is not a JSON object\n", path);
        json_decref(request);
        return NULL;
    }
    const json_t *heartbeat = json_object_get(request, "heartbeat_timeout_s");
    if (heartbeat == NULL)
        json_object_set_new(request, "heartbeat_timeout_s", json_integer(HEARTBEAT_S));
    json_int_t seconds = heartbeat == NULL ? HEARTBEAT_S : json_integer_value(heartbeat);
    *ret_heartbeat_s = seconds > 0 ? (uint64_t)seconds : HEARTBEAT_S; /* the daemon refuses what is no number */
    return request;
}

/* One line that says why, with each field that the daemon names. */
static void print_refusal(const struct client_answer *answer)
{
    const char *title = json_string_value(json_object_get(answer->json, "title"));
    const char *detail = json_string_value(json_object_get(answer->json, "detail"));
    const json_t *errors = json_object_get(answer->json, "errors");
    fprintf(stderr, "omertad: the lease is refused (%u %s)", answer->status, title == NULL ? "" : title);
    if (detail != NULL)
        fprintf(stderr, ": %s", detail);
    for (size_t i = 0; i < json_array_size(errors); i++) {
        const json_t *error = json_array_get(errors, i);
        const char *pointer = json_string_value(json_object_get(error, "pointer"));
        const char *text = json_string_value(json_object_get(error, "detail"));
        fprintf(stderr, "%s %s %s", i == 0 ? "" : ";", pointer == NULL ? "" : pointer, text == NULL ? "" : text);
    }
    fputc('\n', stderr);
}

/* The answer's own time would have to be parsed; its ttl begins about now. */
static uint64_t expiry_ms(const json_t *lease)
{
    json_int_t ttl_s = json_integer_value(json_object_get(lease, "ttl_s"));
    return ttl_s > 0 ? clock_wall_ms() + (uint64_t)ttl_s * 1000 : 0;
}

static bool no_daemon(int result)
{
    return result == -ENOENT || result == -ECONNREFUSED || result == -EACCES;
}

/* Ask, and ask again if the answer was lost on the way: the key makes it one lease. */
static int send_request(const struct run *run, const char *body, struct client_answer *ret_answer, struct error *err)
{
    char headers[CLIENT_HEADER_BYTES];
    struct id key = id_new();
    snprintf(headers, sizeof headers, "Idempotency-Key: %s\r\n", key.text);
    const struct client_request create = {.method = "POST", .path = "/v1/leases", .headers = headers, .body = body};
    int result = -EIO;
    for (int i = 0; i < ATTEMPTS; i++) {
        result = client_send(run->socket_path, &create, ANSWER_MS, ret_answer, err);
        if (result == 0 || no_daemon(result))
            break;
    }
    return result;
}

/* Ask for the lease. Return: RUN_DONE with @run's id filled, or the exit code */
static enum run_exit create(struct run *run, const json_t *request)
{
    size_t bytes = json_dumpb(request, NULL, 0, JSON_COMPACT);
    char *body SCOPED_FREE = calloc(1, bytes + 1);
    struct client_answer answer = {0};
    struct error err = {0};
    int result = error_set(&err, -ENOMEM, "There is no memory for the request.");
    if (body != NULL && json_dumpb(request, body, bytes, JSON_COMPACT) == bytes)
        result = send_request(run, body, &answer, &err);
    if (result < 0) {
        fprintf(stderr, "omertad: %s\n", err.message);
        return no_daemon(result) ? RUN_NO_DAEMON : RUN_FAILED;
    }
    const char *id = json_string_value(json_object_get(answer.json, "id"));
    enum run_exit code = RUN_DONE;
    if (answer.status != 202 || id == NULL || strlen(id) >= sizeof run->id) {
        print_refusal(&answer);
        code = run_exit_refusal(answer.status);
    } else {
        memcpy(run->id, id, strlen(id) + 1);
        run->view.expires_ms = expiry_ms(answer.json);
        run_view_leased(&run->view, answer.json);
    }
    client_answer_done(&answer);
    return code;
}

/* ---- the lease ------------------------------------------------------------------------------------------------- */

/* Ask something about the lease. Return: the status, 0 when the daemon does not answer */
static unsigned ask_lease(struct run *run, const char *method, const char *tail, struct client_answer *ret_answer)
{
    char path[CLIENT_PATH_BYTES];
    struct error err = {0};
    snprintf(path, sizeof path, "/v1/leases/%s%s", run->id, tail);
    const struct client_request request = {.method = method, .path = path};
    *ret_answer = (struct client_answer){0};
    if (client_send(run->socket_path, &request, ANSWER_MS, ret_answer, &err) < 0)
        return 0;
    run->heard_ms = clock_monotonic_ms();
    return ret_answer->status;
}

static void beat(struct run *run, uint64_t now_ms)
{
    struct client_answer answer;
    ask_lease(run, "PUT", "/heartbeat", &answer); /* one that is lost is followed by others within the limit */
    client_answer_done(&answer);
    run->next_beat_ms = now_ms + run->beat_every_ms;
}

/* Whether the lease is over by what the daemon says now. */
static bool is_over(struct run *run)
{
    struct client_answer answer;
    unsigned status = ask_lease(run, "GET", "", &answer);
    const char *state = json_string_value(json_object_get(answer.json, "state"));
    bool over = status == 404 || (status == 200 && state != NULL && strcmp(state, "terminated") == 0);
    client_answer_done(&answer);
    return over;
}

static void close_stream(struct run *run, uint64_t now_ms)
{
    fd_close(&run->stream);
    run->head_used = 0;
    run->in_body = false;
    run->reader.used = 0;
    run->reader.data[0] = '\0';
    run->retry_ms = now_ms + AGAIN_MS;
}

static void open_stream(struct run *run, uint64_t now_ms)
{
    char path[CLIENT_PATH_BYTES];
    char headers[CLIENT_HEADER_BYTES];
    struct error err = {0};
    snprintf(path, sizeof path, "/v1/events?lease_id=%s", run->id);
    int length = snprintf(headers, sizeof headers, "Accept: text/event-stream\r\n");
    if (run->reader.id[0] != '\0')
        snprintf(headers + length, sizeof headers - (size_t)length, "Last-Event-ID: %s\r\n", run->reader.id);
    const struct client_request request = {.method = "GET", .path = path, .headers = headers};
    run->stream = client_connect(run->socket_path, &request, ANSWER_MS, &err);
    run->retry_ms = now_ms + AGAIN_MS;
    /* What happened while nobody listened may be gone from the log, but not from the lease. */
    run->over = run->stream >= 0 && is_over(run);
}

static void on_event(void *context, const char *id, const char *data)
{
    (void)id; /* the reader keeps it for the next stream */
    struct run *run = context;
    json_t *event = json_loads(data, 0, NULL);
    const char *type = json_string_value(json_object_get(event, "type"));
    if (type != NULL) {
        run_view_event(&run->view, data, event);
        run->over = run->over || strcmp(type, "lease.terminated") == 0;
    }
    json_decref(event);
}

/* Past the headers, once they are whole. Return: false when the stream is none */
static bool take_head(struct run *run, const char *bytes, size_t length)
{
    unsigned status = 0;
    if (length > sizeof run->head - run->head_used)
        return false;
    memcpy(run->head + run->head_used, bytes, length);
    run->head_used += length;
    long body = client_parse_head(run->head, run->head_used, &status);
    if (body == 0)
        return true;
    /* 410: the log has gone on without us. Begin with what it has. */
    if (status == 410)
        run->reader.id[0] = '\0';
    if (body < 0 || status != 200)
        return false;
    run->in_body = true;
    event_reader_feed(&run->reader, run->head + body, run->head_used - (size_t)body, on_event, run);
    return true;
}

static void read_stream(struct run *run, uint64_t now_ms)
{
    char bytes[PIECE_BYTES];
    ssize_t got = recv(run->stream, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (got <= 0) {
        close_stream(run, now_ms);
        return;
    }
    run->heard_ms = now_ms;
    if (run->in_body)
        event_reader_feed(&run->reader, bytes, (size_t)got, on_event, run);
    else if (!take_head(run, bytes, (size_t)got))
        close_stream(run, now_ms);
}

static void release(struct run *run)
{
    struct client_answer answer;
    run_view_note(&run->view, "releasing");
    if (ask_lease(run, "DELETE", "", &answer) == 0)
        run_view_note(&run->view, "the daemon does not answer; the lease ends for want of heartbeats");
    client_answer_done(&answer);
}

/* A signal came. Return: false when this process is to leave. A scheduler's signal may come twice, from it and from a
 * script of the job that passes it on; a person's second one comes later. */
static bool interrupt(struct run *run, uint64_t now_ms)
{
    if (run->interrupted_ms == 0) {
        run->interrupted_ms = now_ms;
        release(run);
        return true;
    }
    if (now_ms - run->interrupted_ms < SAME_SIGNAL_MS)
        return true;
    run_view_note(&run->view, "leaving; the lease ends for want of heartbeats");
    return false;
}

/* ---- following ------------------------------------------------------------------------------------------------- */

/* How long to sleep at most, in milliseconds. */
static int wait_ms(const struct run *run, uint64_t now_ms)
{
    uint64_t until_ms = run->next_beat_ms;
    if (run->stream < 0 && run->retry_ms < until_ms)
        until_ms = run->retry_ms;
    if (run->view.progress && now_ms + TICK_MS < until_ms)
        until_ms = now_ms + TICK_MS;
    return until_ms > now_ms ? (int)(until_ms - now_ms) : 0;
}

/* Follow the lease to its end. @signals: a byte for each. Return: false when this process is to leave before that */
static bool follow(struct run *run, int signals)
{
    while (!run->over) {
        uint64_t now_ms = clock_monotonic_ms();
        if (run->stream < 0 && now_ms >= run->retry_ms)
            open_stream(run, now_ms);
        if (now_ms >= run->next_beat_ms)
            beat(run, now_ms);
        /* After so long a silence the lease has ended for want of heartbeats, even if the daemon comes back. */
        if (run->over || run->heard_ms + BEATS * run->beat_every_ms < now_ms)
            break;
        run_view_tick(&run->view, now_ms, clock_wall_ms());
        struct pollfd watched[] = {{.fd = signals, .events = POLLIN}, {.fd = run->stream, .events = POLLIN}};
        if (poll(watched, 2, wait_ms(run, now_ms)) < 0 && errno != EINTR)
            break;
        char byte;
        if ((watched[0].revents & POLLIN) != 0 && read(signals, &byte, 1) == 1) {
            if (!interrupt(run, clock_monotonic_ms()))
                return false;
        }
        if (watched[1].revents != 0)
            read_stream(run, clock_monotonic_ms());
    }
    return true;
}

/* Tell how it ended. Return: the exit code */
static enum run_exit conclude(struct run *run)
{
    struct client_answer answer;
    char detail[DETAIL_BYTES] = "";
    enum lease_reason reason = LEASE_REASON_NONE;
    unsigned status = ask_lease(run, "GET", "", &answer);
    const json_t *termination = json_object_get(answer.json, "termination");
    const char *word = json_string_value(json_object_get(termination, "reason"));
    const char *text = json_string_value(json_object_get(termination, "detail"));
    if (text != NULL)
        snprintf(detail, sizeof detail, "%s", text);
    enum run_exit code = RUN_NODE;
    if (status == 200 && word != NULL && lease_reason_parse(word, &reason))
        code = run_exit_code(reason);
    else
        snprintf(detail, sizeof detail, "%s",
                 status == 0 ? "the daemon does not answer" : "it does not know the lease");
    run_view_ended(&run->view, reason == LEASE_REASON_NONE ? "daemon_lost" : lease_reason_name(reason),
                   detail[0] == '\0' ? NULL : detail, (int)code);
    client_answer_done(&answer);
    return code;
}

/* ---- signals --------------------------------------------------------------------------------------------------- */

/* What the thread that waits for signals needs. Owner: the command, to the process' end. */
struct signal_pipe {
    sigset_t set;
    int ends[2];
    atomic_bool stopping;
    pthread_t thread;
};

/* A thread that waits leaves the others nothing to interrupt, and needs no handler with its globals. */
static void *pass_signals(void *context)
{
    struct signal_pipe *pipe = context;
    int number = 0;
    while (sigwait(&pipe->set, &number) == 0 && !atomic_load(&pipe->stopping)) {
        if (number != STOP_SIGNAL && write(pipe->ends[1], "!", 1) != 1)
            break;
    }
    return NULL;
}

static int start_signals(struct signal_pipe *pipe_of_signals)
{
    atomic_init(&pipe_of_signals->stopping, false);
    sigemptyset(&pipe_of_signals->set);
    sigaddset(&pipe_of_signals->set, SIGTERM);
    sigaddset(&pipe_of_signals->set, SIGINT);
    sigaddset(&pipe_of_signals->set, SIGHUP);
    sigaddset(&pipe_of_signals->set, STOP_SIGNAL);
    if (pipe(pipe_of_signals->ends) != 0)
        return -errno;
    pthread_sigmask(SIG_BLOCK, &pipe_of_signals->set, NULL);
    return -pthread_create(&pipe_of_signals->thread, NULL, pass_signals, pipe_of_signals);
}

static void stop_signals(struct signal_pipe *pipe_of_signals)
{
    atomic_store(&pipe_of_signals->stopping, true);
    pthread_kill(pipe_of_signals->thread, STOP_SIGNAL);
    pthread_join(pipe_of_signals->thread, NULL);
    close(pipe_of_signals->ends[0]);
    close(pipe_of_signals->ends[1]);
}

/* ---- the command ----------------------------------------------------------------------------------------------- */

static enum run_exit run_lease(struct run *run, const json_t *request)
{
    struct signal_pipe signals;
    int result = start_signals(&signals);
    if (result < 0) {
        fprintf(stderr, "omertad: signals cannot be waited for: %s\n", strerror(-result));
        return RUN_FAILED;
    }
    enum run_exit code = create(run, request);
    if (code == RUN_DONE) {
        run->heard_ms = clock_monotonic_ms();
        run->next_beat_ms = run->heard_ms + run->beat_every_ms;
        code = follow(run, signals.ends[0]) ? conclude(run) : RUN_FAILED;
    }
    fd_close(&run->stream);
    stop_signals(&signals);
    return code;
}

_Static_assert((int)RUN_DONE == (int)COMMAND_OK && (int)RUN_USAGE == (int)COMMAND_USAGE, "codes of options_begin()");

int command_run(int argc, char **argv)
{
    struct options options;
    struct config config;
    int code;
    uint64_t heartbeat_s = HEARTBEAT_S;
    if (!options_begin(argc, argv, "cdrj", usage, &options, &config, &code))
        return code;
    if (options.operand_count != 1) {
        fputs(usage, stderr);
        return RUN_USAGE;
    }
    json_t *request = read_request(options.operands[0], &heartbeat_s);
    struct run *run = request == NULL ? NULL : calloc(1, sizeof *run);
    if (run == NULL) {
        json_decref(request);
        return RUN_USAGE;
    }
    bool terminal = isatty(STDOUT_FILENO) == 1;
    run->stream = -1;
    run->beat_every_ms = heartbeat_s * 1000 / BEATS;
    run->view = (struct run_view){.out = stdout,
                                  .json = options.json || !terminal,
                                  .progress = terminal && !options.json,
                                  .started_ms = clock_monotonic_ms()};
    snprintf(run->socket_path, sizeof run->socket_path, "%s/omertad.sock", config.paths.runtime);
    code = (int)run_lease(run, request);
    json_decref(request);
    free(run);
    return code;
}
