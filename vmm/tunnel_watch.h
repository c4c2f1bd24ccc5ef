/* Ends a machine whose tunnel never comes up, or whose consumer has been silent too long. Pure: time is passed in. */
#ifndef VMM_TUNNEL_WATCH_H
#define VMM_TUNNEL_WATCH_H

#include <stdbool.h>
#include <stdint.h>

/** enum tunnel_watch_verdict - What has become of the tunnel. */
enum tunnel_watch_verdict { TUNNEL_WATCH_WELL, TUNNEL_WATCH_NEVER_UP, TUNNEL_WATCH_SILENT };

/**
 * struct tunnel_watch - One timer
 * @established: the tunnel was up once; from then on silence counts
 * @due_ms:      monotonic; when tunnel_watch_look() has something to say; 0 never
 *
 * Owner: the machine. All zeros watches nothing.
 */
struct tunnel_watch {
    uint32_t timeout_ms;
    uint32_t lost_ms;
    bool established;
    uint64_t due_ms;
};

/** tunnel_watch_init() - Set the limits; 0: none. Thread: the watch's owner */
void tunnel_watch_init(struct tunnel_watch *watch, uint32_t timeout_ms, uint32_t lost_ms);

/** tunnel_watch_running() - The machine runs from now on. Thread: the watch's owner */
void tunnel_watch_running(struct tunnel_watch *watch, uint64_t now_ms);

/** tunnel_watch_established() - The tunnel is up, for the first time or again. Thread: the watch's owner */
void tunnel_watch_established(struct tunnel_watch *watch, uint64_t now_ms);

/**
 * tunnel_watch_look() - Judge, and set the timer anew
 * @heard_ms: monotonic; the newest datagram from the consumer, 0 never
 * Thread:    the watch's owner
 */
enum tunnel_watch_verdict tunnel_watch_look(struct tunnel_watch *watch, uint64_t heard_ms, uint64_t now_ms);

#endif
