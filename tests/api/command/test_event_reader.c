#include "api/command/event_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cmocka.h"

enum { HEARD_BYTES = 4096 };

/* What was heard, as "ID=DATA;" one after the other. */
static void hear(void *context, const char *id, const char *data)
{
    char *heard = context;
    size_t used = strlen(heard);
    snprintf(heard + used, HEARD_BYTES - used, "%s=%.40s;", id, data);
}

static void expect(const char *stream, size_t piece, const char *wanted)
{
    struct event_reader *reader = calloc(1, sizeof *reader);
    char heard[HEARD_BYTES] = "";
    size_t length = strlen(stream);
    assert_non_null(reader);
    for (size_t at = 0; at < length; at += piece)
        event_reader_feed(reader, stream + at, piece < length - at ? piece : length - at, hear, heard);
    assert_string_equal(heard, wanted);
    free(reader);
}

static void events_are_whole_in_whatever_pieces_they_come(void **state)
{
    (void)state;
    static const char stream[] =
        ": hello\n\nid: 7-1\nevent: lease.created\ndata: {\"a\":1}\n\nid: 7-2\r\ndata:{}\r\n\r\n"
        ": still here\n\n";
    for (size_t piece = 1; piece <= sizeof stream; piece++)
        expect(stream, piece, "7-1={\"a\":1};7-2={};");
}

static void what_is_no_event_is_none(void **state)
{
    (void)state;
    expect("id: 1\n\n", 1, "");
    expect("\n\n\n", 1, "");
    expect("data: x", 1, "");
    expect("data: x\n", 1, "");
    expect("idx: 1\ndatax: 1\n\n", 1, "");
    expect("retry: 100\n\ndata: y\n\n", 1, "=y;");
}

static void an_id_stays_for_the_next_event(void **state)
{
    (void)state;
    expect("id: 1\ndata: a\n\ndata: b\n\n", 3, "1=a;1=b;");
}

static void a_line_without_end_is_left_out_and_the_next_event_is_whole(void **state)
{
    (void)state;
    size_t bytes = EVENT_READER_LINE_BYTES * 3;
    char *stream = malloc(bytes + 64);
    assert_non_null(stream);
    memcpy(stream, "data: ", 6);
    memset(stream + 6, 'x', bytes);
    snprintf(stream + 6 + bytes, 58, "\n\nid: 2\ndata: after\n\n");
    expect(stream, 4096, "2=after;");
    free(stream);
}

static void a_long_id_is_cut(void **state)
{
    (void)state;
    char stream[EVENT_READER_ID_BYTES * 2 + 32] = "id: ";
    memset(stream + 4, 'i', EVENT_READER_ID_BYTES * 2);
    struct event_reader *reader = calloc(1, sizeof *reader);
    char heard[HEARD_BYTES] = "";
    assert_non_null(reader);
    event_reader_feed(reader, stream, strlen(stream), hear, heard);
    event_reader_feed(reader, "\ndata: x\n\n", 10, hear, heard);
    assert_int_equal(strlen(reader->id), EVENT_READER_ID_BYTES - 1);
    free(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_whole_in_whatever_pieces_they_come),
        cmocka_unit_test(what_is_no_event_is_none),
        cmocka_unit_test(an_id_stays_for_the_next_event),
        cmocka_unit_test(a_line_without_end_is_left_out_and_the_next_event_is_whole),
        cmocka_unit_test(a_long_id_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
