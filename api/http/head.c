#include "api/http/head.h"

#include <string.h>
#include <strings.h>

size_t head_length(const char *bytes, size_t length)
{
    size_t at = 0;
    while (at < length && (bytes[at] == '\r' || bytes[at] == '\n'))
        at++;
    for (const char *feed; at < length && (feed = memchr(bytes + at, '\n', length - at)) != NULL;) {
        at = (size_t)(feed - bytes) + 1;
        if (at < length && bytes[at] == '\n')
            return at + 1;
        if (length - at >= 2 && bytes[at] == '\r' && bytes[at + 1] == '\n')
            return at + 2;
    }
    return 0;
}

bool head_is_folded(const char *bytes, size_t length)
{
    for (size_t at = 1; at < length; at++)
        if (bytes[at - 1] == '\n' && (bytes[at] == ' ' || bytes[at] == '\t'))
            return true;
    return false;
}

bool head_holds_nul(const char *bytes, size_t length)
{
    return memchr(bytes, '\0', length) != NULL;
}

size_t head_bearer(const char *bytes, size_t length, const char **ret_token)
{
    static const char name[] = "\nAuthorization:";
    static const char scheme[] = "Bearer ";
    for (size_t at = 0; at + sizeof name - 1 < length; at++) {
        if (bytes[at] != '\n' || strncasecmp(bytes + at, name, sizeof name - 1) != 0)
            continue;
        at += sizeof name - 1;
        while (at < length && (bytes[at] == ' ' || bytes[at] == '\t'))
            at++;
        if (length - at < sizeof scheme - 1 || strncasecmp(bytes + at, scheme, sizeof scheme - 1) != 0)
            return 0;
        at += sizeof scheme - 1;
        size_t end = at;
        while (end < length && bytes[end] > ' ' && bytes[end] < 0x7f)
            end++;
        *ret_token = bytes + at;
        return end - at;
    }
    return 0;
}
