#include "api/command/run_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/cmocka.h"

/* A view that prints into memory. */
struct screen {
    struct run_view view;
    char *text;
    size_t length;
};

static void screen_open(struct screen *screen, bool json, bool terminal)
{
    *screen = (struct screen){0};
    screen->view = (struct run_view){.json = json, .progress = terminal, .started_ms = clock_monotonic_ms()};
    screen->view.out = open_memstream(&screen->text, &screen->length);
    assert_non_null(screen->view.out);
}

static void screen_close(struct screen *screen)
{
    fclose(screen->view.out);
    free(screen->text);
}

static void show_event(struct screen *screen, const char *text)
{
    json_t *event = json_loads(text, 0, NULL);
    assert_non_null(event);
    run_view_event(&screen->view, text, event);
    json_decref(event);
}

static const char violation[] = "{\"type\":\"violation.detected\",\"data\":{\"code\":\"vlan\",\"verdict\":\"dropped\","
                                "\"destination_port\":53}}";

static void programs_get_events_as_they_are(void **state)
{
    (void)state;
    struct screen screen;
    screen_open(&screen, true, false);
    show_event(&screen, violation);
    run_view_tick(&screen.view, clock_monotonic_ms() + 1000, 0);
    assert_memory_equal(screen.text, violation, sizeof violation - 1);
    assert_string_equal(screen.text + sizeof violation - 1, "\n");
    screen_close(&screen);
}

static void people_get_lines_and_a_progress_line(void **state)
{
    (void)state;
    struct screen screen;
    screen_open(&screen, false, true);
    show_event(&screen, "{\"type\":\"lease.state_changed\",\"data\":{\"from\":\"starting\",\"to\":\"running\"}}");
    show_event(&screen, "{\"type\":\"tunnel.established\",\"data\":{}}");
    show_event(&screen, violation);
    assert_non_null(strstr(screen.text, "lease.state_changed to=\"running\"\n"));
    assert_non_null(strstr(screen.text, "violation.detected code=\"vlan\" destination_port=53 verdict=\"dropped\"\n"));
    screen.view.expires_ms = 70000;
    run_view_tick(&screen.view, screen.view.started_ms + 65000, 10000);
    assert_non_null(strstr(screen.text, "\r\033[K[1:05] running, tunnel established, 1 violation, 60 s left"));
    screen_close(&screen);
}

static void a_terminal_obeys_nobody_else(void **state)
{
    (void)state;
    struct screen screen;
    screen_open(&screen, false, false);
    show_event(&screen, "{\"type\":\"lease.terminated\\u001b[2J\",\"data\":{\"detail\":\"a\\u001b]0;b\\u0007\\nc\"}}");
    run_view_ended(&screen.view, "guest_crash", "x\033[31m\n", 6);
    assert_null(strchr(screen.text, '\033'));
    assert_null(strchr(screen.text, '\a'));
    int lines = 0;
    for (const char *c = screen.text; *c != '\0'; c++)
        lines += *c == '\n';
    assert_int_equal(lines, 2);
    screen_close(&screen);
}

static void the_end_has_its_code(void **state)
{
    (void)state;
    struct screen screen;
    screen_open(&screen, true, false);
    run_view_ended(&screen.view, "released", NULL, 0);
    assert_string_equal(screen.text,
                        "{\"type\":\"run.ended\",\"reason\":\"released\",\"detail\":null,\"exit_code\":0}\n");
    screen_close(&screen);
}

static void what_is_leased_names_the_peer_of_the_consumer(void **state)
{
    (void)state;
    struct screen screen;
    json_t *lease = json_loads("{\"id\":\"a\",\"vm\":{\"public_key\":\"K=\"}}", 0, NULL);
    screen_open(&screen, false, false);
    run_view_leased(&screen.view, lease);
    assert_non_null(strstr(screen.text, "leased a; the consumer's peer is K=\n"));
    screen_close(&screen);
    screen_open(&screen, true, false);
    run_view_leased(&screen.view, lease);
    assert_string_equal(screen.text,
                        "{\"type\":\"run.leased\",\"lease\":{\"id\":\"a\",\"vm\":{\"public_key\":\"K=\"}}}\n");
    screen_close(&screen);
    json_decref(lease);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_get_events_as_they_are),
        cmocka_unit_test(people_get_lines_and_a_progress_line),
        cmocka_unit_test(a_terminal_obeys_nobody_else),
        cmocka_unit_test(the_end_has_its_code),
        cmocka_unit_test(what_is_leased_names_the_peer_of_the_consumer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
