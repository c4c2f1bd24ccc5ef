/* A strict decoder over JSON trees. Each function looks at one node, says in `errors` what is wrong with it, and goes
 * on, so that a caller hears of every fault at once. Used for request bodies and for the configuration file. */
#ifndef API_JSON_DECODE_H
#define API_JSON_DECODE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum decode_limits {
    DECODE_ERRORS_MAX = 32,     /* a person mends no more than that at a time */
    DECODE_POINTER_BYTES = 192, /* longer pointers are cut */
    DECODE_DETAIL_BYTES = 200,
    DECODE_DEPTH_MAX = 16, /* the contract's; our deepest document has 4 */
};

/** struct decode_errors - What is wrong with a document. Begins as {0}. Owner: the caller. */
struct decode_errors {
    size_t count;
    bool more;      /* there were more than fit */
    bool no_memory; /* a value could not be looked at: the document may be right */
    struct {
        char pointer[DECODE_POINTER_BYTES];
        const char *slug; /* static problem slug, or NULL for a plain fault */
        char detail[DECODE_DETAIL_BYTES];
    } items[DECODE_ERRORS_MAX];
};

/**
 * struct decode_node - A place in a document
 * @value: NULL when there is nothing at the place; borrowed from the tree
 *
 * Owner: the caller's stack; the tree and the errors outlive it.
 */
struct decode_node {
    json_t *value;
    char pointer[DECODE_POINTER_BYTES]; /* RFC 6901 */
    struct decode_errors *errors;
};

/**
 * decode_parse() - Read bytes as one JSON object
 * @errors:   told of a duplicate key, NUL, invalid UTF-8, number out of range, nesting too deep, or a root that is no
 *            object, each with its pointer; then the return is -EBADMSG
 * @ret_root: owned by the caller; untouched on failure
 * Return:    0; -EBADMSG; -EINVAL for bytes that are not JSON (err says line and column); -ENOMEM
 * Thread:    any
 */
int decode_parse(const uint8_t *bytes, size_t length, struct decode_errors *errors, json_t **ret_root,
                 struct error *err);

/** decode_root() - The whole document as a node. Thread: the caller's */
struct decode_node decode_root(json_t *root, struct decode_errors *errors);

/** decode_member() - A member of an object; its value is NULL when the member or the object is not there. */
struct decode_node decode_member(const struct decode_node *object, const char *key);

/** decode_element() - An element of an array; as decode_member(). */
struct decode_node decode_element(const struct decode_node *array, size_t index);

/** decode_fault() - Record a fault at a node. @slug: static, or NULL. Return: false, for `return decode_fault(...)` */
bool decode_fault(const struct decode_node *node, const char *slug, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** decode_present() - Whether there is anything at the node. Thread: the caller's */
bool decode_present(const struct decode_node *node);

/**
 * decode_object() - The node must be an object with no other keys than these
 * @keys:  NULL-terminated. A key that is not among them is a fault at the key's own pointer, with the nearest known
 *         one as a suggestion
 * Return: true when it is an object (even one with unknown keys)
 * Thread: the caller's
 */
bool decode_object(const struct decode_node *node, const char *const *keys);

/** decode_array() - The node must be an array of @least to @most elements. Return: true, and the count */
bool decode_array(const struct decode_node *node, size_t least, size_t most, size_t *ret_count);

/** decode_integer() - The node must be an integer of @least to @most. Return: true, and the value */
bool decode_integer(const struct decode_node *node, uint64_t least, uint64_t most, uint64_t *ret_value);

/** decode_number() - The node must be a number of @least to @most. Return: true, and the value */
bool decode_number(const struct decode_node *node, double least, double most, double *ret_value);

/** decode_boolean() - The node must be true or false. Return: true, and the value */
bool decode_boolean(const struct decode_node *node, bool *ret_value);

/** decode_string() - The node must be a string of @least to @most bytes. Return: the tree's text, or NULL */
const char *decode_string(const struct decode_node *node, size_t least, size_t most);

#endif
