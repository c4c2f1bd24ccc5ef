#include "api/http/route.h"

#include <stdio.h>
#include <string.h>

enum token_scope route_scope(enum route_auth auth)
{
    switch (auth) {
    case ROUTE_ADMIN:
        return TOKEN_ADMIN;
    case ROUTE_LEASE:
        return TOKEN_LEASE;
    case ROUTE_READ:
    case ROUTE_OPEN:
        return TOKEN_READ;
    }
    return TOKEN_ADMIN;
}

/* Whether the path fits the pattern; the {name} parts go to @ret_parameters. */
static bool path_fits(const char *pattern, const struct request *request,
                      const char *ret_parameters[static REQUEST_PARAMETERS_MAX], size_t *ret_count)
{
    size_t count = 0;
    size_t segment = 0;
    for (const char *at = pattern; at != NULL; segment++) {
        const char *part = at + 1; /* past the slash */
        size_t length = strcspn(part, "/");
        at = part[length] == '/' ? part + length : NULL;
        if (segment == request->segment_count)
            return false;
        const char *given = request->segments[segment];
        if (part[0] == '{') {
            if (given[0] == '\0' || count == REQUEST_PARAMETERS_MAX)
                return false;
            ret_parameters[count++] = given;
        } else if (strlen(given) != length || memcmp(given, part, length) != 0) {
            return false;
        }
    }
    *ret_count = count;
    return segment == request->segment_count;
}

struct route_match route_match(const struct route *table, struct request *request)
{
    struct route_match match = {0};
    enum request_method wanted = request->method == REQUEST_HEAD ? REQUEST_GET : request->method;
    for (const struct route *route = table; route->pattern != NULL; route++) {
        const char *parameters[REQUEST_PARAMETERS_MAX] = {NULL};
        size_t count = 0;
        if (!path_fits(route->pattern, request, parameters, &count))
            continue;
        match.path_known = true;
        match.allowed |= 1u << route->method | 1u << REQUEST_OPTIONS;
        if (route->method == REQUEST_GET)
            match.allowed |= 1u << REQUEST_HEAD;
        if (route->method != wanted)
            continue;
        match.route = route;
        memcpy(request->parameters, parameters, sizeof parameters);
        request->parameter_count = count;
    }
    return match;
}

const char *route_allow_header(unsigned allowed, char ret_text[static ROUTE_ALLOW_BYTES])
{
    size_t used = 0;
    ret_text[0] = '\0';
    for (unsigned i = 0; i < REQUEST_OTHER; i++) {
        if ((allowed & 1u << i) != 0)
            used += (size_t)snprintf(ret_text + used, ROUTE_ALLOW_BYTES - used, "%s%s", used == 0 ? "" : ", ",
                                     request_method_name((enum request_method)i));
    }
    return ret_text;
}

bool route_takes_key(const struct route *route)
{
    return route->method == REQUEST_POST && strcmp(route->pattern, "/v1/leases") == 0;
}

bool route_takes_query(const struct route *route, const char *name)
{
    size_t length = strlen(name);
    if (length == 0)
        return false;
    for (const char *at = route->query; at != NULL && *at != '\0';) {
        size_t word = strcspn(at, " ");
        if (word == length && memcmp(at, name, length) == 0)
            return true;
        at += word;
        at += strspn(at, " ");
    }
    return false;
}
