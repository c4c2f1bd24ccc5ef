#include "api/http/response.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

static const char no_memory[] =
    "{\"type\":\"/v1/problems/internal-error\",\"title\":\"The daemon failed\",\"status\":500,"
    "\"detail\":\"There was no memory for the answer.\",\"retryable\":true}\n";

/* The text is jansson's, and whoever set its allocator set the matching free. */
static void free_json_text(void *text)
{
    json_malloc_t allocate;
    json_free_t release;
    json_get_alloc_funcs(&allocate, &release);
    release(text);
}

static void drop_body(struct response *response)
{
    if (response->release != NULL)
        response->release((void *)(uintptr_t)response->body);
    if (response->stream.read != NULL)
        response->stream.done(response->stream.state);
    response->stream = (struct stream_source){0};
    response->release = NULL;
    response->body = NULL;
    response->body_bytes = 0;
    response->content_type = NULL;
}

void response_empty(struct response *response, unsigned status)
{
    drop_body(response);
    response->status = status;
}

void response_static(struct response *response, unsigned status, const char *content_type, const void *bytes,
                     size_t length)
{
    drop_body(response);
    response->status = status;
    response->content_type = content_type;
    response->body = bytes;
    response->body_bytes = length;
}

void response_take(struct response *response, unsigned status, const char *content_type, void *bytes, size_t length,
                   void (*release)(void *))
{
    response_static(response, status, content_type, bytes, length);
    response->release = release;
}

void response_stream(struct response *response, const char *content_type, const struct stream_source *source)
{
    response_empty(response, 200);
    response->content_type = content_type;
    response->stream = *source;
}

void response_json_as(struct response *response, unsigned status, const char *content_type, json_t *json)
{
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (text == NULL)
        response_static(response, 500, "application/problem+json", no_memory, sizeof no_memory - 1);
    else
        response_take(response, status, content_type, text, strlen(text), free_json_text);
}

void response_json(struct response *response, unsigned status, json_t *json)
{
    response_json_as(response, status, "application/json", json);
}

void response_header(struct response *response, const char *name, const char *format, ...)
{
    REQUIRE(response->header_count < RESPONSE_HEADERS_MAX);
    struct response_header *header = &response->headers[response->header_count++];
    header->name = name;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(header->value, sizeof header->value, format, arguments);
    va_end(arguments);
}

void response_done(struct response *response)
{
    drop_body(response);
    *response = (struct response){0};
}
