#include "api/json/decode.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/json/json_scan.h"

enum {
    KEY_BYTES_SUGGESTED = 40, /* no key of ours is longer, so nothing longer is near one */
    SUGGESTION_DISTANCE = 2,  /* a swapped pair or two wrong letters */
};

_Static_assert((int)DECODE_DEPTH_MAX <= (int)JSON_SCAN_DEPTH, "every level of an accepted document has a pointer");

/* ---- parsing --------------------------------------------------------------------------------------------------- */

static void fault_at_offset(struct decode_errors *errors, const uint8_t *bytes, size_t length, size_t offset,
                            const char *detail)
{
    struct decode_node node = {.errors = errors};
    json_scan_pointer(bytes, length, offset, node.pointer, sizeof node.pointer);
    decode_fault(&node, NULL, "%s", detail);
}

/* What the parser refuses though the syntax is right. Return: NULL when the syntax is wrong. */
static const char *semantic_fault(enum json_error_code code)
{
    if (code == json_error_duplicate_key)
        return "stands twice in its object";
    if (code == json_error_null_character || code == json_error_null_byte_in_key)
        return "must not hold a NUL character";
    if (code == json_error_invalid_utf8)
        return "is not valid UTF-8";
    if (code == json_error_numeric_overflow)
        return "is a number out of range";
    return NULL;
}

int decode_parse(const uint8_t *bytes, size_t length, struct decode_errors *errors, json_t **ret_root,
                 struct error *err)
{
    size_t offset = 0;
    if (json_scan_depth(bytes, length, DECODE_DEPTH_MAX, &offset) > DECODE_DEPTH_MAX) {
        fault_at_offset(errors, bytes, length, offset, "nests deeper than 16 levels");
        return error_set(err, -EBADMSG, "The document nests deeper than %d levels.", DECODE_DEPTH_MAX);
    }
    json_error_t fault;
    json_t *root = json_loadb((const char *)bytes, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &fault);
    if (root == NULL) {
        enum json_error_code code = json_error_code(&fault);
        if (code == json_error_out_of_memory)
            return error_set(err, -ENOMEM, "There is no memory to read the document.");
        const char *detail = semantic_fault(code);
        if (detail == NULL)
            return error_set(err, -EINVAL, "The document is not JSON: line %d, column %d.", fault.line, fault.column);
        fault_at_offset(errors, bytes, length, fault.position < 0 ? 0 : (size_t)fault.position, detail);
        return error_set(err, -EBADMSG, "A value of the document %s.", detail);
    }
    if (!json_is_object(root)) {
        json_decref(root);
        fault_at_offset(errors, bytes, length, 0, "must be an object");
        return error_set(err, -EBADMSG, "The document must be an object.");
    }
    *ret_root = root;
    return 0;
}

/* ---- nodes ----------------------------------------------------------------------------------------------------- */

struct decode_node decode_root(json_t *root, struct decode_errors *errors)
{
    return (struct decode_node){.value = root, .errors = errors};
}

static void append_token(struct decode_node *node, const char *parent, const char *token)
{
    size_t used = strlen(parent);
    memcpy(node->pointer, parent, used + 1);
    const size_t capacity = sizeof node->pointer;
    if (used + 1 < capacity)
        node->pointer[used++] = '/';
    for (; *token != '\0' && used + 2 < capacity; token++) {
        if (*token == '~' || *token == '/') {
            node->pointer[used++] = '~';
            node->pointer[used++] = *token == '~' ? '0' : '1';
        } else {
            node->pointer[used++] = (char)(*token >= 0x20 && *token <= 0x7e ? *token : '?');
        }
    }
    node->pointer[used] = '\0';
}

struct decode_node decode_member(const struct decode_node *object, const char *key)
{
    struct decode_node node = {.value = json_object_get(object->value, key), .errors = object->errors};
    append_token(&node, object->pointer, key);
    return node;
}

struct decode_node decode_element(const struct decode_node *array, size_t index)
{
    char token[24];
    snprintf(token, sizeof token, "%zu", index);
    struct decode_node node = {.value = json_array_get(array->value, index), .errors = array->errors};
    append_token(&node, array->pointer, token);
    return node;
}

bool decode_fault(const struct decode_node *node, const char *slug, const char *format, ...)
{
    struct decode_errors *errors = node->errors;
    if (errors->count == DECODE_ERRORS_MAX) {
        errors->more = true;
        return false;
    }
    size_t i = errors->count++;
    memcpy(errors->items[i].pointer, node->pointer, sizeof node->pointer);
    errors->items[i].slug = slug;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(errors->items[i].detail, sizeof errors->items[i].detail, format, arguments);
    va_end(arguments);
    return false;
}

bool decode_present(const struct decode_node *node)
{
    return node->value != NULL;
}

/* ---- values ---------------------------------------------------------------------------------------------------- */

/* Levenshtein distance with one row; both texts are at most KEY_BYTES_SUGGESTED bytes. */
static size_t distance(const char *a, const char *b)
{
    size_t row[KEY_BYTES_SUGGESTED + 1];
    size_t width = strlen(b);
    for (size_t j = 0; j <= width; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= width; j++) {
            size_t above = row[j];
            size_t best = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            best = above + 1 < best ? above + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[width];
}

static const char *nearest_key(const char *wrong, const char *const *keys)
{
    if (strlen(wrong) > KEY_BYTES_SUGGESTED)
        return NULL;
    const char *nearest = NULL;
    size_t least = SUGGESTION_DISTANCE + 1;
    for (; *keys != NULL; keys++) {
        size_t here = strlen(*keys) > KEY_BYTES_SUGGESTED ? least : distance(wrong, *keys);
        if (here < least) {
            least = here;
            nearest = *keys;
        }
    }
    return nearest;
}

static bool known_key(const char *key, const char *const *keys)
{
    for (; *keys != NULL; keys++) {
        if (strcmp(key, *keys) == 0)
            return true;
    }
    return false;
}

/* A fault unless there is a value. */
static bool required(const struct decode_node *node)
{
    return node->value != NULL || decode_fault(node, NULL, "is required");
}

bool decode_object(const struct decode_node *node, const char *const *keys)
{
    if (!required(node))
        return false;
    if (!json_is_object(node->value))
        return decode_fault(node, NULL, "must be an object");
    const char *key;
    json_t *value;
    json_object_foreach(node->value, key, value)
    {
        if (known_key(key, keys))
            continue;
        struct decode_node unknown = decode_member(node, key);
        const char *nearest = nearest_key(key, keys);
        if (nearest != NULL)
            decode_fault(&unknown, NULL, "is not a known key; did you mean \"%s\"?", nearest);
        else
            decode_fault(&unknown, NULL, "is not a known key");
    }
    return true;
}

bool decode_array(const struct decode_node *node, size_t least, size_t most, size_t *ret_count)
{
    if (!required(node))
        return false;
    if (!json_is_array(node->value))
        return decode_fault(node, NULL, "must be an array");
    size_t count = json_array_size(node->value);
    if (count < least || count > most)
        return decode_fault(node, NULL, "must have %zu to %zu elements", least, most);
    *ret_count = count;
    return true;
}

bool decode_integer(const struct decode_node *node, uint64_t least, uint64_t most, uint64_t *ret_value)
{
    if (!required(node))
        return false;
    if (!json_is_integer(node->value))
        return decode_fault(node, NULL, "must be an integer");
    json_int_t value = json_integer_value(node->value);
    if (value < 0 || (uint64_t)value < least || (uint64_t)value > most)
        return decode_fault(node, NULL, "must be %llu to %llu", (unsigned long long)least, (unsigned long long)most);
    *ret_value = (uint64_t)value;
    return true;
}

bool decode_number(const struct decode_node *node, double least, double most, double *ret_value)
{
    if (!required(node))
        return false;
    if (!json_is_number(node->value))
        return decode_fault(node, NULL, "must be a number");
    double value = json_number_value(node->value);
    if (!(value >= least && value <= most))
        return decode_fault(node, NULL, "must be %g to %g", least, most);
    *ret_value = value;
    return true;
}

bool decode_boolean(const struct decode_node *node, bool *ret_value)
{
    if (!required(node))
        return false;
    if (!json_is_boolean(node->value))
        return decode_fault(node, NULL, "must be true or false");
    *ret_value = json_is_true(node->value);
    return true;
}

const char *decode_string(const struct decode_node *node, size_t least, size_t most)
{
    if (!required(node))
        return NULL;
    if (!json_is_string(node->value)) {
        decode_fault(node, NULL, "must be a string");
        return NULL;
    }
    size_t length = json_string_length(node->value);
    if (length < least || length > most) {
        decode_fault(node, NULL, "must have %zu to %zu bytes", least, most);
        return NULL;
    }
    return json_string_value(node->value);
}
