/* QMP, the hypervisor's control channel: newline-delimited JSON on a unix stream socket. The hypervisor is not trusted
 * further than the guest that may have taken it over: lines are bounded, and so is their rate. */
#ifndef VMM_QMP_H
#define VMM_QMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum qmp_limits {
    QMP_LINE_BYTES = 65536,      /* the longest answer that we ask for takes 200 */
    QMP_LINES_PER_SECOND = 1000, /* a machine that starts or ends sends some ten */
    QMP_WORD_BYTES = 40,         /* a shutdown's reason, a run state, a lease's id */
};

enum qmp_state {
    QMP_GREETING,    /* waits for the hypervisor's first line */
    QMP_NEGOTIATING, /* waits for the answer to qmp_capabilities */
    QMP_READY,
    QMP_CLOSED, /* the other side closed, or broke the protocol */
};

enum qmp_command { QMP_SYSTEM_POWERDOWN, QMP_QUIT, QMP_QUERY_STATUS, QMP_QUERY_NAME };

enum qmp_message_kind {
    QMP_MESSAGE_READY,    /* commands may be sent */
    QMP_MESSAGE_SHUTDOWN, /* @by_guest, @word: the reason */
    QMP_MESSAGE_PANICKED, /* the guest's kernel said so */
    QMP_MESSAGE_STOPPED,  /* the vCPUs do not run any more */
    QMP_MESSAGE_STATUS,   /* @word: the run state */
    QMP_MESSAGE_NAME,     /* @word: the machine's name */
};

/** struct qmp_message - One thing that the hypervisor said. */
struct qmp_message {
    enum qmp_message_kind kind;
    bool by_guest;
    char word[QMP_WORD_BYTES];
};

/**
 * struct qmp - One channel
 * @fd:           non-blocking; -1 when closed
 * @second_ms:    when the second began in which @lines were counted
 *
 * Owner: the machine.
 */
struct qmp {
    int fd;
    enum qmp_state state;
    uint64_t second_ms;
    uint32_t lines;
    size_t used;
    char buffer[QMP_LINE_BYTES];
};

/** qmp_init() - Begin to speak. @fd: taken; -1 is a closed channel. Thread: the channel's owner */
void qmp_init(struct qmp *qmp, int fd);

/**
 * qmp_receive() - Take in what has come
 * Return: 1 when something came, 0 when nothing is there, -EPIPE at the end of the stream
 * Thread: the channel's owner; one read(2)
 */
int qmp_receive(struct qmp *qmp);

/**
 * qmp_next() - The next message of what was received
 * @now_ms:      monotonic
 * @ret_message: filled when there is one
 * Return:       1 for a message, 0 when more has to be received first, -EPROTO when the hypervisor broke the protocol,
 *               by a line that is no JSON object, too long a line or too many
 * Thread:       the channel's owner
 */
int qmp_next(struct qmp *qmp, uint64_t now_ms, struct qmp_message *ret_message, struct error *err);

/**
 * qmp_send() - Give a command; its answer is not waited for
 * Return: 0; -ENOTCONN unless QMP_READY; -EPIPE or -EAGAIN when it could not be sent as a whole
 * Thread: the channel's owner
 */
int qmp_send(struct qmp *qmp, enum qmp_command command);

/** qmp_close() - Close the channel. Thread: the channel's owner */
void qmp_close(struct qmp *qmp);

#endif
