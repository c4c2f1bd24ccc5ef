#include "api/http/request.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

static const char *const method_names[REQUEST_METHOD_COUNT] = {
    [REQUEST_GET] = "GET",     [REQUEST_HEAD] = "HEAD",     [REQUEST_POST] = "POST",       [REQUEST_PUT] = "PUT",
    [REQUEST_PATCH] = "PATCH", [REQUEST_DELETE] = "DELETE", [REQUEST_OPTIONS] = "OPTIONS", [REQUEST_OTHER] = "other",
};

enum request_method request_method_parse(const char *name)
{
    for (size_t i = 0; i < REQUEST_OTHER; i++) {
        if (strcmp(name, method_names[i]) == 0)
            return (enum request_method)i;
    }
    return REQUEST_OTHER;
}

const char *request_method_name(enum request_method method)
{
    return method_names[method];
}

/* Undo percent-encoding in place. Return: false for a bad escape or a control byte. */
static bool decode_in_place(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        unsigned char byte = (unsigned char)*from;
        if (byte == '%') {
            int escaped = hex_byte(from + 1);
            if (escaped < 0)
                return false;
            byte = (unsigned char)escaped;
            from += 2;
        }
        if (byte < 0x20 || byte == 0x7f)
            return false;
        *to++ = (char)byte;
    }
    *to = '\0';
    return true;
}

static bool split_path(struct request *request, char *path)
{
    char *rest = path + 1; /* past the first slash */
    while (rest != NULL) {
        char *segment = rest;
        char *slash = strchr(rest, '/');
        if (slash != NULL)
            *slash = '\0';
        rest = slash == NULL ? NULL : slash + 1;
        if (request->segment_count == REQUEST_SEGMENTS_MAX || !decode_in_place(segment))
            return false;
        request->segments[request->segment_count++] = segment;
    }
    return true;
}

static bool split_query(struct request *request, char *query)
{
    for (char *rest = query; rest != NULL;) {
        char *name = rest;
        char *next = strchr(rest, '&');
        if (next != NULL)
            *next = '\0';
        rest = next == NULL ? NULL : next + 1;
        if (*name == '\0')
            continue;
        char *value = strchr(name, '=');
        if (value == NULL || request->query_count == REQUEST_QUERY_MAX)
            return false;
        *value++ = '\0';
        if (!decode_in_place(name) || !decode_in_place(value) || request_query(request, name) != NULL)
            return false;
        request->query[request->query_count++] = (struct request_pair){.name = name, .value = value};
    }
    return true;
}

static void forget_target(struct request *request)
{
    request->instance[0] = '\0';
    request->segment_count = 0;
    request->query_count = 0;
}

int request_parse_target(struct request *request, const char *target, struct error *err)
{
    forget_target(request);
    size_t length = strnlen(target, REQUEST_TARGET_BYTES);
    if (length == REQUEST_TARGET_BYTES)
        return error_set(err, -ENAMETOOLONG, "The request target is longer than %d bytes.", REQUEST_TARGET_BYTES - 1);
    if (target[0] != '/')
        return error_set(err, -EINVAL, "The request target must be a path that begins with a slash.");
    for (size_t i = 0; i < length; i++) {
        if (target[i] <= 0x20 || target[i] >= 0x7f || target[i] == '#')
            return error_set(err, -EINVAL, "The request target holds a byte that must be percent-encoded.");
    }
    size_t path_bytes = strcspn(target, "?");
    memcpy(request->instance, target, path_bytes);
    request->instance[path_bytes] = '\0';
    memcpy(request->decoded, target, length + 1);

    char *query = request->decoded[path_bytes] == '?' ? request->decoded + path_bytes + 1 : NULL;
    request->decoded[path_bytes] = '\0';
    if (!split_path(request, request->decoded)) {
        forget_target(request);
        return error_set(err, -EINVAL, "The path has a bad percent escape, a control byte or too many parts.");
    }
    if (query != NULL && !split_query(request, query)) {
        forget_target(request);
        return error_set(err, -EINVAL, "The query has a bad percent escape, a repeated name or a part without \"=\".");
    }
    return 0;
}

const char *request_query(const struct request *request, const char *name)
{
    for (size_t i = 0; i < request->query_count; i++) {
        if (strcmp(request->query[i].name, name) == 0)
            return request->query[i].value;
    }
    return NULL;
}
