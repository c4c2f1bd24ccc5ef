/* What `omertad run` prints: lines for people with a progress line on a terminal, JSON lines for programs. */
#ifndef API_COMMAND_RUN_VIEW_H
#define API_COMMAND_RUN_VIEW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum run_view_limits {
    RUN_VIEW_WORD_BYTES = 48, /* a state's or an event's name */
};

/** struct run_view - Where to print, and what the progress line says. Owner: the command. */
struct run_view {
    FILE *out;
    bool json;
    bool progress; /* out is a terminal */
    uint64_t started_ms;
    uint64_t expires_ms; /* wall clock; 0: no limit */
    char state[RUN_VIEW_WORD_BYTES];
    char tunnel[RUN_VIEW_WORD_BYTES];
    uint64_t violations;
};

/** run_view_leased() - Tell what was leased. @lease: the daemon's answer. Thread: the owner */
void run_view_leased(struct run_view *view, const json_t *lease);

/** run_view_event() - Tell one event. @text: its JSON, @event: the same, parsed. Thread: the owner */
void run_view_event(struct run_view *view, const char *text, const json_t *event);

/** run_view_note() - Tell something of our own: "the daemon is away". Thread: the owner */
void run_view_note(struct run_view *view, const char *note);

/** run_view_ended() - Tell the end. @reason: the API's word; @detail: may be NULL. Thread: the owner */
void run_view_ended(struct run_view *view, const char *reason, const char *detail, int exit_code);

/** run_view_tick() - Draw the progress line anew, on a terminal. @now_ms, @wall_ms: both clocks. Thread: the owner */
void run_view_tick(struct run_view *view, uint64_t now_ms, uint64_t wall_ms);

#endif
