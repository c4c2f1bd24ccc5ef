#include "vmm/vmm.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "tests/cmocka.h"

#define ED25519 "AAAAC3NzaC1lZDI1NTE5AAAAIMw+CPfOJvUZ3WmT/lolTdInY3P/tl+rsB3xrLYnQZ5c"
#define ECDSA                                                                                                          \
    "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEyQWyE+nqQKA73Ozoirz4hc6+i78hihw7ZQkkfEaHaW94uGFUNrw8joVlIj" \
    "H3+jygGRsvWKLdBEaOhxLvy0brQ="

static void a_fresh_key_pair_is_clamped_and_belongs_together(void **state)
{
    (void)state;
    uint8_t private_key[VMM_KEY_BYTES];
    uint8_t public_key[VMM_KEY_BYTES];
    uint8_t expected[VMM_KEY_BYTES];
    for (int i = 0; i < 16; i++) {
        vmm_key_pair(private_key, public_key);
        assert_int_equal(private_key[0] & 7, 0);
        assert_int_equal(private_key[31] & 0xc0, 0x40);
        assert_int_equal(crypto_scalarmult_curve25519_base(expected, private_key), 0);
        assert_memory_equal(public_key, expected, sizeof expected);
        assert_true(vmm_public_key_valid(public_key));
    }
}

static void two_key_pairs_differ(void **state)
{
    (void)state;
    uint8_t private_keys[2][VMM_KEY_BYTES];
    uint8_t public_keys[2][VMM_KEY_BYTES];
    vmm_key_pair(private_keys[0], public_keys[0]);
    vmm_key_pair(private_keys[1], public_keys[1]);
    assert_memory_not_equal(private_keys[0], private_keys[1], VMM_KEY_BYTES);
    assert_memory_not_equal(public_keys[0], public_keys[1], VMM_KEY_BYTES);
}

/* RFC 7748 section 6.1, Alice. */
static void the_key_of_the_rfc_is_read_and_printed(void **state)
{
    (void)state;
    static const uint8_t alice[VMM_KEY_BYTES] = {0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54, 0x74, 0x8b, 0x7d,
                                                 0xdc, 0xb4, 0x3e, 0xf7, 0x5a, 0x0d, 0xbf, 0x3a, 0x0d, 0x26, 0x38,
                                                 0x1a, 0xf4, 0xeb, 0xa4, 0xa9, 0x8e, 0xaa, 0x9b, 0x4e, 0x6a};
    char text[VMM_KEY_TEXT_BYTES];
    uint8_t key[VMM_KEY_BYTES];
    assert_string_equal(vmm_key_format(alice, text), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    assert_true(vmm_key_parse(text, key));
    assert_memory_equal(key, alice, sizeof key);
    assert_true(vmm_public_key_valid(alice));
}

static void a_key_has_one_spelling(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo",    /* no padding */
                                        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmp=",   /* spare bits set */
                                        "hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo=",   /* the URL alphabet */
                                        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo= ",  /* something behind */
                                        " hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=",  /* something before */
                                        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n", /* a line's end */
                                        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo==",  /* too much padding */
                                        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTg==",   /* 31 bytes */
                                        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmoA",   /* 33 bytes */
                                        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr0 66SpjqqbTmo",   /* a blank inside */
                                        "================================ ==========="};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        uint8_t key[VMM_KEY_BYTES] = {0xaa};
        assert_false(vmm_key_parse(texts[i], key));
        assert_int_equal(key[0], 0xaa);
    }
}

static void public_keys_of_low_order_are_refused(void **state)
{
    (void)state;
    /* https://cr.yp.to/ecdh.html, "How do I validate Curve25519 public keys?" */
    static const char *const texts[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000080", /* the top bit is not part of the key */
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        uint8_t key[VMM_KEY_BYTES];
        assert_int_equal(sodium_hex2bin(key, sizeof key, texts[i], strlen(texts[i]), NULL, NULL, NULL), 0);
        assert_false(vmm_public_key_valid(key));
    }
    uint8_t base[VMM_KEY_BYTES] = {9};
    assert_true(vmm_public_key_valid(base));
}

static void an_ssh_key_loses_its_comment(void **state)
{
    (void)state;
    static const char *const texts[] = {"ssh-ed25519 " ED25519, "ssh-ed25519 " ED25519 " me@host",
                                        "ssh-ed25519 \t " ED25519 " \t two words ", "ssh-ed25519 " ED25519 " \xc3\xa9"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char key[VMM_SSH_KEY_BYTES];
        assert_null(vmm_ssh_key_parse(texts[i], key));
        assert_string_equal(key, "ssh-ed25519 " ED25519);
    }
    char key[VMM_SSH_KEY_BYTES];
    assert_null(vmm_ssh_key_parse("ecdsa-sha2-nistp256 " ECDSA " c", key));
    assert_string_equal(key, "ecdsa-sha2-nistp256 " ECDSA);
}

/* "type base64" of a blob with the type inside and one field of @field_bytes. */
static void make_key(const char *type, const char *inside, size_t field_bytes, size_t extra_bytes, char *ret_text,
                     size_t capacity)
{
    uint8_t blob[2048] = {0};
    size_t length = strlen(inside);
    blob[3] = (uint8_t)length;
    memcpy(blob + 4, inside, length);
    blob[4 + length + 2] = (uint8_t)(field_bytes / 256);
    blob[4 + length + 3] = (uint8_t)(field_bytes % 256);
    size_t used = 4 + length + 4 + field_bytes + extra_bytes;
    int head = snprintf(ret_text, capacity, "%s ", type);
    sodium_bin2base64(ret_text + head, capacity - (size_t)head, blob, used, sodium_base64_VARIANT_ORIGINAL);
}

static void every_known_ssh_type_is_taken_and_must_stand_inside(void **state)
{
    (void)state;
    static const char *const types[] = {"ssh-ed25519",
                                        "ssh-rsa",
                                        "ecdsa-sha2-nistp256",
                                        "ecdsa-sha2-nistp384",
                                        "ecdsa-sha2-nistp521",
                                        "sk-ssh-ed25519@openssh.com",
                                        "sk-ecdsa-sha2-nistp256@openssh.com"};
    size_t count = sizeof types / sizeof types[0];
    for (size_t i = 0; i < count; i++) {
        char text[4096];
        char key[VMM_SSH_KEY_BYTES];
        make_key(types[i], types[i], 32, 0, text, sizeof text);
        assert_null(vmm_ssh_key_parse(text, key));
        assert_string_equal(key, text);
        make_key(types[i], types[(i + 1) % count], 32, 0, text, sizeof text);
        assert_non_null(vmm_ssh_key_parse(text, key));
        make_key(types[i], types[i], 32, 1, text, sizeof text); /* half a field behind the last */
        assert_non_null(vmm_ssh_key_parse(text, key));
        make_key(types[i], types[i], 0, 0, text, sizeof text);
        assert_non_null(vmm_ssh_key_parse(text, key));
    }
}

static void an_ssh_key_that_just_fits_is_taken_and_one_more_is_not(void **state)
{
    (void)state;
    char text[4096];
    char key[VMM_SSH_KEY_BYTES];
    /* "ssh-rsa " and 1012 characters for 759 bytes: 1020 of 1023 */
    make_key("ssh-rsa", "ssh-rsa", 759 - 15, 0, text, sizeof text);
    assert_int_equal(strlen(text), 1020);
    assert_null(vmm_ssh_key_parse(text, key));
    make_key("ssh-rsa", "ssh-rsa", 760 - 15, 0, text, sizeof text);
    assert_non_null(vmm_ssh_key_parse(text, key));
}

static void hostile_ssh_keys_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        " ",
        "ssh-ed25519",
        "ssh-ed25519 ",
        " ssh-ed25519 " ED25519,
        ED25519,
        "ssh-dss " ED25519,
        "ssh-ed25519-cert-v01@openssh.com " ED25519,
        "ssh-rsa " ED25519,
        "command=\"/bin/sh\" ssh-ed25519 " ED25519,
        "restrict,pty ssh-ed25519 " ED25519,
        "ssh-ed25519 " ED25519 "\nssh-ed25519 " ED25519,
        "ssh-ed25519 " ED25519 "\n",
        "ssh-ed25519 " ED25519 "\r",
        "ssh-ed25519 " ED25519 " \x1b[2J",
        "ssh-ed25519\v" ED25519,
        "ssh-ed25519 " ED25519 "=",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMw",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 /////w==",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMw+CPfOJvUZ3WmT/lolTdInY3P/tl-rsB3xrLYnQZ5c",
        "ssh-ed25519 \"" ED25519 "\"",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char key[VMM_SSH_KEY_BYTES] = "untouched";
        assert_non_null(vmm_ssh_key_parse(texts[i], key));
        assert_string_equal(key, "untouched");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_key_pair_is_clamped_and_belongs_together),
        cmocka_unit_test(two_key_pairs_differ),
        cmocka_unit_test(the_key_of_the_rfc_is_read_and_printed),
        cmocka_unit_test(a_key_has_one_spelling),
        cmocka_unit_test(public_keys_of_low_order_are_refused),
        cmocka_unit_test(an_ssh_key_loses_its_comment),
        cmocka_unit_test(every_known_ssh_type_is_taken_and_must_stand_inside),
        cmocka_unit_test(an_ssh_key_that_just_fits_is_taken_and_one_more_is_not),
        cmocka_unit_test(hostile_ssh_keys_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
