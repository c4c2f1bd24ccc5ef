#include "base/error.h"

#undef error_set /* see error.h: only the analyzer has it as a macro */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REQUIRE_TEXT_BYTES = 512 };

int error_set(struct error *err, int code, const char *format, ...)
{
    REQUIRE(code < 0);
    if (err == NULL)
        return code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(err->message, sizeof err->message, format, arguments);
    va_end(arguments);
    err->code = code;
    err->slug = NULL;
    err->field[0] = '\0';
    return code;
}

int error_tag(struct error *err, const char *slug, const char *field)
{
    if (err == NULL)
        return -EINVAL;
    err->slug = slug;
    snprintf(err->field, sizeof err->field, "%s", field == NULL ? "" : field);
    return err->code;
}

void error_prefix(struct error *err, const char *format, ...)
{
    if (err == NULL)
        return;
    char message[ERROR_MESSAGE_BYTES];
    memcpy(message, err->message, sizeof message);
    va_list arguments;
    va_start(arguments, format);
    int head = vsnprintf(err->message, sizeof err->message, format, arguments);
    va_end(arguments);
    size_t used = head < 0 ? 0 : (size_t)head;
    if (used + sizeof ": " >= sizeof err->message)
        return; /* the context alone fills the message */
    memcpy(err->message + used, ": ", 2);
    used += 2;
    size_t length = strnlen(message, sizeof err->message - used - 1);
    memcpy(err->message + used, message, length);
    err->message[used + length] = '\0';
}

_Noreturn void error_require_failed(const char *condition, const char *file, int line)
{
    /* Not by stdio, whose lock a thread that is confined would die with (nat/confine.c). */
    char text[REQUIRE_TEXT_BYTES];
    int length =
        snprintf(text, sizeof text, "event=require.failed condition=\"%.200s\" at=%.100s:%d\n", condition, file, line);
    ssize_t written = write(STDERR_FILENO, text, (size_t)length);
    (void)written;
    abort();
}
