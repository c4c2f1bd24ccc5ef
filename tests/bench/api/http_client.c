#include "tests/bench/api/http_client.h"

#include <arpa/inet.h>
#include <err.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void client_open(struct client *client, unsigned port, const char *token)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    const int on = 1;
    client->used = 0;
    client->due_ns = 0;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || connect(client->fd, (const struct sockaddr *)&address, sizeof address) < 0)
        err(1, "connect");
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    snprintf(client->head, sizeof client->head, "Host: 127.0.0.1:%u\r\n%s%s%s", port,
             token[0] == '\0' ? "" : "Authorization: Bearer ", token, token[0] == '\0' ? "" : "\r\n");
}

void client_close(struct client *client)
{
    close(client->fd);
}

void client_send(struct client *client, const char *method, const char *target, const char *body)
{
    char bytes[8192];
    int length = snprintf(bytes, sizeof bytes, "%s %s HTTP/1.1\r\n%s", method, target, client->head);
    if (body == NULL)
        length += snprintf(bytes + length, sizeof bytes - (size_t)length, "\r\n");
    else
        length += snprintf(bytes + length, sizeof bytes - (size_t)length,
                           "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    if (length >= (int)sizeof bytes || send(client->fd, bytes, (size_t)length, MSG_NOSIGNAL) != length)
        err(1, "send");
}

int client_receive(struct client *client)
{
    ssize_t got = recv(client->fd, client->answer + client->used, sizeof client->answer - 1 - client->used, 0);
    if (got <= 0)
        errx(1, "the connection was cut after %zu bytes: %.*s", client->used, (int)client->used, client->answer);
    client->used += (size_t)got;
    client->answer[client->used] = '\0';
    const char *end = strstr(client->answer, "\r\n\r\n");
    if (end == NULL)
        return 0;
    const char *length = strcasestr(client->answer, "\r\nContent-Length:");
    size_t whole = (size_t)(end - client->answer) + 4;
    if (length != NULL && length < end)
        whole += strtoul(length + sizeof "\r\nContent-Length:" - 1, NULL, 10);
    if (client->used < whole)
        return 0;
    client->used = 0;
    return atoi(client->answer + sizeof "HTTP/1.1 " - 1);
}

int client_ask(struct client *client, const char *method, const char *target, const char *body)
{
    client_send(client, method, target, body);
    int status = 0;
    while (status == 0)
        status = client_receive(client);
    return status;
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

void print_durations(const char *name, uint64_t *durations_ns, size_t count)
{
    qsort(durations_ns, count, sizeof *durations_ns, compare);
    printf("\"%s\": {\"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}", name,
           (double)durations_ns[count / 2] / 1000, (double)durations_ns[count * 99 / 100] / 1000,
           (double)durations_ns[count - 1] / 1000);
}
