#include "api/command/run_view.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

enum {
    TEXT_BYTES = 512, /* an escaped detail */
    PREFIX_BYTES = 16,
};

/* A terminal obeys control characters, so what others chose is escaped; "" for what is no text. */
static const char *safe(const json_t *value, char ret_text[static TEXT_BYTES])
{
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    return log_escape(text, strlen(text), ret_text, TEXT_BYTES);
}

static void clear_progress(const struct run_view *view)
{
    if (view->progress)
        fputs("\r\033[K", view->out);
}

static void print_elapsed(const struct run_view *view)
{
    uint64_t elapsed_ms = clock_monotonic_ms() - view->started_ms;
    fprintf(view->out, "%6" PRIu64 ".%" PRIu64 " s  ", elapsed_ms / 1000, elapsed_ms % 1000 / 100);
}

/* Print a value of our own as one line, and let it go. */
static void print_json(const struct run_view *view, json_t *value)
{
    if (value != NULL && json_dumpf(value, view->out, JSON_COMPACT) == 0)
        fputc('\n', view->out);
    json_decref(value);
    fflush(view->out);
}

void run_view_leased(struct run_view *view, const json_t *lease)
{
    char id[TEXT_BYTES];
    char key[TEXT_BYTES];
    snprintf(view->state, sizeof view->state, "pending");
    if (view->json) {
        print_json(view, json_pack("{s:s, s:O}", "type", "run.leased", "lease", lease));
        return;
    }
    print_elapsed(view);
    fprintf(view->out, "leased %s", safe(json_object_get(lease, "id"), id));
    safe(json_object_get(json_object_get(lease, "vm"), "public_key"), key);
    if (key[0] != '\0')
        fprintf(view->out, "; the consumer's peer is %s", key);
    fputc('\n', view->out);
    fflush(view->out);
}

/* Keep what the progress line tells. */
static void take_event(struct run_view *view, const char *type, const json_t *data)
{
    const char *to = json_string_value(json_object_get(data, "to"));
    if (strcmp(type, "lease.state_changed") == 0 && to != NULL)
        snprintf(view->state, sizeof view->state, "%s", to);
    else if (strcmp(type, "tunnel.established") == 0 || strcmp(type, "tunnel.lost") == 0)
        snprintf(view->tunnel, sizeof view->tunnel, ", tunnel %s", type + strlen("tunnel."));
    else if (strcmp(type, "violation.detected") == 0)
        view->violations++;
}

void run_view_event(struct run_view *view, const char *text, const json_t *event)
{
    static const char *const told[] = {"to",      "reason", "code", "destination_ip", "destination_port",
                                       "verdict", "detail"};
    char words[TEXT_BYTES];
    const json_t *data = json_object_get(event, "data");
    const char *type = json_string_value(json_object_get(event, "type"));
    take_event(view, type == NULL ? "" : type, data);
    if (view->json) {
        fprintf(view->out, "%s\n", text);
        fflush(view->out);
        return;
    }
    clear_progress(view);
    print_elapsed(view);
    fputs(safe(json_object_get(event, "type"), words), view->out);
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++) {
        const json_t *value = json_object_get(data, told[i]);
        if (json_is_integer(value))
            fprintf(view->out, " %s=%" JSON_INTEGER_FORMAT, told[i], json_integer_value(value));
        else if (json_is_string(value) && json_string_length(value) > 0)
            fprintf(view->out, " %s=\"%s\"", told[i], safe(value, words));
    }
    fputc('\n', view->out);
    fflush(view->out);
}

void run_view_note(struct run_view *view, const char *note)
{
    if (view->json) {
        print_json(view, json_pack("{s:s, s:s}", "type", "run.note", "note", note));
        return;
    }
    clear_progress(view);
    print_elapsed(view);
    fprintf(view->out, "%s\n", note);
    fflush(view->out);
}

void run_view_ended(struct run_view *view, const char *reason, const char *detail, int exit_code)
{
    char words[TEXT_BYTES];
    if (view->json) {
        print_json(view, json_pack("{s:s, s:s, s:s?, s:i}", "type", "run.ended", "reason", reason, "detail", detail,
                                   "exit_code", exit_code));
        return;
    }
    clear_progress(view);
    print_elapsed(view);
    fprintf(view->out, "ended: %s", reason);
    if (detail != NULL)
        fprintf(view->out, " (%s)", log_escape(detail, strlen(detail), words, sizeof words));
    fputc('\n', view->out);
    fflush(view->out);
}

void run_view_tick(struct run_view *view, uint64_t now_ms, uint64_t wall_ms)
{
    char left[PREFIX_BYTES * 2] = "";
    if (!view->progress || view->json)
        return;
    uint64_t elapsed_s = (now_ms - view->started_ms) / 1000;
    if (view->expires_ms > wall_ms)
        snprintf(left, sizeof left, ", %" PRIu64 " s left", (view->expires_ms - wall_ms) / 1000);
    fprintf(view->out, "\r\033[K[%" PRIu64 ":%02" PRIu64 "] %s%s, %" PRIu64 " violation%s%s", elapsed_s / 60,
            elapsed_s % 60, view->state, view->tunnel, view->violations, view->violations == 1 ? "" : "s", left);
    fflush(view->out);
}
