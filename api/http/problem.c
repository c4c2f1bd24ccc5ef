#include "api/http/problem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    DETAIL_BYTES = 512, /* an error message and its context */
};

static json_t *document(const struct request *request, enum problem problem, unsigned status, const char *detail)
{
    const struct problem_type *type = problem_type(problem);
    json_t *json =
        json_pack("{s:s+, s:s, s:i}", "type", "/v1/problems/", type->slug, "title", type->title, "status", (int)status);
    if (json == NULL)
        return NULL;
    /* A detail may quote a stranger, and json_string() refuses what is not UTF-8. */
    json_t *text = detail[0] == '\0' ? NULL : json_string(detail);
    json_object_set_new(json, "detail", text == NULL ? json_string(type->explanation) : text);
    if (request->instance[0] != '\0')
        json_object_set_new(json, "instance", json_string(request->instance));
    if (json_object_set_new(json, "retryable", json_boolean(type->retryable)) != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static void send_document(struct response *response, enum problem problem, unsigned status, json_t *json)
{
    response_json_as(response, status, "application/problem+json", json);
    if (status == 503)
        response_header(response, "Retry-After", "%d",
                        problem == PROBLEM_DRAINING ? PROBLEM_DRAINING_RETRY_AFTER_S : PROBLEM_RETRY_AFTER_S);
    if (problem == PROBLEM_UNAUTHORIZED)
        response_header(response, "WWW-Authenticate", "Bearer");
}

void problem_respond(struct response *response, const struct request *request, enum problem problem, const char *format,
                     ...)
{
    char detail[DETAIL_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    unsigned status = problem_type(problem)->status;
    send_document(response, problem, status, document(request, problem, status, detail));
}

/* What a failure without a known slug stands for. Return: false when it is the daemon's own fault. */
static bool problem_of_code(int code, enum problem *ret_problem)
{
    switch (code) {
    case -ENOENT:
        *ret_problem = PROBLEM_NOT_FOUND;
        return true;
    case -ESHUTDOWN:
        *ret_problem = PROBLEM_SHUTTING_DOWN;
        return true;
    case -EBUSY:
    case -EIO:
    case -EROFS:
    case -ENOSPC:
    case -EUCLEAN:
    case -EACCES:
    case -ENOMEM:
        *ret_problem = PROBLEM_STORE_UNAVAILABLE;
        return true;
    }
    return false;
}

static json_t *error_list(const struct decode_errors *errors)
{
    json_t *list = json_array();
    for (size_t i = 0; i < errors->count; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:s}", "pointer", errors->items[i].pointer, "detail", errors->items[i].detail));
    return list;
}

/* Pointers separated by spaces; what is wrong there is said in the problem's detail. */
static json_t *field_list(const char *fields)
{
    json_t *list = json_array();
    for (const char *at = fields; *at != '\0';) {
        int length = (int)strcspn(at, " ");
        char pointer[ERROR_FIELD_BYTES];
        snprintf(pointer, sizeof pointer, "%.*s", length, at);
        json_array_append_new(list, json_pack("{s:s, s:s}", "pointer", pointer, "detail", "see the problem's detail"));
        at += length;
        at += strspn(at, " ");
    }
    return list;
}

void problem_respond_error(struct response *response, const struct request *request, const struct error *err,
                           const char *lease_id, const struct log *log)
{
    enum problem problem = PROBLEM_INTERNAL_ERROR;
    bool known = (err->slug != NULL && problem_find(err->slug, &problem)) || problem_of_code(err->code, &problem);
    const struct problem_type *type = problem_type(problem);
    if (!known || (type->status == 503 && problem != PROBLEM_DRAINING))
        log_line(log, LOG_ERROR, "http.failed", "problem=%s code=%d cause=\"%s\"", type->slug, err->code, err->message);

    json_t *json = document(request, problem, type->status,
                            known ? err->message : "The operation failed; the daemon's log says why.");
    if (json != NULL && problem == PROBLEM_INSUFFICIENT_CAPACITY && err->field[0] != '\0')
        json_object_set_new(json, "errors", field_list(err->field));
    if (json != NULL && lease_id != NULL)
        json_object_set_new(json, "lease_id", json_string(lease_id));
    send_document(response, problem, type->status, json);
}

/* The slug that every error carries, else `validation-failed`. */
static enum problem common_problem(const struct decode_errors *errors)
{
    enum problem common = PROBLEM_VALIDATION_FAILED;
    for (size_t i = 0; i < errors->count; i++) {
        enum problem one = PROBLEM_VALIDATION_FAILED;
        if (errors->items[i].slug != NULL)
            problem_find(errors->items[i].slug, &one);
        if (i > 0 && one != common)
            return PROBLEM_VALIDATION_FAILED;
        common = one;
    }
    return common;
}

void problem_respond_invalid(struct response *response, const struct request *request,
                             const struct decode_errors *errors)
{
    if (errors->no_memory) {
        struct error err = {0};
        error_set(&err, -ENOMEM, "There is no memory to read the request.");
        problem_respond_error(response, request, &err, NULL, NULL);
        return;
    }
    enum problem problem = common_problem(errors);
    char detail[DETAIL_BYTES];
    if (errors->count == 1)
        snprintf(detail, sizeof detail, "%s: %s", errors->items[0].pointer, errors->items[0].detail);
    else
        snprintf(detail, sizeof detail, "%zu faults were found%s.", errors->count,
                 errors->more ? "; further ones are left out" : "");
    json_t *json = document(request, problem, 422, detail);
    if (json != NULL)
        json_object_set_new(json, "errors", error_list(errors));
    send_document(response, problem, 422, json);
}

void problem_respond_query(struct response *response, const struct request *request, const char *name,
                           const char *format, ...)
{
    struct decode_errors errors = {.count = 1};
    char detail[DETAIL_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(errors.items[0].detail, sizeof errors.items[0].detail, format, arguments);
    va_end(arguments);
    snprintf(errors.items[0].pointer, sizeof errors.items[0].pointer, "/%.100s", name);
    snprintf(detail, sizeof detail, "%.100s %s", name, errors.items[0].detail);
    json_t *json = document(request, PROBLEM_QUERY_INVALID, 400, detail);
    if (json != NULL)
        json_object_set_new(json, "errors", error_list(&errors));
    send_document(response, PROBLEM_QUERY_INVALID, 400, json);
}

bool problem_parse_body(struct response *response, const struct request *request, json_t **ret_tree,
                        const struct log *log)
{
    struct error err = {0};
    struct decode_errors errors = {0};
    int parsed = decode_parse(request->body, request->body_bytes, &errors, ret_tree, &err);
    if (errors.count > 0)
        problem_respond_invalid(response, request, &errors);
    else if (parsed == -EINVAL)
        problem_respond(response, request, PROBLEM_MALFORMED_JSON, "%s", err.message);
    else if (parsed < 0)
        problem_respond_error(response, request, &err, NULL, log);
    return parsed == 0;
}

void problem_respond_unready(struct response *response, const struct request *request,
                             const struct decode_errors *reasons)
{
    json_t *json = document(request, PROBLEM_NOT_READY, 503, reasons->count > 0 ? reasons->items[0].detail : "");
    if (json != NULL)
        json_object_set_new(json, "errors", error_list(reasons));
    send_document(response, PROBLEM_NOT_READY, 503, json);
}
