/* What a hypervisor that a guest has taken over may say on its control channel: the reader ends, in bounded time, with a message,
 * with nothing, or with an error and a closed channel. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/qmp.h"

enum { BYTES_MAX = 100000 };

/* Return: whether the channel goes on. There are no more messages than @most, for each has a byte at least. */
static int take_messages(struct qmp *qmp, size_t most)
{
    for (size_t i = 0;; i++) {
        EXPECT(i <= most);
        struct qmp_message message = {0};
        struct error err = {0};
        const int rc = qmp_next(qmp, 1000, &message, &err);
        if (rc <= 0) {
            EXPECT(rc == 0 || err.code == rc);
            return rc;
        }
        EXPECT(message.kind <= QMP_MESSAGE_NAME && memchr(message.word, '\0', sizeof message.word) != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    int ends[2];
    if (length > BYTES_MAX)
        return 0;
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    struct qmp *qmp = calloc(1, sizeof *qmp);
    EXPECT(qmp != NULL);
    qmp_init(qmp, ends[0]);
    const ssize_t sent = length > 0 ? send(ends[1], bytes, length, MSG_NOSIGNAL) : 0;
    EXPECT(sent >= 0);
    EXPECT(shutdown(ends[1], SHUT_WR) == 0);
    const size_t rounds = (size_t)sent + 2;
    size_t round = 0;
    int received = 1;
    while (round < rounds && received >= 0) {
        received = qmp_receive(qmp);
        if (take_messages(qmp, (size_t)sent) < 0)
            break;
        round++;
    }
    EXPECT(round < rounds);
    qmp_close(qmp);
    close(ends[1]);
    free(qmp);
    return 0;
}
