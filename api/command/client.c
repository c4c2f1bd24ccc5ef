/* A request says HTTP/1.0, so that an answer ends with its connection: there are no chunks and nothing is kept alive.
 * That is all that a local client needs, and it keeps a library with thirty others behind it out of the daemon. */
#include "api/command/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/scope.h"

enum {
    HEAD_BYTES = CLIENT_PATH_BYTES + CLIENT_HEADER_BYTES + 256, /* request line and headers */
    FIRST_BYTES = 16384,                                        /* most answers fit; doubled while they do not */
};

static int set_timeouts(int fd, int timeout_ms)
{
    const struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0)
        return -errno;
    return 0;
}

/* A wait that a socket's time limit ended looks like a full or empty buffer. */
static int io_error(void)
{
    const int code = errno;
    if (code == EAGAIN || code == EWOULDBLOCK)
        return -ETIMEDOUT;
    return code > 0 ? -code : -EIO;
}

static int send_all(int fd, const char *text, size_t length)
{
    for (size_t sent = 0; sent < length;) {
        ssize_t more = send(fd, text + sent, length - sent, MSG_NOSIGNAL);
        if (more < 0 && errno == EINTR)
            continue;
        if (more < 0)
            return io_error();
        sent += (size_t)more;
    }
    return 0;
}

static int send_request(int fd, const struct client_request *request)
{
    char head[HEAD_BYTES];
    const char *headers = request->headers == NULL ? "" : request->headers;
    int length = request->body == NULL
                     ? snprintf(head, sizeof head, "%s %s HTTP/1.0\r\nHost: localhost\r\n%s\r\n", request->method,
                                request->path, headers)
                     : snprintf(head, sizeof head,
                                "%s %s HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                                "Content-Length: %zu\r\n%s\r\n",
                                request->method, request->path, strlen(request->body), headers);
    if (length < 0 || (size_t)length >= sizeof head)
        return -ENAMETOOLONG;
    int result = send_all(fd, head, (size_t)length);
    if (result == 0 && request->body != NULL)
        result = send_all(fd, request->body, strlen(request->body));
    /* A daemon that refuses early closes early; its answer is there all the same. */
    return result == -EPIPE || result == -ECONNRESET ? 0 : result;
}

int client_connect(const char *socket_path, const struct client_request *request, int timeout_ms, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(socket_path) >= sizeof address.sun_path)
        return error_set(err, -ENAMETOOLONG, "The socket's path %.128s is too long.", socket_path);
    memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
    int fd SCOPED_FD = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0)
        return error_set(err, -errno, "A socket cannot be made: %s.", strerror(errno));
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    int result = set_timeouts(fd, timeout_ms);
    if (result == 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        result = io_error();
    if (result < 0)
        return error_set(err, result, "No daemon listens at %s: %s.", socket_path, strerror(-result));
    result = send_request(fd, request);
    if (result < 0)
        return error_set(err, result, "The daemon at %s does not take a request: %s.", socket_path, strerror(-result));
    return fd_take(&fd);
}

long client_parse_head(const char *text, size_t length, unsigned *ret_status)
{
    static const char start[] = "HTTP/1.";
    size_t same = sizeof start - 1 < length ? sizeof start - 1 : length;
    if (memcmp(text, start, same) != 0)
        return -EPROTO;
    const char *end = memmem(text, length, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    unsigned status = 0;
    const char *digits = text + sizeof start; /* past the minor version */
    if (digits[0] != ' ' || strspn(digits + 1, "0123456789") != 3)
        return -EPROTO;
    for (int i = 1; i <= 3; i++)
        status = status * 10 + (unsigned)(digits[i] - '0');
    *ret_status = status;
    return (long)(end + 4 - text);
}

/* All until the other side closes. Return: 0; @ret_text is the caller's */
static int read_to_end(int fd, char **ret_text, size_t *ret_length)
{
    size_t capacity = FIRST_BYTES;
    size_t length = 0;
    char *text SCOPED_FREE = malloc(capacity);
    while (text != NULL) {
        ssize_t got = recv(fd, text + length, capacity - length, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return io_error();
        if (got == 0)
            break;
        length += (size_t)got;
        if (length < capacity)
            continue;
        if (capacity > CLIENT_BODY_BYTES)
            return -EPROTO;
        char *more = realloc(text, capacity *= 2);
        if (more == NULL)
            return -ENOMEM;
        text = more;
    }
    if (text == NULL)
        return -ENOMEM;
    *ret_text = text;
    *ret_length = length;
    text = NULL;
    return 0;
}

int client_send(const char *socket_path, const struct client_request *request, int timeout_ms,
                struct client_answer *ret_answer, struct error *err)
{
    int fd SCOPED_FD = client_connect(socket_path, request, timeout_ms, err);
    if (fd < 0)
        return fd;
    char *text SCOPED_FREE = NULL;
    size_t length = 0;
    unsigned status = 0;
    int result = read_to_end(fd, &text, &length);
    if (result < 0 || text == NULL)
        return error_set(err, result, "The daemon's answer cannot be read: %s.", strerror(-result));
    long head = client_parse_head(text, length, &status);
    if (head <= 0)
        return error_set(err, -EPROTO, "What listens at %s does not speak HTTP.", socket_path);
    *ret_answer = (struct client_answer){
        .status = status,
        .json = json_loadb(text + head, length - (size_t)head, 0, NULL),
    };
    return 0;
}

void client_answer_done(struct client_answer *answer)
{
    json_decref(answer->json);
    *answer = (struct client_answer){0};
}
