/* What a hypervisor that a guest has taken over may answer on its control interface: the reader ends with an answer that is
 * terminated, or with an error, and the connection is closed. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/rest.h"

enum { BYTES_MAX = 2 * REST_ANSWER_BYTES };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    int ends[2];
    if (length > BYTES_MAX)
        return 0;
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    struct rest *rest = calloc(1, sizeof *rest);
    EXPECT(rest != NULL);
    rest_init(rest);
    rest->fd = ends[0];
    EXPECT(length == 0 || send(ends[1], bytes, length, MSG_NOSIGNAL) == (ssize_t)length);
    close(ends[1]);
    struct rest_answer answer = {0};
    struct error err = {0};
    int rc = 0;
    for (size_t reads = 0; rc == 0 && reads <= length + 1; reads++)
        rc = rest_receive(rest, &answer, &err);
    EXPECT(rc == 1 || (rc < 0 && err.code == rc));
    EXPECT(rest->fd == -1);
    EXPECT(memchr(answer.state, '\0', sizeof answer.state) != NULL);
    EXPECT(rc < 0 || (answer.status >= 0 && answer.status <= 999));
    free(rest);
    return 0;
}
