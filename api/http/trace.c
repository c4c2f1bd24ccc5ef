#include "api/http/trace.h"

#include <stddef.h>
#include <string.h>

enum {
    VERSION_DIGITS = 2,
    FLAG_DIGITS = 2,
    HEADER_BYTES = VERSION_DIGITS + 1 + TRACE_ID_BYTES + TRACE_PARENT_BYTES + FLAG_DIGITS,
};

/* Take @digits of lower-case hexadecimal. Return: what follows, or NULL. */
static const char *take_hex(const char *text, size_t digits)
{
    if (text == NULL || strspn(text, "0123456789abcdef") < digits)
        return NULL;
    return text + digits;
}

static const char *take_dash(const char *text)
{
    return text != NULL && *text == '-' ? text + 1 : NULL;
}

static bool all_zero(const char *text, size_t length)
{
    return strspn(text, "0") >= length;
}

bool trace_parse(const char *header, struct trace *ret_trace)
{
    const char *id = take_dash(take_hex(header, VERSION_DIGITS));
    const char *parent = take_dash(take_hex(id, TRACE_ID_BYTES - 1));
    const char *flags = take_dash(take_hex(parent, TRACE_PARENT_BYTES - 1));
    const char *rest = take_hex(flags, FLAG_DIGITS);
    if (rest == NULL || memcmp(header, "ff", VERSION_DIGITS) == 0)
        return false;
    bool is_first_version = memcmp(header, "00", VERSION_DIGITS) == 0;
    if (is_first_version ? strlen(header) != HEADER_BYTES : *rest != '\0' && *rest != '-')
        return false;
    if (all_zero(id, TRACE_ID_BYTES - 1) || all_zero(parent, TRACE_PARENT_BYTES - 1))
        return false;
    *ret_trace = (struct trace){0};
    memcpy(ret_trace->id, id, TRACE_ID_BYTES - 1);
    memcpy(ret_trace->parent, parent, TRACE_PARENT_BYTES - 1);
    return true;
}
