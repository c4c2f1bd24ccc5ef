#include "tests/vmm/seed_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cmocka.h"

struct vmm_spec *seed_make_spec(void)
{
    struct vmm_spec *spec = calloc(1, sizeof *spec);
    assert_non_null(spec);
    snprintf(spec->id.text, sizeof spec->id.text, "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b");
    snprintf(spec->ssh_user, sizeof spec->ssh_user, "root");
    snprintf(spec->ssh_keys[0], sizeof spec->ssh_keys[0], SEED_SSH_KEY);
    spec->ssh_key_count = 1;
    spec->guest_mac = (struct nat_mac){{0x52, 0x54, 0x00, 0xab, 0xcd, 0xef}};
    memset(spec->tunnel.private_key, 0x41, VMM_KEY_BYTES);
    memset(spec->tunnel.preshared_key, 0x42, VMM_KEY_BYTES);
    spec->tunnel.consumer_public_key[0] = 9;
    spec->tunnel.consumer = (struct nat_endpoint){.ip = UINT32_C(0xCB007107), .port = 51900};
    spec->tunnel.consumer_tunnel_ip = UINT32_C(0x0A4D0001);
    spec->tunnel.vm_tunnel_ip = UINT32_C(0x0A4D0002);
    return spec;
}

void seed_make(const struct vmm_spec *spec, struct seed *ret_seed)
{
    struct error err = {0};
    assert_int_equal(seed_documents(spec, ret_seed, &err), 0);
}

json_t *seed_tree_of(const struct seed_document *document)
{
    assert_int_equal(strlen(document->text), document->length);
    assert_int_equal(document->text[document->length - 1], '\n');
    const char *text = document->text;
    if (strncmp(text, "#cloud-config\n", 14) == 0)
        text += 14;
    json_t *tree = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(tree);
    return tree;
}

void seed_assert_tree(const struct seed_document *document, const char *expected_text)
{
    json_t *tree = seed_tree_of(document);
    json_t *expected = json_loads(expected_text, 0, NULL);
    assert_non_null(expected);
    if (!json_equal(tree, expected))
        fail_msg("got\n%s\nexpected\n%s", document->text, expected_text);
    json_decref(tree);
    json_decref(expected);
}
