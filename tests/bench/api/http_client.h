/* A load of HTTP requests over kept connections, on one thread. */
#ifndef TESTS_BENCH_API_HTTP_CLIENT_H
#define TESTS_BENCH_API_HTTP_CLIENT_H

#include <stddef.h>
#include <stdint.h>

enum {
    CLIENT_ANSWER_BYTES = 65536, /* the longest answer of this bench has 3 KiB */
    CLIENT_HEAD_BYTES = 512,
};

/* One connection; one request at a time. Owner: the caller, from client_open() to client_close(). */
struct client {
    int fd;
    char head[CLIENT_HEAD_BYTES]; /* headers of every request, after its first line */
    size_t used;
    uint64_t due_ns; /* when the request in flight should have been sent; 0 for none */
    char answer[CLIENT_ANSWER_BYTES];
};

uint64_t now_ns(void);

/* Connect to 127.0.0.1:@port; ends the program when it cannot. @token: or "". */
void client_open(struct client *client, unsigned port, const char *token);
void client_close(struct client *client);

/* Send one request. @body: or NULL. */
void client_send(struct client *client, const char *method, const char *target, const char *body);

/* Read what is there. Return: the status of a whole answer, 0 when more has to come. Ends the program at a cut connection. */
int client_receive(struct client *client);

/* Send and wait. Return: the status. */
int client_ask(struct client *client, const char *method, const char *target, const char *body);

/* Print `"NAME": {"p50_us": ..., "p99_us": ..., "max_us": ...}` of durations, which are sorted. */
void print_durations(const char *name, uint64_t *durations_ns, size_t count);

#endif
