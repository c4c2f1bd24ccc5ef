#include "nat/random.h"

#include <sodium.h>
#include <string.h>

#include "base/error.h"

_Static_assert((int)RANDOM_KEY_BYTES == (int)crypto_stream_chacha20_KEYBYTES, "ChaCha20's key");

void random_key(struct random_source *source)
{
    randombytes_buf(source->key, sizeof source->key);
    source->keyed = true;
}

void random_fill(struct random_source *source, void *ret_bytes, size_t length)
{
    static const uint8_t nonce[crypto_stream_chacha20_NONCEBYTES]; /* each key is used once */
    uint8_t stream[RANDOM_KEY_BYTES + RANDOM_FILL_MAX_BYTES];
    REQUIRE(length <= RANDOM_FILL_MAX_BYTES);
    REQUIRE(source->keyed);
    REQUIRE(crypto_stream_chacha20(stream, RANDOM_KEY_BYTES + length, nonce, source->key) == 0);
    memcpy(source->key, stream, RANDOM_KEY_BYTES);
    memcpy(ret_bytes, stream + RANDOM_KEY_BYTES, length);
    sodium_memzero(stream, sizeof stream);
}
