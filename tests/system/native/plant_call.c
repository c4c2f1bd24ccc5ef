/* A library that is loaded before the C library (LD_PRELOAD) and makes a thread of the daemon misbehave: who sends it a marker
 * has the thread that reads it make a system call that it has no business with. The daemon itself knows nothing of this. */
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char in_frame[] = "plant-a-call-of-the-nat";
static const char in_request[] = "plant-a-call-of-http";
static const char in_file_request[] = "plant-a-look-at-a-file"; /* the process ends if it is seen */

int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *limit)
{
    int received = (int)syscall(SYS_recvmmsg, fd, messages, count, flags, limit);
    for (int i = 0; i < received; i++)
        if (memmem(messages[i].msg_hdr.msg_iov[0].iov_base, messages[i].msg_len, in_frame, sizeof in_frame - 1) != NULL)
            syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY);
    return received;
}

ssize_t recv(int fd, void *bytes, size_t capacity, int flags)
{
    ssize_t length = syscall(SYS_recvfrom, fd, bytes, capacity, flags, NULL, NULL);
    if (length > 0 && memmem(bytes, (size_t)length, in_request, sizeof in_request - 1) != NULL)
        syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    if (length > 0 && memmem(bytes, (size_t)length, in_file_request, sizeof in_file_request - 1) != NULL &&
        syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY) >= 0)
        syscall(SYS_exit_group, 1);
    return length;
}
