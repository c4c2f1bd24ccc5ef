/* Keys that strangers send and keys made here. What is parsed is a value afterwards and is printed from that value. */
#include "vmm/vmm.h"

#include <sodium.h>
#include <string.h>

#include "base/bytes.h"

_Static_assert(VMM_KEY_BYTES == crypto_scalarmult_curve25519_BYTES, "a WireGuard key is an X25519 point");
_Static_assert(VMM_KEY_TEXT_BYTES == sodium_base64_ENCODED_LEN(VMM_KEY_BYTES, sodium_base64_VARIANT_ORIGINAL),
               "padded base64");

/* RFC 7748 section 5: every private key is clamped before use; wg(8) stores it so. */
static void clamp(uint8_t key[static VMM_KEY_BYTES])
{
    key[0] &= 248;
    key[VMM_KEY_BYTES - 1] = (uint8_t)((key[VMM_KEY_BYTES - 1] & 127) | 64);
}

void vmm_key_pair(uint8_t ret_private[static VMM_KEY_BYTES], uint8_t ret_public[static VMM_KEY_BYTES])
{
    REQUIRE(sodium_init() >= 0);
    randombytes_buf(ret_private, VMM_KEY_BYTES);
    clamp(ret_private);
    REQUIRE(crypto_scalarmult_curve25519_base(ret_public, ret_private) == 0);
}

/* Bytes of a base64 text that is its own encoding, so that one value has one spelling. */
static bool base64_decode(const char *text, size_t text_length, uint8_t *ret_bytes, size_t capacity, size_t *ret_length)
{
    const char *end = NULL;
    return sodium_base642bin(ret_bytes, capacity, text, text_length, NULL, ret_length, &end,
                             sodium_base64_VARIANT_ORIGINAL) == 0 &&
           end == text + text_length;
}

bool vmm_key_parse(const char *text, uint8_t ret_key[static VMM_KEY_BYTES])
{
    if (strnlen(text, VMM_KEY_TEXT_BYTES) != VMM_KEY_TEXT_BYTES - 1)
        return false;
    uint8_t key[VMM_KEY_BYTES];
    size_t length = 0;
    bool good = base64_decode(text, VMM_KEY_TEXT_BYTES - 1, key, sizeof key, &length) && length == sizeof key;
    if (good)
        memcpy(ret_key, key, sizeof key);
    sodium_memzero(key, sizeof key);
    return good;
}

const char *vmm_key_format(const uint8_t key[static VMM_KEY_BYTES], char ret_text[static VMM_KEY_TEXT_BYTES])
{
    return sodium_bin2base64(ret_text, VMM_KEY_TEXT_BYTES, key, VMM_KEY_BYTES, sodium_base64_VARIANT_ORIGINAL);
}

/* A point of low order gives the shared secret zero with every private key, so one multiplication tells; libsodium
 * refuses to give it. */
bool vmm_public_key_valid(const uint8_t key[static VMM_KEY_BYTES])
{
    uint8_t scalar[VMM_KEY_BYTES] = {1};
    uint8_t shared[VMM_KEY_BYTES];
    clamp(scalar);
    return !sodium_is_zero(key, VMM_KEY_BYTES) && crypto_scalarmult_curve25519(shared, scalar, key) == 0;
}

static bool ssh_type_known(const char *type, size_t length)
{
    static const char *const types[] = {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strlen(types[i]) == length && memcmp(types[i], type, length) == 0)
            return true;
    return false;
}

/* RFC 4251 section 5: a string is a 32-bit length and as many bytes. */
static bool ssh_string_take(struct cursor *cursor, const uint8_t **ret_bytes, size_t *ret_length)
{
    be32 length = {0};
    if (!cursor_take(cursor, &length, sizeof length))
        return false;
    *ret_bytes = cursor->at;
    *ret_length = be32_load(length);
    return *ret_length > 0 && cursor_skip(cursor, *ret_length);
}

/* RFC 4253 section 6.6: the blob is its type as a string, then the numbers or points of the key, strings as well. */
static bool ssh_blob_is(const uint8_t *blob, size_t blob_length, const char *type, size_t type_length)
{
    struct cursor cursor = cursor_make(blob, blob_length);
    const uint8_t *bytes = NULL;
    size_t length = 0;
    if (!ssh_string_take(&cursor, &bytes, &length) || length != type_length || memcmp(bytes, type, length) != 0)
        return false;
    if (cursor.left == 0)
        return false;
    while (cursor.left > 0)
        if (!ssh_string_take(&cursor, &bytes, &length))
            return false;
    return true;
}

const char *vmm_ssh_key_parse(const char *text, char ret_key[static VMM_SSH_KEY_BYTES])
{
    for (const char *at = text; *at != '\0'; at++)
        if (*at == '\n' || *at == '\r')
            return "more than one line";
        else if (((uint8_t)*at < ' ' && *at != '\t') || *at == 127)
            return "a control character";
    size_t type_length = strcspn(text, " \t");
    if (!ssh_type_known(text, type_length))
        return "does not start with a known key type (ssh-ed25519, ssh-rsa, ecdsa-sha2-nistp256, ...)";
    const char *base64 = text + type_length;
    base64 += strspn(base64, " \t");
    size_t base64_length = strcspn(base64, " \t");
    if (base64_length == 0)
        return "has no key after its type";
    if (type_length + 1 + base64_length >= VMM_SSH_KEY_BYTES)
        return "longer than 1023 characters";
    uint8_t blob[VMM_SSH_KEY_BYTES];
    size_t blob_length = 0;
    if (!base64_decode(base64, base64_length, blob, sizeof blob, &blob_length))
        return "not base64";
    if (!ssh_blob_is(blob, blob_length, text, type_length))
        return "the key inside is damaged or of another type";
    memcpy(ret_key, text, type_length);
    ret_key[type_length] = ' ';
    memcpy(ret_key + type_length + 1, base64, base64_length);
    ret_key[type_length + 1 + base64_length] = '\0';
    return NULL;
}
