#include "api/json/json_scan.h"

#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"

/* One open array or object. */
struct level {
    bool is_array;
    bool has_key;   /* object: a key was read for the member at hand */
    size_t index;   /* array: the element at hand */
    size_t key;     /* object: first byte of the key's text */
    size_t key_end; /* object: its closing quote */
};

/* Where the scan stands. Levels beyond the kept ones are only counted. */
struct scan {
    const uint8_t *bytes;
    size_t length;
    size_t at;
    size_t depth;
    struct level levels[JSON_SCAN_DEPTH];
};

static struct level *top(struct scan *scan)
{
    return scan->depth == 0 || scan->depth > JSON_SCAN_DEPTH ? NULL : &scan->levels[scan->depth - 1];
}

/* Pass over a string whose opening quote is at hand; a string in an object's key place is noted as its key. */
static void scan_string(struct scan *scan)
{
    size_t first = scan->at + 1;
    for (scan->at = first; scan->at < scan->length && scan->bytes[scan->at] != '"'; scan->at++) {
        if (scan->bytes[scan->at] == '\\')
            scan->at++;
    }
    struct level *level = top(scan);
    if (level != NULL && !level->is_array && !level->has_key) {
        level->key = first;
        level->key_end = scan->at < scan->length ? scan->at : scan->length;
        level->has_key = true;
    }
}

/* Take one byte, or one whole string. */
static void scan_step(struct scan *scan)
{
    uint8_t byte = scan->bytes[scan->at];
    struct level *level = top(scan);
    if (byte == '"') {
        scan_string(scan);
    } else if (byte == '[' || byte == '{') {
        scan->depth++;
        if (top(scan) != NULL)
            *top(scan) = (struct level){.is_array = byte == '['};
    } else if ((byte == ']' || byte == '}') && scan->depth > 0) {
        scan->depth--;
    } else if (byte == ',' && level != NULL) {
        level->index++;
        level->has_key = false;
    }
    scan->at++;
}

size_t json_scan_depth(const uint8_t *bytes, size_t length, size_t limit, size_t *ret_offset)
{
    struct scan scan = {.bytes = bytes, .length = length};
    size_t deepest = 0;
    while (scan.at < length) {
        size_t offset = scan.at;
        scan_step(&scan);
        if (scan.depth > deepest)
            deepest = scan.depth;
        if (deepest > limit) {
            *ret_offset = offset;
            return deepest;
        }
    }
    return deepest;
}

/* Append one reference token; bytes that a pointer or a log should not show as they are become '?'. */
static size_t append_token(char *pointer, size_t used, size_t capacity, const uint8_t *text, size_t length)
{
    if (used + 1 < capacity)
        pointer[used++] = '/';
    for (size_t i = 0; i < length && used + 2 < capacity; i++) {
        if (text[i] == '~' || text[i] == '/') {
            pointer[used++] = '~';
            pointer[used++] = text[i] == '~' ? '0' : '1';
        } else {
            pointer[used++] = (char)(text[i] >= 0x20 && text[i] <= 0x7e ? text[i] : '?');
        }
    }
    pointer[used] = '\0';
    return used;
}

const char *json_scan_pointer(const uint8_t *bytes, size_t length, size_t offset, char *ret_pointer, size_t capacity)
{
    REQUIRE(capacity > 0);
    struct scan scan = {.bytes = bytes, .length = length};
    while (scan.at < length && scan.at < offset)
        scan_step(&scan);

    size_t used = 0;
    ret_pointer[0] = '\0';
    for (size_t i = 0; i < scan.depth && i < JSON_SCAN_DEPTH; i++) {
        const struct level *level = &scan.levels[i];
        if (level->is_array) {
            char number[24];
            int digits = snprintf(number, sizeof number, "%zu", level->index);
            used = append_token(ret_pointer, used, capacity, (const uint8_t *)number, (size_t)digits);
        } else if (level->has_key) {
            used = append_token(ret_pointer, used, capacity, bytes + level->key, level->key_end - level->key);
        }
    }
    return ret_pointer;
}
