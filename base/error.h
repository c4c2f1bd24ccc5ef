/* One error idiom for the whole project: a function that can fail returns 0 or a negative errno and,
 * as its last argument, fills a `struct error` at the place where the cause is known. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

enum error_limits {
    ERROR_MESSAGE_BYTES = 320, /* one sentence with a path in it */
    ERROR_FIELD_BYTES = 96,    /* a JSON pointer, an option or a file name */
};

/**
 * struct error - Why a call failed
 * @code:    negative errno, 0 while nothing failed
 * @slug:    static machine word for the cause ("image-digest-mismatch") or NULL
 * @field:   what the caller has to mend (JSON pointer, option, file) or ""
 * @message: one sentence for a person
 *
 * Owner: the caller; usually on its stack, initialised with {0}.
 */
struct error {
    int code;
    const char *slug;
    char field[ERROR_FIELD_BYTES];
    char message[ERROR_MESSAGE_BYTES];
};

/**
 * error_set() - Record a failure
 * @err:    filled when not NULL; slug and field are cleared
 * @code:   negative errno
 * @format: printf format of the message
 * Return:  @code, so that a caller can write `return error_set(...)`
 * Thread:  any
 */
int error_set(struct error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__
/* The analyzer sees one file at a time: this tells it that what error_set() returns is negative. */
static inline int error_is_negative(int code)
{
    if (code >= 0)
        __builtin_unreachable();
    return code;
}
#define error_set(...) error_is_negative(error_set(__VA_ARGS__))
#endif

/**
 * error_tag() - Add the machine word and the field to a failure
 * @err:    as filled by error_set(); may be NULL
 * @slug:   static string
 * @field:  copied; NULL leaves it empty
 * Return:  the code in @err (-EINVAL when @err is NULL)
 * Thread:  any
 */
int error_tag(struct error *err, const char *slug, const char *field);

/**
 * error_prefix() - Put context before the message of a failure
 * @err:    as filled by error_set(); may be NULL
 * @format: printf format of the context; ": " is added
 * Thread:  any
 */
void error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/**
 * REQUIRE() - Stop on a programmer's error, in release builds too
 *
 * Nothing that a guest or a client sends may reach one.
 */
#define REQUIRE(condition) ((condition) ? (void)0 : error_require_failed(#condition, __FILE__, __LINE__))

_Noreturn void error_require_failed(const char *condition, const char *file, int line);

#endif
