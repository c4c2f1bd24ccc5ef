#include "api/http/roster.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

struct slot {
    int fd; /* not owned; -1 when free */
    enum roster_class class;
    enum roster_phase phase;
    bool ended; /* it was shut, and is not gone yet */
    uint64_t ended_ms;
    uint64_t since_ms;
    uint64_t until_ms;
};

struct roster {
    pthread_mutex_t lock;
    size_t counts[ROSTER_CLASS_COUNT];
    struct slot slots[ROSTER_SLOTS];
};

static size_t limit_of(enum roster_class class)
{
    static const size_t limits[ROSTER_CLASS_COUNT] = {[ROSTER_STRANGER] = ROSTER_STRANGERS_MAX,
                                                      [ROSTER_SERVED] = ROSTER_SERVED_MAX,
                                                      [ROSTER_STREAM] = ROSTER_STREAMS_MAX};
    return limits[class];
}

int roster_open(struct roster **ret_roster, struct error *err)
{
    struct roster *roster = calloc(1, sizeof *roster);
    if (roster == NULL)
        return error_set(err, -ENOMEM, "There is no memory for the HTTP server.");
    for (size_t i = 0; i < ROSTER_SLOTS; i++)
        roster->slots[i].fd = -1;
    REQUIRE(pthread_mutex_init(&roster->lock, NULL) == 0);
    *ret_roster = roster;
    return 0;
}

void roster_close(struct roster *roster)
{
    if (roster == NULL)
        return;
    pthread_mutex_destroy(&roster->lock);
    free(roster);
}

/* Under the lock. */
static int find(const struct roster *roster, int fd)
{
    for (int i = 0; i < ROSTER_SLOTS; i++) {
        if (roster->slots[i].fd == fd)
            return i;
    }
    return -1;
}

static void release(struct roster *roster, int slot)
{
    struct slot *place = &roster->slots[slot];
    roster->counts[place->class]--;
    place->fd = -1;
    place->ended = false;
}

/* The lock is held, so the descriptor cannot be closed meanwhile: the library asks roster_remove() first.
 * @how: SHUT_RD ends a connection that brings nothing more; a request that the library has read already, and has not told
 * of, is still answered. SHUT_RDWR ends it whatever it is at. */
static void end(struct slot *place, int how, uint64_t now_ms)
{
    shutdown(place->fd, how);
    place->ended = true;
    place->ended_ms = now_ms;
}

bool roster_add(struct roster *roster, int fd, enum roster_class class, uint64_t now_ms)
{
    pthread_mutex_lock(&roster->lock);
    /* A number that is there already was closed by a library that had no memory to tell. */
    int stale = find(roster, fd);
    if (stale >= 0)
        release(roster, stale);
    bool room = roster->counts[class] < limit_of(class);
    int slot = room ? find(roster, -1) : -1;
    if (slot >= 0) {
        roster->slots[slot] = (struct slot){.fd = fd,
                                            .class = class,
                                            .phase = ROSTER_READING,
                                            .since_ms = now_ms,
                                            .until_ms = now_ms + ROSTER_REQUEST_MS};
        roster->counts[class]++;
    }
    pthread_mutex_unlock(&roster->lock);
    return slot >= 0;
}

int roster_find(struct roster *roster, int fd)
{
    pthread_mutex_lock(&roster->lock);
    int slot = find(roster, fd);
    pthread_mutex_unlock(&roster->lock);
    return slot;
}

enum roster_class roster_class_of(struct roster *roster, int slot)
{
    pthread_mutex_lock(&roster->lock);
    enum roster_class class = slot < 0 ? ROSTER_STRANGER : roster->slots[slot].class;
    pthread_mutex_unlock(&roster->lock);
    return class;
}

void roster_remove(struct roster *roster, int fd)
{
    pthread_mutex_lock(&roster->lock);
    int slot = find(roster, fd);
    if (slot >= 0)
        release(roster, slot);
    pthread_mutex_unlock(&roster->lock);
}

void roster_phase(struct roster *roster, int slot, enum roster_phase phase, uint64_t now_ms)
{
    if (slot < 0)
        return;
    pthread_mutex_lock(&roster->lock);
    struct slot *place = &roster->slots[slot];
    place->phase = phase;
    place->since_ms = now_ms;
    if (place->class != ROSTER_STREAM && phase == ROSTER_RESTING)
        place->until_ms = now_ms + ROSTER_IDLE_MS;
    pthread_mutex_unlock(&roster->lock);
}

void roster_request(struct roster *roster, int slot, uint64_t now_ms)
{
    if (slot < 0)
        return;
    pthread_mutex_lock(&roster->lock);
    struct slot *place = &roster->slots[slot];
    if (place->phase == ROSTER_RESTING) {
        place->phase = ROSTER_READING;
        place->since_ms = now_ms;
        place->until_ms = now_ms + ROSTER_REQUEST_MS;
    }
    pthread_mutex_unlock(&roster->lock);
}

void roster_stream(struct roster *roster, int slot)
{
    if (slot < 0)
        return;
    pthread_mutex_lock(&roster->lock);
    struct slot *place = &roster->slots[slot];
    roster->counts[place->class]--;
    roster->counts[ROSTER_STREAM]++;
    place->class = ROSTER_STREAM;
    place->until_ms = UINT64_MAX;
    pthread_mutex_unlock(&roster->lock);
}

/* What poll(2) would say of a connection if it were we who are waited for: something to read, or room to write. */
static short events_of(const struct slot *place)
{
    return place->phase == ROSTER_WRITING ? POLLOUT : POLLIN;
}

static bool may_be_ended(const struct slot *place, enum roster_class class, uint64_t now_ms)
{
    return place->fd >= 0 && place->class == class && !place->ended && place->phase != ROSTER_WORKING &&
           (place->phase == ROSTER_RESTING || now_ms - place->since_ms >= ROSTER_PATIENCE_MS);
}

/* Whether @a gives up its place before @b. */
static bool goes_first(const struct slot *a, const struct slot *b)
{
    bool a_rests = a->phase == ROSTER_RESTING;
    if (b == NULL || a_rests != (b->phase == ROSTER_RESTING))
        return b == NULL || a_rests;
    return a->since_ms < b->since_ms;
}

/* Under the lock. Return: NULL when all of them wait for us. */
static struct slot *find_victim(struct roster *roster, enum roster_class class, uint64_t now_ms)
{
    struct pollfd polled[ROSTER_SLOTS];
    struct slot *places[ROSTER_SLOTS];
    nfds_t count = 0;
    for (size_t i = 0; i < ROSTER_SLOTS; i++) {
        struct slot *place = &roster->slots[i];
        if (!may_be_ended(place, class, now_ms))
            continue;
        places[count] = place;
        polled[count++] = (struct pollfd){.fd = place->fd, .events = events_of(place)};
    }
    if (poll(polled, count, 0) < 0)
        return NULL;
    struct slot *victim = NULL;
    for (nfds_t i = 0; i < count; i++) {
        if (polled[i].revents == 0 && goes_first(places[i], victim))
            victim = places[i];
    }
    return victim;
}

/* Whether we wait for the client and not it for us. */
static bool is_waited_for(const struct slot *place)
{
    struct pollfd polled = {.fd = place->fd, .events = events_of(place)};
    return poll(&polled, 1, 0) == 0;
}

/* One that was shut for reading and is still there, because the library has not come to its end or has read a request before
 * it. It has a while for that, and what is answered has to be taken. */
static void press(struct slot *place, uint64_t now_ms)
{
    uint64_t last_ms = place->since_ms > place->ended_ms ? place->since_ms : place->ended_ms;
    bool writes = place->phase == ROSTER_WRITING;
    if (place->phase == ROSTER_WORKING || now_ms - last_ms < (writes ? ROSTER_PATIENCE_MS : ROSTER_CUT_MS))
        return;
    if (!writes || is_waited_for(place))
        end(place, SHUT_RDWR, now_ms);
}

bool roster_evict(struct roster *roster, enum roster_class class, uint64_t now_ms)
{
    pthread_mutex_lock(&roster->lock);
    size_t ending = 0;
    for (size_t i = 0; i < ROSTER_SLOTS; i++) {
        struct slot *place = &roster->slots[i];
        if (place->fd < 0 || place->class != class || !place->ended)
            continue;
        press(place, now_ms);
        ending++;
    }
    /* Places come free as the library closes what was ended; until then no more than this are ended for one that waits. */
    struct slot *victim = ending < ROSTER_ENDING_MAX ? find_victim(roster, class, now_ms) : NULL;
    if (victim != NULL)
        end(victim, victim->phase == ROSTER_WRITING ? SHUT_RDWR : SHUT_RD, now_ms);
    pthread_mutex_unlock(&roster->lock);
    return victim != NULL;
}

bool roster_has_ended(struct roster *roster, int slot)
{
    if (slot < 0)
        return false;
    pthread_mutex_lock(&roster->lock);
    bool ended = roster->slots[slot].ended;
    pthread_mutex_unlock(&roster->lock);
    return ended;
}

size_t roster_expire(struct roster *roster, uint64_t now_ms)
{
    size_t count = 0;
    pthread_mutex_lock(&roster->lock);
    for (size_t i = 0; i < ROSTER_SLOTS; i++) {
        struct slot *place = &roster->slots[i];
        count += place->fd >= 0 ? 1 : 0;
        if (place->fd >= 0 && place->until_ms <= now_ms)
            end(place, place->phase == ROSTER_RESTING ? SHUT_RD : SHUT_RDWR, now_ms);
    }
    pthread_mutex_unlock(&roster->lock);
    return count;
}

size_t roster_count(struct roster *roster, enum roster_class class)
{
    pthread_mutex_lock(&roster->lock);
    size_t count = roster->counts[class];
    pthread_mutex_unlock(&roster->lock);
    return count;
}
