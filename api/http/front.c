#include "api/http/front.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "api/http/head.h"
#include "api/http/wake.h"
#include "base/clock.h"
#include "base/scope.h"

/* Only Linux tells of a closed other end without a read; elsewhere the next look finds it. */
#ifndef POLLRDHUP
#define POLLRDHUP 0
#endif

enum {
    TICK_MS = 1000,
    DESCRIPTORS_SHARE = 8, /* each door's connections may take this part of them */
};

enum state {
    STATE_SILENT, /* nothing has arrived */
    STATE_PART,   /* something, and not all */
    STATE_WHOLE,  /* no place was free */
};

struct waiting {
    int fd; /* owned */
    enum state state;
    uint64_t since_ms;
    uint64_t look_ms; /* when to look again, unless STATE_SILENT */
    unsigned pause_ms;
};

/* One door and those before it, oldest first. */
struct queue {
    struct front_door door;
    size_t count;
    size_t served; /* by the other side at the last tick */
    struct waiting waiting[FRONT_WAITING_MAX];
};

struct front {
    pthread_t thread;
    struct wake wake;
    atomic_bool ending;
    atomic_bool wanted; /* somebody waits for a place */
    size_t waiting_max;
    size_t door_count;
    uint64_t tick_ms;
    uint64_t accept_ms; /* no accept before: there were no descriptors */
    struct queue queues[FRONT_DOORS_MAX];
    struct pollfd polled[1 + FRONT_DOORS_MAX * (1 + FRONT_WAITING_MAX)];
    char head[FRONT_HEAD_BYTES + 1];
};

/* ---- one connection ---------------------------------------------------------------------------------------------- */

static void pause_for(struct waiting *waiting, enum state state, unsigned pause_ms, uint64_t now_ms)
{
    waiting->state = state;
    waiting->pause_ms = pause_ms;
    waiting->look_ms = now_ms + pause_ms;
}

/* Look at what has arrived. Return: whether the connection still waits here; else it is somebody's or closed. */
static bool look(struct front *front, struct queue *queue, struct waiting *waiting, uint64_t now_ms)
{
    ssize_t got = recv(waiting->fd, front->head, sizeof front->head, MSG_PEEK | MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return true;
    if (got <= 0) {
        fd_close(&waiting->fd);
        return false;
    }
    size_t length = head_length(front->head, (size_t)got);
    if (length == 0 && got > FRONT_HEAD_BYTES)
        length = (size_t)got;
    if (length == 0) {
        unsigned pause_ms = waiting->state != STATE_PART ? FRONT_LOOK_MS : waiting->pause_ms * 2;
        pause_for(waiting, STATE_PART, pause_ms > FRONT_LOOK_MAX_MS ? FRONT_LOOK_MAX_MS : pause_ms, now_ms);
        return true;
    }
    switch (queue->door.admit(queue->door.context, waiting->fd, front->head, length)) {
    case FRONT_TAKEN:
        waiting->fd = -1;
        return false;
    case FRONT_LATER:
        pause_for(waiting, STATE_WHOLE, FRONT_TURN_MS, now_ms);
        return true;
    case FRONT_REFUSED:
        break;
    }
    fd_close(&waiting->fd);
    return false;
}

/* ---- one door ---------------------------------------------------------------------------------------------------- */

/* Whether a connection still waits after the turn that is due to it. @seen: what poll(2) said of it */
static bool give_turn(struct front *front, struct queue *queue, struct waiting *waiting, short seen, uint64_t now_ms)
{
    bool ended =
        (seen & (POLLHUP | POLLERR | POLLRDHUP)) != 0; /* nothing more comes: all that will be there is there */
    bool due = waiting->state == STATE_SILENT ? seen != 0 : ended || waiting->look_ms <= now_ms;
    if (due && !look(front, queue, waiting, now_ms))
        return false;
    bool gone = waiting->state == STATE_PART && ended;
    if (!gone && now_ms - waiting->since_ms < FRONT_HEAD_MS)
        return true;
    fd_close(&waiting->fd);
    return false;
}

/* The newest first: when there are more than find a place, whoever came last still waits for an answer. */
static void give_turns(struct front *front, struct queue *queue, const struct pollfd *events, uint64_t now_ms)
{
    size_t first = queue->count;
    for (size_t i = queue->count; i-- > 0;) {
        if (give_turn(front, queue, &queue->waiting[i], events[i].revents, now_ms))
            queue->waiting[--first] = queue->waiting[i];
    }
    queue->count -= first;
    memmove(queue->waiting, queue->waiting + first, queue->count * sizeof queue->waiting[0]);
}

/* Close whoever has waited longest, unless its head has arrived this moment and finds a place. */
static void make_room(struct front *front, struct queue *queue, uint64_t now_ms)
{
    struct waiting oldest = queue->waiting[0];
    memmove(queue->waiting, queue->waiting + 1, (queue->count - 1) * sizeof queue->waiting[0]);
    queue->count--;
    if (look(front, queue, &oldest, now_ms))
        fd_close(&oldest.fd);
}

static int accept_one(int door)
{
    int fd = accept(door, NULL, NULL);
    if (fd >= 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        fd_close(&fd);
    return fd;
}

static void take_in(struct front *front, struct queue *queue, uint64_t now_ms)
{
    for (int i = 0; i < FRONT_ACCEPT_BATCH; i++) {
        int fd = accept_one(queue->door.fd);
        if (fd < 0) {
            bool short_of = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
            front->accept_ms = short_of ? now_ms + FRONT_TURN_MS : 0;
            if (short_of && queue->count > 0)
                make_room(front, queue, now_ms);
            return;
        }
        if (queue->count == front->waiting_max)
            make_room(front, queue, now_ms);
        struct waiting *fresh = &queue->waiting[queue->count];
        *fresh = (struct waiting){.fd = fd, .state = STATE_SILENT, .since_ms = now_ms};
        /* A request often comes with its connection. */
        if (look(front, queue, fresh, now_ms))
            queue->count++;
    }
}

/* ---- the thread -------------------------------------------------------------------------------------------------- */

/* Fill the set to poll. Return: until when, UINT64_MAX for as long as it takes. */
static uint64_t fill_polled(struct front *front, uint64_t now_ms, nfds_t *ret_count)
{
    uint64_t until_ms = UINT64_MAX;
    nfds_t count = 0;
    bool wanted = false;
    bool busy = false;
    front->polled[count++] = (struct pollfd){.fd = front->wake.fds[0], .events = POLLIN};
    for (size_t i = 0; i < front->door_count; i++) {
        struct queue *queue = &front->queues[i];
        bool paused = front->accept_ms > now_ms;
        if (paused && front->accept_ms < until_ms)
            until_ms = front->accept_ms;
        front->polled[count++] = (struct pollfd){.fd = paused ? -1 : queue->door.fd, .events = POLLIN};
        busy = busy || queue->served > 0;
        for (size_t j = 0; j < queue->count; j++) {
            const struct waiting *waiting = &queue->waiting[j];
            short events = (short)(POLLRDHUP | (waiting->state == STATE_SILENT ? POLLIN : 0));
            front->polled[count++] =
                (struct pollfd){.fd = waiting->state == STATE_WHOLE ? -1 : waiting->fd, .events = events};
            uint64_t late_ms = waiting->since_ms + FRONT_HEAD_MS;
            uint64_t at_ms = waiting->state == STATE_SILENT || late_ms < waiting->look_ms ? late_ms : waiting->look_ms;
            until_ms = at_ms < until_ms ? at_ms : until_ms;
            wanted = wanted || waiting->state == STATE_WHOLE;
        }
    }
    atomic_store(&front->wanted, wanted);
    if (busy && front->tick_ms + TICK_MS < until_ms)
        until_ms = front->tick_ms + TICK_MS;
    *ret_count = count;
    return until_ms;
}

static void tick(struct front *front, uint64_t now_ms)
{
    front->tick_ms = now_ms;
    for (size_t i = 0; i < front->door_count; i++) {
        struct queue *queue = &front->queues[i];
        queue->served = queue->door.tick(queue->door.context, now_ms);
    }
}

static void drain_wake(struct front *front)
{
    wake_take(&front->wake);
    for (size_t i = 0; i < front->door_count; i++) {
        for (size_t j = 0; j < front->queues[i].count; j++) {
            struct waiting *waiting = &front->queues[i].waiting[j];
            if (waiting->state == STATE_WHOLE)
                waiting->look_ms = 0;
        }
    }
}

static void turn(struct front *front)
{
    nfds_t count = 0;
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t until_ms = fill_polled(front, now_ms, &count);
    int timeout = until_ms == UINT64_MAX ? -1 : until_ms <= now_ms ? 0 : (int)(until_ms - now_ms);
    if (poll(front->polled, count, timeout) < 0) {
        for (nfds_t i = 0; i < count; i++)
            front->polled[i].revents = 0;
    }
    now_ms = clock_monotonic_ms();
    if (front->polled[0].revents != 0)
        drain_wake(front);
    const struct pollfd *at = front->polled + 1;
    for (size_t i = 0; i < front->door_count; i++) {
        struct queue *queue = &front->queues[i];
        bool knocked = at->revents != 0;
        const struct pollfd *events = at + 1;
        at = events + queue->count;
        give_turns(front, queue, events, now_ms);
        if (knocked) {
            take_in(front, queue, now_ms);
            queue->served = 1; /* until the next tick tells */
        }
    }
    if (now_ms - front->tick_ms >= TICK_MS)
        tick(front, now_ms);
}

static void *run(void *context)
{
    struct front *front = context;
    while (!atomic_load(&front->ending))
        turn(front);
    for (size_t i = 0; i < front->door_count; i++) {
        for (size_t j = 0; j < front->queues[i].count; j++)
            fd_close(&front->queues[i].waiting[j].fd);
    }
    return NULL;
}

/* ---- from outside ------------------------------------------------------------------------------------------------ */

static size_t waiting_max(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return FRONT_WAITING_MIN;
    rlim_t share = limit.rlim_cur / DESCRIPTORS_SHARE;
    return share > FRONT_WAITING_MAX   ? FRONT_WAITING_MAX
           : share < FRONT_WAITING_MIN ? FRONT_WAITING_MIN
                                       : (size_t)share;
}

static void front_free(struct front *front)
{
    wake_close(&front->wake);
    free(front);
}

int front_open(const struct front_door *doors, size_t count, struct front **ret_front, struct error *err)
{
    REQUIRE(count <= FRONT_DOORS_MAX);
    struct front *front = calloc(1, sizeof *front);
    if (front == NULL)
        return error_set(err, -ENOMEM, "There is no memory for the HTTP server.");
    front->waiting_max = waiting_max();
    front->door_count = count;
    for (size_t i = 0; i < count; i++)
        front->queues[i].door = doors[i];
    int result = wake_open(&front->wake);
    *ret_front = front; /* before the thread begins: whoever it calls may wake it */
    if (result == 0)
        result = -pthread_create(&front->thread, NULL, run, front);
    if (result < 0) {
        *ret_front = NULL;
        front_free(front);
        return error_set(err, result, "The thread that takes connections in could not be started: %s.",
                         strerror(-result));
    }
    return 0;
}

void front_wake(struct front *front)
{
    if (atomic_load(&front->wanted))
        wake_up(&front->wake);
}

void front_end(struct front *front)
{
    if (front == NULL || atomic_exchange(&front->ending, true))
        return;
    wake_up(&front->wake);
    pthread_join(front->thread, NULL);
}

void front_close(struct front *front)
{
    if (front == NULL)
        return;
    front_end(front);
    front_free(front);
}
