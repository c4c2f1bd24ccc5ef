#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

#include "nat/checksum.h"

static uint16_t naive(uint16_t sum, const uint8_t *bytes, size_t length)
{
    uint32_t total = sum;
    for (size_t i = 0; i < length; i++) {
        total += i % 2 == 0 ? bytes[i] * 256u : bytes[i];
        total = (total & 0xffff) + (total >> 16);
    }
    return (uint16_t)((total & 0xffff) + (total >> 16));
}

static void the_example_of_rfc_1071_adds_up(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    assert_int_equal(checksum_add(0, bytes, sizeof bytes), 0xddf2);
}

static void every_length_agrees_with_a_byte_by_byte_sum(void **state)
{
    (void)state;
    uint32_t seed = 1;
    uint8_t bytes[1600];
    for (size_t length = 0; length <= sizeof bytes; length++) {
        for (size_t i = 0; i < length; i++) {
            seed = seed * 1103515245u + 12345u;
            bytes[i] = length % 3 == 0 ? 0xff : (uint8_t)(seed >> 16);
        }
        uint16_t start = (uint16_t)seed;
        uint16_t expected = naive(start, bytes, length);
        uint16_t found = checksum_add(start, bytes, length);
        /* Zero and 0xffff are the same number in one's complement. */
        assert_int_equal(found % 0xffff, expected % 0xffff);
    }
}

static void the_pseudo_header_holds_both_addresses_the_protocol_and_the_length(void **state)
{
    (void)state;
    static const uint8_t pseudo[] = {192, 168, 64, 2, 198, 51, 100, 2, 0, 17, 0x05, 0x80};
    assert_int_equal(checksum_udp_pseudo(0xC0A84002, 0xC6336402, 0x0580), naive(0, pseudo, sizeof pseudo));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_rfc_1071_adds_up),
        cmocka_unit_test(every_length_agrees_with_a_byte_by_byte_sum),
        cmocka_unit_test(the_pseudo_header_holds_both_addresses_the_protocol_and_the_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
