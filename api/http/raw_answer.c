#include "api/http/raw_answer.h"

#include <stdlib.h>
#include <sys/socket.h>

const struct raw_answer_header raw_answer_headers[] = {
    {"Cache-Control", "no-store"},
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
    {NULL, NULL},
};

void raw_answer_head(const char *status, const struct request *request, const struct response *response,
                     struct stream_text *ret_text)
{
    stream_text_print(ret_text, "HTTP/1.1 %s\r\nConnection: close\r\nContent-Type: %s\r\nX-Request-Id: %s\r\n", status,
                      response->content_type, request->id.text);
    for (const struct raw_answer_header *header = raw_answer_headers; header->name != NULL; header++)
        stream_text_print(ret_text, "%s: %s\r\n", header->name, header->value);
    for (size_t i = 0; i < response->header_count; i++)
        stream_text_print(ret_text, "%s: %s\r\n", response->headers[i].name, response->headers[i].value);
    stream_text_print(ret_text, "\r\n");
}

void raw_answer_send(int fd, const char *status, const struct request *request, const struct response *response)
{
    char bytes[RAW_ANSWER_HEAD_BYTES + RESPONSE_SMALL_BYTES];
    struct stream_text text = {.bytes = bytes, .capacity = sizeof bytes};
    raw_answer_head(status, request, response, &text);
    stream_text_add(&text, response->body, response->body_bytes);
    ssize_t sent = send(fd, text.bytes, text.used, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)sent;
    shutdown(fd, SHUT_WR);
}

void raw_answer_refuse(int fd, const char *status, enum problem problem, const char *detail)
{
    struct request *request = calloc(1, sizeof *request);
    struct response response = {0};
    if (request != NULL) {
        request->id = id_new();
        problem_respond(&response, request, problem, "%s", detail);
        raw_answer_send(fd, status, request, &response);
    }
    response_done(&response);
    free(request);
}
