#include "api/http/etag.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/http/problem.h"

const char *etag_format(uint64_t generation, char ret_text[static ETAG_BYTES])
{
    snprintf(ret_text, ETAG_BYTES, "\"%" PRIu64 "\"", generation);
    return ret_text;
}

void etag_header(struct response *response, uint64_t generation)
{
    char etag[ETAG_BYTES];
    response_header(response, "ETag", "%s", etag_format(generation, etag));
}

static const char *skip_space(const char *text)
{
    return text + strspn(text, " \t");
}

/* One tag of a list. Return: what follows it, or NULL when it is no entity tag (RFC 9110 section 8.8.3). */
static const char *take_tag(const char *at, bool *ret_weak, const char **ret_opaque, size_t *ret_bytes)
{
    *ret_weak = strncmp(at, "W/", 2) == 0;
    at += *ret_weak ? 2 : 0;
    if (*at != '"')
        return NULL;
    const char *end = strchr(at + 1, '"');
    if (end == NULL)
        return NULL;
    *ret_opaque = at;
    *ret_bytes = (size_t)(end + 1 - at);
    return end + 1;
}

/* Whether a well-formed list holds @etag. @weak: a weak tag counts as its strong twin, else it never matches. */
static bool listed(const char *list, const char *etag, bool weak)
{
    size_t length = strlen(etag);
    bool found = false;
    const char *at = skip_space(list);
    if (*at == '*')
        return *skip_space(at + 1) == '\0';
    while (*at != '\0') {
        bool is_weak;
        const char *opaque;
        size_t bytes;
        if (*at != ',') { /* an empty element is allowed (RFC 9110 section 5.6.1.2) */
            at = take_tag(at, &is_weak, &opaque, &bytes);
            if (at == NULL)
                return false;
            found = found || ((weak || !is_weak) && bytes == length && memcmp(opaque, etag, length) == 0);
            at = skip_space(at);
        }
        if (*at != ',' && *at != '\0')
            return false;
        at = *at == ',' ? skip_space(at + 1) : at;
    }
    return found;
}

bool etag_matches(const char *if_match, uint64_t generation)
{
    char etag[ETAG_BYTES];
    return listed(if_match, etag_format(generation, etag), false);
}

bool etag_unchanged(const struct request *request, struct response *response, uint64_t generation)
{
    char etag[ETAG_BYTES];
    if (request->if_none_match == NULL || !listed(request->if_none_match, etag_format(generation, etag), true))
        return false;
    response_empty(response, 304);
    etag_header(response, generation);
    return true;
}

void etag_refuse(const struct request *request, struct response *response, uint64_t generation)
{
    char etag[ETAG_BYTES];
    problem_respond(response, request, PROBLEM_PRECONDITION_FAILED, "The present generation is %s.",
                    etag_format(generation, etag));
    etag_header(response, generation);
}

bool etag_allows(const struct request *request, struct response *response, uint64_t generation)
{
    if (request->if_match == NULL || etag_matches(request->if_match, generation))
        return true;
    etag_refuse(request, response, generation);
    return false;
}

bool etag_required(const struct request *request, struct response *response, uint64_t generation)
{
    if (request->if_match != NULL)
        return etag_allows(request, response, generation);
    problem_respond(response, request, PROBLEM_PRECONDITION_REQUIRED, "%s", "");
    etag_header(response, generation);
    return false;
}
