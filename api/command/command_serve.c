/* The daemon. Opened in this order and closed in the reverse: folders, store, recovery, machines, listeners, HTTP. The
 * store comes first because its lock keeps a second daemon away from the sockets. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/command/client.h"
#include "api/command/command.h"
#include "api/command/options.h"
#include "api/config/machines.h"
#include "api/host/confine.h"
#include "api/host/handover.h"
#include "api/host/notify.h"
#include "api/http/http.h"
#include "api/lease/journal.h"
#include "api/lease/lease_recover.h"
#include "api/resource/api.h"
#include "api/resource/handle.h"
#include "base/clock.h"
#include "base/landlock.h"
#include "base/scope.h"

static const char usage[] =
    "usage: omertad [serve] [OPTION...]\n"
    "\n"
    "  --config FILE       configuration, JSON (default: $XDG_CONFIG_HOME/omertad/omertad.json when it is there)\n"
    "  --data DIR          database, token, images (default: $XDG_DATA_HOME/omertad)\n"
    "  --runtime DIR       sockets and seed volumes (default: $XDG_RUNTIME_DIR/omertad, or DATA/run)\n"
    "  --images DIR        guest images (default: DATA/images)\n"
    "  --listen ADDR:PORT  loopback address for HTTP (default: 127.0.0.1:8470; port 0 lets the system choose)\n"
    "  --allow-root        run as root all the same\n"
    "  --handover          ask the daemon that serves now to leave, and take over its machines\n"
    "\n"
    "Logs to stderr. SIGTERM or SIGINT ends every machine, then the daemon. SIGUSR2 ends the daemon alone: its "
    "machines\n"
    "run on without network until the next daemon has proved them (but with onDaemonExit \"terminate\").\n"
    "Exit code: 0 ended as asked, 1 it failed, 2 the command line or the configuration is wrong.\n";

enum {
    PATH_BYTES = CONFIG_PATH_BYTES + 32, /* a folder of ours and a file name */
    SIGN_OF_LIFE_MS = 5000,              /* for the daemon to answer itself; a busy machine needs a tenth */
};

/* Everything that the daemon holds; each part is there or NULL. */
struct daemon {
    const struct config *config;
    struct log log;
    atomic_ulong log_dropped;
    struct notify notify;
    struct tokens tokens;
    struct store *store;
    struct streams *streams;
    struct event_feed *feed;
    struct lease_service service;
    struct journal *journal;
    struct idempotency idempotency;
    struct direct_check direct;
    struct observer observer;
    struct image_verifier *verifier;
    struct api api;
    struct http *http;
    char socket_path[PATH_BYTES];
    struct listen_address tcp;
};

static int open_store(void *context, struct error *err)
{
    struct daemon *daemon = context;
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/omertad.db", daemon->config->paths.data);
    int result = store_open(path, &daemon->store, err);
    if (result < 0)
        return result;
    result = lease_service_init(&daemon->service, daemon->store, &daemon->log, &daemon->config->capacity, err);
    if (result < 0)
        return result;
    daemon->service.expiring_lead_s = daemon->config->lease.expiring_lead_s;
    daemon->service.resolver_count = daemon->config->network.resolver_count;
    memcpy(daemon->service.resolvers, daemon->config->network.resolvers, sizeof daemon->service.resolvers);
    daemon->service.keep_machines = daemon->config->keep_machines;
    daemon->service.tunnel_timeout_ms = daemon->config->tunnel.timeout_s * 1000;
    daemon->service.tunnel_lost_ms = daemon->config->tunnel.lost_s * 1000;
    observer_init(&daemon->observer, route_table, &daemon->log);
    const bool may_direct = vmm_hypervisor_abilities(daemon->config->hypervisor.kind).direct;
    direct_check_init(&daemon->direct, may_direct ? vmm_direct_check : vmm_direct_none, DIRECT_CHECK_AGAIN_MS);
    result = streams_open(&daemon->log, &daemon->streams, err);
    if (result == 0)
        result = event_feed_open(daemon->store, daemon->streams, &daemon->feed, err);
    return result < 0 ? result : journal_start(&daemon->service, &daemon->journal, err);
}

static int open_machines(struct daemon *daemon, struct error *err)
{
    struct vmm_config machines = machines_config(daemon->config);
    machines.log = &daemon->log;
    machines.on_event = journal_event;
    machines.context = daemon->journal;
    struct vmm *vmm = NULL;
    int result = vmm_open(&machines, &vmm, err);
    if (result == 0)
        lease_service_attach(&daemon->service, vmm);
    return result;
}

/* Threads for what takes longer than an HTTP thread may wait. */
static int open_helpers(struct daemon *daemon, struct error *err)
{
    const struct config *config = daemon->config;
    int result = image_verifier_open(config->paths.images, &daemon->verifier, err);
    if (result == 0 && (config->network.mode == MODE_DIRECT || config->network.allow_mode_override))
        result = direct_check_begin(&daemon->direct, err);
    return result;
}

/* Everything that reads requests or writes the store begins here. */
static int serve_confined(const struct config *config, int (*open)(void *context, struct error *err), void *context,
                          struct error *err)
{
    const struct confine_folders folders = {
        .data = config->paths.data, .images = config->paths.images, .packages = config->paths.packages};
    return confine_service(&folders, open, context, err);
}

/** struct http_launch - http_start() as serve_confined() calls it. Owner: open_http() */
struct http_launch {
    const struct http_config *config;
    struct http **ret_http;
};

static int start_http(void *context, struct error *err)
{
    const struct http_launch *launch = context;
    return http_start(launch->config, launch->ret_http, err);
}

/* The sockets are made here: the threads that serve them can make none. */
static int open_http(struct daemon *daemon, struct error *err)
{
    const struct config *config = daemon->config;
    snprintf(daemon->socket_path, sizeof daemon->socket_path, "%s/omertad.sock", config->paths.runtime);
    daemon->tcp = config->listen.tcp;
    int unix_fd SCOPED_FD = listen_unix(daemon->socket_path, err);
    if (unix_fd < 0)
        return unix_fd;
    int tcp_fd SCOPED_FD = config->listen.tcp_enabled ? listen_tcp(&daemon->tcp, err) : -1;
    if (config->listen.tcp_enabled && tcp_fd < 0)
        return tcp_fd;

    daemon->api = (struct api){.config = config,
                               .log = &daemon->log,
                               .store = daemon->store,
                               .service = &daemon->service,
                               .direct = &daemon->direct,
                               .idempotency = &daemon->idempotency,
                               .feed = daemon->feed,
                               .observer = &daemon->observer,
                               .verifier = daemon->verifier,
                               .started_ms = clock_wall_ms()};
    const struct http_config http = {.routes = route_table,
                                     .context = &daemon->api,
                                     .observer = &daemon->observer,
                                     .tokens = &daemon->tokens,
                                     .streams = daemon->streams,
                                     .unix_fd = unix_fd,
                                     .tcp_fd = tcp_fd,
                                     .tcp = daemon->tcp};
    struct http_launch launch = {.config = &http, .ret_http = &daemon->http};
    int result = serve_confined(config, start_http, &launch, err);
    if (result == 0) {
        fd_take(&unix_fd);
        fd_take(&tcp_fd);
    }
    return result;
}

static int open_all(struct daemon *daemon, struct error *err)
{
    int result;
    if ((result = confine_process(err)) < 0 || (result = config_prepare_dirs(daemon->config, err)) < 0 ||
        (result = tokens_open(daemon->config->paths.data, &daemon->tokens, err)) < 0 ||
        (result = serve_confined(daemon->config, open_store, daemon, err)) < 0 ||
        (result = idempotency_open(daemon->config->paths.data, &daemon->idempotency, err)) < 0 ||
        (result = open_machines(daemon, err)) < 0 || (result = lease_recover(&daemon->service, err)) < 0 ||
        (result = open_helpers(daemon, err)) < 0 || (result = open_http(daemon, err)) < 0)
        return result;
    return 0;
}

/* @leave: what can live on does */
static void close_all(struct daemon *daemon, bool leave)
{
    if (daemon->store != NULL) {
        /* Machines first, while the API still answers what becomes of them. */
        struct vmm *vmm = lease_service_detach(&daemon->service);
        if (leave)
            vmm_leave(vmm);
        else
            vmm_close(vmm);
        http_stop(daemon->http);
        if (daemon->http != NULL)
            unlink(daemon->socket_path);
        observer_done(&daemon->observer);
        image_verifier_close(daemon->verifier);
        if (daemon->api.idempotency != NULL)
            idempotency_done(&daemon->idempotency);
        direct_check_done(&daemon->direct);
        journal_stop(daemon->journal);
        lease_service_done(&daemon->service);
    }
    streams_close(daemon->streams);
    event_feed_close(daemon->feed);
    store_close(daemon->store);
}

static void say_started(const struct daemon *daemon)
{
    char host[LISTEN_HOST_BYTES];
    char url[LISTEN_TEXT_BYTES + 8] = "off";
    if (daemon->config->listen.tcp_enabled)
        snprintf(url, sizeof url, "http://%s:%u", listen_host(&daemon->tcp, host), (unsigned)daemon->tcp.port);
    log_line(&daemon->log, LOG_INFO, "daemon.started",
             "version=%s socket=%s url=%s data=%s token_file=%s/token landlock=%d", OMERTAD_VERSION,
             daemon->socket_path, url, daemon->config->paths.data, daemon->config->paths.data, landlock_version());
}

/* Whether the API answers as a client of ours would see it. */
static bool answers_itself(const struct daemon *daemon)
{
    const struct client_request request = {.method = "GET", .path = "/healthz"};
    struct client_answer answer = {0};
    struct error err = {0};
    int result = client_send(daemon->socket_path, &request, SIGN_OF_LIFE_MS, &answer, &err);
    bool well = result == 0 && answer.status == 200;
    if (!well)
        log_line(&daemon->log, LOG_ERROR, "daemon.unwell", "status=%u cause=\"%s\"", answer.status, err.message);
    client_answer_done(&answer);
    return well;
}

/* Wait for a signal of @ending; until then give the service manager its signs of life, while there is life. */
static int wait_for_end(const struct daemon *daemon, const sigset_t *ending)
{
    int number = 0;
#ifdef __linux__
    /* Three signs within the manager's patience: one may be late. */
    const uint64_t every_ms = daemon->notify.watchdog_ms / 3;
    const struct timespec every = {.tv_sec = (time_t)(every_ms / 1000), .tv_nsec = (long)(every_ms % 1000) * 1000000};
    while (every_ms > 0) {
        number = sigtimedwait(ending, NULL, &every);
        if (number > 0)
            return number;
        if (errno == EAGAIN && answers_itself(daemon))
            notify_send(&daemon->notify, "WATCHDOG=1");
    }
#endif
    sigwait(ending, &number);
    return number;
}

/* The daemon that serves now leaves before anything of it is needed here: its locks, its sockets, its machines. */
static int take_place(const struct daemon *daemon, struct error *err)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/omertad.sock", daemon->config->paths.runtime);
    return handover_ask(path, &daemon->log, err);
}

static int run(const struct config *config, bool handover)
{
    struct daemon daemon = {.config = config, .log = {.fd = STDERR_FILENO, .least = LOG_INFO}};
    struct error err = {0};
    /* A manager that cannot be told is no reason not to serve; it will say so by itself. */
    if (notify_open(&daemon.notify, &err) < 0)
        log_line(&daemon.log, LOG_WARNING, "daemon.unmanaged", "cause=\"%s\"", err.message);
    /* Blocked before there are threads, so that every thread leaves them to sigwait() below. */
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &ending, NULL);

    int exit_code = COMMAND_OK;
    bool leave = false;
    if ((handover && take_place(&daemon, &err) < 0) || open_all(&daemon, &err) < 0) {
        log_line(&daemon.log, LOG_ERROR, "daemon.failed", "cause=\"%s\"", err.message);
        exit_code = COMMAND_FAILED;
    } else {
        say_started(&daemon);
        notify_send(&daemon.notify, "READY=1\nSTATUS=Serving leases.");
        int signal_number = wait_for_end(&daemon, &ending);
        leave = signal_number == SIGUSR2;
        notify_send(&daemon.notify, leave ? "STOPPING=1\nSTATUS=Leaving machines to the next daemon."
                                          : "STOPPING=1\nSTATUS=Ending machines.");
        log_line(&daemon.log, LOG_INFO, "daemon.ending", "signal=%d", signal_number);
    }
    close_all(&daemon, leave);
    notify_close(&daemon.notify);
    log_line(&daemon.log, LOG_INFO, "daemon.ended", "exit_code=%d", exit_code);
    return exit_code;
}

int command_serve(int argc, char **argv)
{
    struct options options;
    if (!options_read(argc, argv, "cdrilRH", &options))
        return COMMAND_USAGE;
    if (options.help) {
        fputs(usage, stdout);
        return COMMAND_OK;
    }
    if (options.operand_count > 0) {
        fprintf(stderr, "omertad: serve takes no operand \"%s\"\n", options.operands[0]);
        return COMMAND_USAGE;
    }
    if (geteuid() == 0 && !options.allow_root) {
        fputs("omertad: refusing to run as root: nothing here needs it. Use an ordinary user, or --allow-root.\n",
              stderr);
        return COMMAND_USAGE;
    }
    struct config config;
    struct error err = {0};
    if (config_load(&options.overrides, &config, &err) < 0 || config_share_descriptors(&config, &err) < 0) {
        fprintf(stderr, "omertad: %s\n", err.message);
        return COMMAND_USAGE;
    }
    return run(&config, options.handover);
}
