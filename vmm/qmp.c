#include "vmm/qmp.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/scope.h"

static const char negotiate[] = "{\"execute\":\"qmp_capabilities\",\"id\":\"negotiate\"}\n";
static const char status_id[] = "status";
static const char name_id[] = "name";

static const char *const commands[] = {
    [QMP_SYSTEM_POWERDOWN] = "{\"execute\":\"system_powerdown\",\"id\":\"powerdown\"}\n",
    [QMP_QUIT] = "{\"execute\":\"quit\",\"id\":\"quit\"}\n",
    [QMP_QUERY_STATUS] = "{\"execute\":\"query-status\",\"id\":\"status\"}\n",
    [QMP_QUERY_NAME] = "{\"execute\":\"query-name\",\"id\":\"name\"}\n",
};

void qmp_init(struct qmp *qmp, int fd)
{
    qmp->fd = fd;
    qmp->state = fd < 0 ? QMP_CLOSED : QMP_GREETING;
    qmp->second_ms = 0;
    qmp->lines = 0;
    qmp->used = 0;
}

void qmp_close(struct qmp *qmp)
{
    fd_close(&qmp->fd);
    qmp->state = QMP_CLOSED;
}

int qmp_receive(struct qmp *qmp)
{
    if (qmp->fd < 0)
        return -EPIPE;
    REQUIRE(qmp->used < sizeof qmp->buffer); /* qmp_next() fails before that */
    ssize_t length = read(qmp->fd, qmp->buffer + qmp->used, sizeof qmp->buffer - qmp->used);
    if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    if (length <= 0) {
        fd_close(&qmp->fd); /* what came before can still be read with qmp_next() */
        return -EPIPE;
    }
    qmp->used += (size_t)length;
    return 1;
}

static int send_line(struct qmp *qmp, const char *line)
{
    size_t length = strlen(line);
    ssize_t sent = send(qmp->fd, line, length, MSG_NOSIGNAL);
    if (sent == (ssize_t)length)
        return 0;
    return sent < 0 ? -errno : -EAGAIN;
}

int qmp_send(struct qmp *qmp, enum qmp_command command)
{
    if (qmp->state != QMP_READY || qmp->fd < 0)
        return -ENOTCONN;
    return send_line(qmp, commands[command]);
}

static int broken(struct qmp *qmp, struct error *err, const char *what)
{
    qmp_close(qmp);
    return error_set(err, -EPROTO, "the hypervisor broke QMP: %s", what);
}

static void copy_word(const json_t *object, const char *key, char ret_word[static QMP_WORD_BYTES])
{
    const char *text = json_string_value(json_object_get(object, key));
    snprintf(ret_word, QMP_WORD_BYTES, "%.39s", text == NULL ? "" : text);
}

/* Whoever asked for nothing else than QMP_SYSTEM_POWERDOWN and QMP_QUIT sees their effect, so only questions have an
 * answer that is read. */
static bool take_answer(const json_t *line, struct qmp_message *ret_message)
{
    const char *id = json_string_value(json_object_get(line, "id"));
    const json_t *answer = json_object_get(line, "return");
    if (id == NULL || !json_is_object(answer))
        return false;
    if (strcmp(id, status_id) == 0) {
        ret_message->kind = QMP_MESSAGE_STATUS;
        copy_word(answer, "status", ret_message->word);
        return true;
    }
    if (strcmp(id, name_id) == 0) {
        ret_message->kind = QMP_MESSAGE_NAME;
        copy_word(answer, "name", ret_message->word);
        return true;
    }
    return false;
}

static bool take_event(const json_t *line, struct qmp_message *ret_message)
{
    const char *event = json_string_value(json_object_get(line, "event"));
    const json_t *data = json_object_get(line, "data");
    if (event == NULL)
        return take_answer(line, ret_message);
    if (strcmp(event, "SHUTDOWN") == 0) {
        ret_message->kind = QMP_MESSAGE_SHUTDOWN;
        ret_message->by_guest = json_is_true(json_object_get(data, "guest"));
        copy_word(data, "reason", ret_message->word);
    } else if (strcmp(event, "GUEST_PANICKED") == 0) {
        ret_message->kind = QMP_MESSAGE_PANICKED;
    } else if (strcmp(event, "STOP") == 0) {
        ret_message->kind = QMP_MESSAGE_STOPPED;
    } else {
        return false; /* POWERDOWN, RESET, RTC_CHANGE and whatever a newer QEMU says */
    }
    return true;
}

/* Return: as qmp_next(). */
static int take_object(struct qmp *qmp, const json_t *line, struct qmp_message *ret_message, struct error *err)
{
    switch (qmp->state) {
    case QMP_GREETING:
        if (!json_is_object(json_object_get(line, "QMP")))
            return broken(qmp, err, "no greeting");
        qmp->state = QMP_NEGOTIATING;
        if (qmp->fd >= 0 && send_line(qmp, negotiate) != 0)
            return broken(qmp, err, "it does not listen");
        return 0;
    case QMP_NEGOTIATING:
        if (json_object_get(line, "error") != NULL)
            return broken(qmp, err, "it refused to negotiate");
        if (json_object_get(line, "return") == NULL)
            return take_event(line, ret_message);
        qmp->state = QMP_READY;
        ret_message->kind = QMP_MESSAGE_READY;
        return 1;
    case QMP_READY:
        return take_event(line, ret_message);
    case QMP_CLOSED:
        break;
    }
    return 0;
}

/* A bare CR is how QMP ends its lines too; jansson takes it as white space. */
static int take_line(struct qmp *qmp, size_t length, struct qmp_message *ret_message, struct error *err)
{
    json_error_t reason;
    json_t *line = json_loadb(qmp->buffer, length, JSON_REJECT_DUPLICATES, &reason);
    int rc = json_is_object(line) ? take_object(qmp, line, ret_message, err) : broken(qmp, err, "not a JSON object");
    json_decref(line);
    return rc;
}

int qmp_next(struct qmp *qmp, uint64_t now_ms, struct qmp_message *ret_message, struct error *err)
{
    while (qmp->state != QMP_CLOSED) {
        const char *end = memchr(qmp->buffer, '\n', qmp->used);
        if (end == NULL)
            return qmp->used < sizeof qmp->buffer ? 0 : broken(qmp, err, "too long a line");
        if (now_ms - qmp->second_ms >= 1000) {
            qmp->second_ms = now_ms;
            qmp->lines = 0;
        }
        if (++qmp->lines > QMP_LINES_PER_SECOND)
            return broken(qmp, err, "too many lines in a second");
        size_t length = (size_t)(end - qmp->buffer);
        struct qmp_message message = {0};
        int rc = take_line(qmp, length, &message, err);
        qmp->used -= length + 1;
        memmove(qmp->buffer, end + 1, qmp->used);
        if (rc > 0)
            *ret_message = message;
        if (rc != 0)
            return rc;
    }
    return 0;
}
