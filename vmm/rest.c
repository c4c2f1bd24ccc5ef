/* HTTP/1.0, so that the end of the connection is the end of the answer, and neither chunks nor a second answer have to be
 * understood.
 *
 * Source: vfkit doc/usage.md, RESTful API; RFC 1945 */
#include "vmm/rest.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/scope.h"
#include "vmm/channel.h"

enum {
    STATUS_AT = sizeof "HTTP/1.x " - 1,
    STATUS_DIGITS = 3,
};

static const char get_state[] = "GET /vm/state HTTP/1.0\r\nHost: vfkit\r\n\r\n";
static const char stop[] = "POST /vm/state HTTP/1.0\r\nHost: vfkit\r\nContent-Type: application/json\r\n"
                           "Content-Length: 16\r\n\r\n{\"state\":\"Stop\"}";
static const char hard_stop[] = "POST /vm/state HTTP/1.0\r\nHost: vfkit\r\nContent-Type: application/json\r\n"
                                "Content-Length: 20\r\n\r\n{\"state\":\"HardStop\"}";

static const char *const requests[] = {[REST_GET_STATE] = get_state, [REST_STOP] = stop, [REST_HARD_STOP] = hard_stop};

void rest_init(struct rest *rest)
{
    rest->fd = -1;
    rest->used = 0;
}

void rest_close(struct rest *rest)
{
    fd_close(&rest->fd);
    rest->used = 0;
}

int rest_send(struct rest *rest, const char *path, enum rest_request request, uint64_t now_ms, struct error *err)
{
    rest_close(rest);
    int rc = channel_reopen(path, &rest->fd, err);
    if (rc != 0)
        return rc;
    rest->request = request;
    rest->sent_ms = now_ms;
    size_t length = strlen(requests[request]);
    ssize_t sent = send(rest->fd, requests[request], length, MSG_NOSIGNAL);
    if (sent == (ssize_t)length)
        return 0;
    int code = sent < 0 ? errno : EAGAIN;
    rest_close(rest);
    return error_set(err, -code, "%.200s: cannot ask: %s", path, strerror(code));
}

bool rest_is_pending(const struct rest *rest, uint64_t now_ms)
{
    return rest->fd >= 0 && now_ms - rest->sent_ms < REST_PENDING_MS;
}

static int broken(struct error *err, const char *what)
{
    return error_set(err, -EPROTO, "the hypervisor's answer: %s", what);
}

/* Virtualization.framework's own words have its name before them. */
static void copy_state(const json_t *body, char ret_state[static REST_STATE_BYTES])
{
    static const char prefix[] = "VirtualMachineState";
    const char *text = json_string_value(json_object_get(body, "state"));
    if (text == NULL)
        text = "";
    if (strncmp(text, prefix, sizeof prefix - 1) == 0)
        text += sizeof prefix - 1;
    snprintf(ret_state, REST_STATE_BYTES, "%.*s", REST_STATE_BYTES - 1, text);
}

static int parse_status(const char *text, size_t length)
{
    if (length < STATUS_AT + STATUS_DIGITS || strncmp(text, "HTTP/1.", STATUS_AT - 2) != 0 ||
        text[STATUS_AT - 1] != ' ')
        return -1;
    int status = 0;
    for (size_t at = STATUS_AT; at < STATUS_AT + STATUS_DIGITS; at++) {
        if (text[at] < '0' || text[at] > '9')
            return -1;
        status = status * 10 + (text[at] - '0');
    }
    return status;
}

static int parse(const struct rest *rest, struct rest_answer *ret_answer, struct error *err)
{
    static const char gap[] = "\r\n\r\n";
    struct rest_answer answer = {.request = rest->request, .status = parse_status(rest->buffer, rest->used)};
    const char *body = memmem(rest->buffer, rest->used, gap, sizeof gap - 1);
    if (answer.status < 0 || body == NULL)
        return broken(err, "is not HTTP");
    body += sizeof gap - 1;
    json_error_t reason;
    json_t *object = json_loadb(body, rest->used - (size_t)(body - rest->buffer), JSON_REJECT_DUPLICATES, &reason);
    copy_state(object, answer.state); /* of none, or of something else than an object: "" */
    json_decref(object);
    *ret_answer = answer;
    return 1;
}

int rest_receive(struct rest *rest, struct rest_answer *ret_answer, struct error *err)
{
    if (rest->fd < 0)
        return -EPIPE;
    ssize_t length = read(rest->fd, rest->buffer + rest->used, sizeof rest->buffer - rest->used);
    if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    if (length > 0) {
        rest->used += (size_t)length;
        if (rest->used < sizeof rest->buffer)
            return 0;
    }
    int rc = rest->used < sizeof rest->buffer ? parse(rest, ret_answer, err) : broken(err, "is too long");
    rest_close(rest);
    return rc;
}
