/* Loads for the API and what they are compared with. Each prints one JSON line.
 *
 *   api_bench get PORT TOKEN TARGETS RATE SECONDS      GETs at a rate, of the targets that a file lists, in turn
 *   api_bench echo PORT BYTES                          a bare libmicrohttpd that answers with so many bytes; until killed
 *   api_bench post PORT TOKEN BODY COUNT CLIENTS FIRST POSTs of leases, as fast as they are answered
 *   api_bench rows DATABASE COUNT                      commits of the rows of leases into a database of the same schema
 *   api_bench streams PORT TOKEN BODY READERS COUNT FIRST  leases made before readers of events
 *
 * BODY is a lease request with %u for the port of its consumer, which counts up from FIRST. */
#include <err.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/api/http_client.h"

enum {
    CONNECTIONS = 16, /* of the GETs: a request finds a free one unless 16 are late */
    TARGETS_MAX = 2000,
    CLIENTS_MAX = 32,
    READERS_MAX = 256,
    BODY_BYTES = 2048,
};

static unsigned number_of(const char *text)
{
    return (unsigned)strtoul(text, NULL, 10);
}

/* ---- GET at a rate --------------------------------------------------------------------------------------------- */

static size_t read_lines(const char *path, char **ret_lines, size_t capacity)
{
    FILE *file = fopen(path, "r");
    char line[256];
    size_t count = 0;
    if (file == NULL)
        err(1, "%s", path);
    while (count < capacity && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        ret_lines[count++] = strdup(line);
    }
    fclose(file);
    return count;
}

/* Requests are due by the clock whatever became of those before, so that a stall counts for all that it held up. */
static int load_get(char **words)
{
    static struct client clients[CONNECTIONS];
    static char *targets[TARGETS_MAX];
    size_t target_count = read_lines(words[2], targets, TARGETS_MAX);
    size_t total = (size_t)number_of(words[3]) * number_of(words[4]);
    uint64_t step_ns = 1000000000 / number_of(words[3]);
    uint64_t *durations = calloc(total, sizeof *durations);
    struct pollfd polls[CONNECTIONS];
    size_t sent = 0, done = 0, refused = 0;
    for (size_t i = 0; i < CONNECTIONS; i++)
        client_open(&clients[i], number_of(words[0]), words[1]);
    uint64_t begin = now_ns() + 1000000;
    while (done < total) {
        for (size_t i = 0; i < CONNECTIONS && sent < total && now_ns() >= begin + sent * step_ns; i++) {
            if (clients[i].due_ns != 0)
                continue;
            clients[i].due_ns = begin + sent * step_ns;
            client_send(&clients[i], "GET", targets[sent++ % target_count], NULL);
        }
        for (size_t i = 0; i < CONNECTIONS; i++)
            polls[i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
        uint64_t now = now_ns();
        uint64_t due = begin + sent * step_ns;
        const struct timespec wait = {.tv_nsec = sent < total ? (due > now ? (long)(due - now) : 0) : 100000000};
        if (ppoll(polls, CONNECTIONS, &wait, NULL) <= 0)
            continue;
        for (size_t i = 0; i < CONNECTIONS; i++) {
            int status = polls[i].revents != 0 ? client_receive(&clients[i]) : 0;
            if (status == 0)
                continue;
            refused += status != 200;
            durations[done++] = now_ns() - clients[i].due_ns;
            clients[i].due_ns = 0;
        }
    }
    printf("{\"requests\": %zu, \"refused\": %zu, \"per_s\": %.0f, ", total, refused,
           (double)total * 1e9 / (double)(now_ns() - begin));
    print_durations("latency", durations, total);
    puts("}");
    return refused == 0 ? 0 : 1;
}

/* ---- the bare server ------------------------------------------------------------------------------------------- */

static enum MHD_Result answer_echo(void *text, struct MHD_Connection *connection, const char *url, const char *method,
                                   const char *version, const char *upload, size_t *upload_bytes, void **state)
{
    (void)url, (void)method, (void)version, (void)upload, (void)upload_bytes;
    if (*state == NULL) { /* an answer at the first call would close the connection */
        *state = text;
        return MHD_YES;
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_PERSISTENT);
    MHD_add_response_header(response, "Content-Type", "application/json");
    enum MHD_Result result = MHD_queue_response(connection, 200, response);
    MHD_destroy_response(response);
    return result;
}

static int serve_echo(char **words)
{
    size_t bytes = number_of(words[1]);
    char *text = malloc(bytes + 1);
    memset(text, 'x', bytes);
    text[bytes] = '\0';
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)number_of(words[0])),
                                        .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    if (MHD_start_daemon(MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, answer_echo, text,
                         MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_THREAD_POOL_SIZE, 2u, MHD_OPTION_END) == NULL)
        err(1, "libmicrohttpd");
    puts("{}");
    fflush(stdout);
    for (;;)
        pause();
}

/* ---- durable POSTs --------------------------------------------------------------------------------------------- */

/* The request of one lease. */
static void fill(char ret_body[static BODY_BYTES], const char *template, unsigned port)
{
    const char *place = strstr(template, "%u");
    if (place == NULL)
        errx(1, "BODY has no %%u");
    snprintf(ret_body, BODY_BYTES, "%.*s%u%s", (int)(place - template), template, port, place + 2);
}

static int load_post(char **words)
{
    static struct client clients[CLIENTS_MAX];
    size_t total = number_of(words[3]), client_count = number_of(words[4]);
    unsigned first = number_of(words[5]);
    uint64_t *durations = calloc(total, sizeof *durations);
    struct pollfd polls[CLIENTS_MAX];
    size_t sent = 0, done = 0;
    if (client_count > CLIENTS_MAX)
        errx(1, "%d clients at most", CLIENTS_MAX);
    for (size_t i = 0; i < client_count; i++)
        client_open(&clients[i], number_of(words[0]), words[1]);
    uint64_t begin = now_ns();
    while (done < total) {
        for (size_t i = 0; i < client_count; i++) {
            char body[BODY_BYTES];
            polls[i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
            if (clients[i].due_ns != 0 || sent == total)
                continue;
            fill(body, words[2], first + (unsigned)sent++);
            clients[i].due_ns = now_ns();
            client_send(&clients[i], "POST", "/v1/leases", body);
        }
        poll(polls, (nfds_t)client_count, -1);
        for (size_t i = 0; i < client_count; i++) {
            int status = polls[i].revents != 0 ? client_receive(&clients[i]) : 0;
            if (status == 0)
                continue;
            if (status != 202)
                errx(1, "%s", clients[i].answer);
            durations[done++] = now_ns() - clients[i].due_ns;
            clients[i].due_ns = 0;
        }
    }
    printf("{\"leases\": %zu, \"per_s\": %.1f, ", total, (double)total * 1e9 / (double)(now_ns() - begin));
    print_durations("latency", durations, total);
    puts("}");
    return 0;
}

/* ---- the same rows without a daemon ---------------------------------------------------------------------------- */

static void run(sqlite3 *db, const char *sql)
{
    char *message = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        errx(1, "%s: %s", sql, message);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK)
        errx(1, "%s: %s", sql, sqlite3_errmsg(db));
    return statement;
}

static void step(sqlite3_stmt *statement)
{
    if (sqlite3_step(statement) != SQLITE_DONE)
        errx(1, "%s: %s", sqlite3_sql(statement), sqlite3_errmsg(sqlite3_db_handle(statement)));
    sqlite3_reset(statement);
}

/* Copies the columns of a table's one template row, but for its number, its id and whatever has to differ. */
static sqlite3_stmt *prepare_copy(sqlite3 *db, const char *table, const char *key)
{
    char columns[4096] = "", values[4096] = "", sql[9000];
    sqlite3_stmt *info;
    snprintf(sql, sizeof sql, "SELECT name FROM pragma_table_info('%s') WHERE pk = 0", table);
    info = prepare(db, sql);
    while (sqlite3_step(info) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(info, 0);
        const char *glue = columns[0] == '\0' ? "" : ", ";
        bool varies = strcmp(name, key) == 0;
        snprintf(columns + strlen(columns), sizeof columns - strlen(columns), "%s%s", glue, name);
        snprintf(values + strlen(values), sizeof values - strlen(values), "%s%s", glue, varies ? "?1" : name);
    }
    sqlite3_finalize(info);
    snprintf(sql, sizeof sql, "INSERT INTO %s (%s) SELECT %s FROM template_%s", table, columns, values, table);
    return prepare(db, sql);
}

static int commit_rows(char **words)
{
    static const char *const tables[][2] = {{"leases", "id"}, {"peers", "lease_id"}, {"events", "lease_id"}};
    sqlite3 *db;
    sqlite3_stmt *copies[3];
    size_t total = number_of(words[1]);
    if (sqlite3_open(words[0], &db) != SQLITE_OK)
        errx(1, "%s: %s", words[0], sqlite3_errmsg(db));
    run(db, "PRAGMA foreign_keys = ON; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
    for (size_t i = 0; i < 3; i++)
        copies[i] = prepare_copy(db, tables[i][0], tables[i][1]);
    sqlite3_stmt *begin = prepare(db, "BEGIN IMMEDIATE"), *commit = prepare(db, "COMMIT");
    uint64_t *durations = calloc(total, sizeof *durations);
    uint64_t begun = now_ns();
    for (size_t row = 0; row < total; row++) {
        char id[37];
        snprintf(id, sizeof id, "018f0000-0000-7000-8000-%012zx", row + (size_t)getpid() * 1000000);
        uint64_t at = now_ns();
        step(begin);
        for (size_t i = 0; i < 3; i++) {
            sqlite3_bind_text(copies[i], 1, id, -1, SQLITE_STATIC);
            step(copies[i]);
        }
        step(commit);
        durations[row] = now_ns() - at;
    }
    printf("{\"commits\": %zu, \"per_s\": %.1f, ", total, (double)total * 1e9 / (double)(now_ns() - begun));
    print_durations("latency", durations, total);
    puts("}");
    return 0;
}

/* ---- readers of events ----------------------------------------------------------------------------------------- */

/* Whether what a reader got so far tells of this lease's making; a newer lease comes only when all have. */
static bool told(struct client *reader, const char *id)
{
    ssize_t got =
        recv(reader->fd, reader->answer + reader->used, sizeof reader->answer - 1 - reader->used, MSG_DONTWAIT);
    if (got == 0)
        errx(1, "a reader was dropped");
    if (got > 0)
        reader->used += (size_t)got;
    reader->answer[reader->used] = '\0';
    const char *found = strstr(reader->answer, id);
    if (found == NULL)
        return false;
    reader->used = 0;
    return true;
}

static int load_streams(char **words)
{
    static struct client readers[READERS_MAX];
    struct client poster;
    struct pollfd polls[READERS_MAX];
    size_t reader_count = number_of(words[3]), total = number_of(words[4]), done = 0;
    uint64_t *durations = calloc(reader_count * total, sizeof *durations);
    if (reader_count > READERS_MAX)
        errx(1, "%d readers at most", READERS_MAX);
    for (size_t i = 0; i < reader_count; i++) {
        client_open(&readers[i], number_of(words[0]), words[1]);
        strcat(readers[i].head, "Accept: text/event-stream\r\n");
        client_send(&readers[i], "GET", "/v1/events?after=latest", NULL);
        readers[i].answer[0] = '\0';
        while (strstr(readers[i].answer, "\r\n\r\n") == NULL)
            told(&readers[i], "never");
    }
    client_open(&poster, number_of(words[0]), words[1]);
    for (size_t lease = 0; lease < total; lease++) {
        char body[BODY_BYTES], id[40] = "";
        fill(body, words[2], number_of(words[5]) + (unsigned)lease);
        for (size_t i = 0; i < reader_count; i++)
            readers[i].used = 0;
        if (client_ask(&poster, "POST", "/v1/leases", body) != 202)
            errx(1, "%s", poster.answer);
        uint64_t begin = now_ns();
        sscanf(strcasestr(poster.answer, "\r\nLocation: /v1/leases/"), "\r\nLocation: /v1/leases/%36s", id);
        bool has[READERS_MAX] = {false};
        for (size_t left = reader_count; left > 0;) {
            for (size_t i = 0; i < reader_count; i++)
                polls[i] = (struct pollfd){.fd = has[i] ? -1 : readers[i].fd, .events = POLLIN};
            if (poll(polls, (nfds_t)reader_count, 10000) <= 0)
                errx(1, "%zu readers were not told within 10 s", left);
            for (size_t i = 0; i < reader_count; i++) {
                if (has[i] || polls[i].revents == 0 || !told(&readers[i], id))
                    continue;
                has[i] = true;
                durations[done++] = now_ns() - begin;
                left--;
            }
        }
        usleep(20000); /* what follows from the lease is told meanwhile, and passed over */
    }
    printf("{\"readers\": %zu, \"events\": %zu, ", reader_count, total);
    print_durations("delivery", durations, done);
    puts("}");
    return 0;
}

int main(int count, char **words)
{
    static const struct {
        const char *name;
        int words;
        int (*run)(char **words);
    } loads[] = {{"get", 5, load_get},
                 {"echo", 2, serve_echo},
                 {"post", 6, load_post},
                 {"rows", 2, commit_rows},
                 {"streams", 6, load_streams}};
    prctl(PR_SET_TIMERSLACK, 1UL);
    for (size_t i = 0; i < sizeof loads / sizeof loads[0]; i++) {
        if (count > 1 && strcmp(words[1], loads[i].name) == 0 && count == loads[i].words + 2)
            return loads[i].run(words + 2);
    }
    fputs("usage: see the top of tests/bench/api/main.c\n", stderr);
    return 2;
}
