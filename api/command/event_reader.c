#include "api/command/event_reader.h"

#include <stdio.h>
#include <string.h>

/* The value of a line "NAME: value", or NULL. */
static const char *value_of(const char *line, const char *name)
{
    size_t length = strlen(name);
    if (strncmp(line, name, length) != 0 || line[length] != ':')
        return NULL;
    const char *value = line + length + 1;
    return value[0] == ' ' ? value + 1 : value;
}

static void take_line(struct event_reader *reader, void (*on_event)(void *context, const char *id, const char *data),
                      void *context)
{
    if (reader->line[0] == '\0') {
        if (reader->data[0] != '\0')
            on_event(context, reader->id, reader->data);
        reader->data[0] = '\0';
        return;
    }
    const char *id = value_of(reader->line, "id");
    const char *data = value_of(reader->line, "data");
    if (id != NULL)
        snprintf(reader->id, sizeof reader->id, "%.*s", EVENT_READER_ID_BYTES - 1, id);
    if (data != NULL)
        snprintf(reader->data, sizeof reader->data, "%.*s", EVENT_READER_LINE_BYTES - 1, data);
}

void event_reader_feed(struct event_reader *reader, const char *bytes, size_t length,
                       void (*on_event)(void *context, const char *id, const char *data), void *context)
{
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] == '\r')
            continue;
        if (bytes[i] != '\n') {
            if (reader->used < EVENT_READER_LINE_BYTES - 1)
                reader->line[reader->used++] = bytes[i];
            else
                reader->overlong = true;
            continue;
        }
        reader->line[reader->used] = '\0';
        if (!reader->overlong)
            take_line(reader, on_event, context);
        reader->used = 0;
        reader->overlong = false;
    }
}
