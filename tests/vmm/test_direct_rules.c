/* The snapshot is the firewall: each line, and their order, is a promise. */
#include "vmm/direct_rules.h"

#include <errno.h>
#include <string.h>

#include "tests/cmocka.h"

static const char snapshot[] =
    "table ip omerta {\n"
    "\tset own {\n\t\ttype ipv4_addr\n\t\telements = { 127.0.0.1, 192.168.77.1, 198.51.100.1 }\n\t}\n"
    "\tset never {\n\t\ttype ipv4_addr\n\t\tflags interval\n"
    "\t\telements = { 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 192.0.0.0/24, 224.0.0.0/3 }\n\t}\n"
    "\tset private {\n\t\ttype ipv4_addr\n\t\tflags interval\n"
    "\t\telements = { 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16, 198.18.0.0/15 }\n\t}\n"
    "\tchain forward {\n"
    "\t\ttype filter hook forward priority 0; policy drop;\n"
    "\t\tiif \"vm0\" ip saddr != 192.168.64.2 drop\n"
    "\t\tiif \"vm0\" ip daddr @own drop\n"
    "\t\tiif \"vm0\" ip daddr @never drop\n"
    "\t\tct state invalid drop\n"
    "\t\tct state established accept\n"
    "\t\tiif != \"vm0\" drop\n"
    "\t\toif != \"up0\" drop\n"
    "\t\tip daddr 203.0.113.5 udp dport 51900 accept\n"
    "\t\tip daddr @private drop\n"
    "\t\taccept\n"
    "\t}\n"
    "\tchain input {\n\t\ttype filter hook input priority 0; policy drop;\n\t}\n"
    "\tchain output {\n\t\ttype filter hook output priority 0; policy drop;\n\t}\n"
    "\tchain postrouting {\n\t\ttype nat hook postrouting priority 100; policy accept;\n"
    "\t\toif \"up0\" ip saddr 192.168.64.2 masquerade\n\t}\n"
    "}\n";

static struct direct_rules sound(void)
{
    return (struct direct_rules){.consumer = {.ip = UINT32_C(0xCB007105), .port = 51900},
                                 .own_count = 3,
                                 .own = {UINT32_C(0x7F000001), UINT32_C(0xC0A84D01), UINT32_C(0xC6336401)}};
}

static void the_rules_are_the_snapshot(void **state)
{
    (void)state;
    const struct direct_rules rules = sound();
    char text[DIRECT_RULES_BYTES];
    assert_int_equal(direct_rules_print(&rules, text, NULL), sizeof snapshot - 1);
    assert_string_equal(text, snapshot);
}

static void private_ranges_open_and_nothing_else_does(void **state)
{
    (void)state;
    struct direct_rules rules = sound();
    char text[DIRECT_RULES_BYTES];
    rules.allow_private = true;
    assert_true(direct_rules_print(&rules, text, NULL) > 0);
    assert_null(strstr(text, "private"));
    assert_non_null(strstr(text, "ip daddr @own drop"));
    assert_non_null(strstr(text, "ip daddr @never drop"));
    const char *drop = strstr(text, "@never drop");
    const char *established = strstr(text, "established accept");
    assert_true(drop < established);
}

static void a_set_without_the_host_s_addresses_is_refused(void **state)
{
    (void)state;
    struct direct_rules rules = sound();
    char text[DIRECT_RULES_BYTES] = "untouched";
    char elements[DIRECT_ELEMENTS_BYTES];
    struct error err = {0};
    rules.own_count = 0;
    assert_int_equal(direct_rules_print(&rules, text, &err), -EINVAL);
    assert_int_equal(direct_rules_print_own(rules.own, 0, elements, &err), -EINVAL);
    rules.own_count = 1; /* 127.0.0.1 alone */
    assert_int_equal(direct_rules_print(&rules, text, &err), -EINVAL);
    assert_int_equal(direct_rules_print_own(rules.own, 1, elements, &err), -EINVAL);
    rules.own_count = DIRECT_OWN_MAX + 1;
    assert_int_equal(direct_rules_print(&rules, text, &err), -EINVAL);
    assert_string_equal(text, "untouched");
}

static void rules_without_a_consumer_are_refused(void **state)
{
    (void)state;
    struct direct_rules rules = sound();
    char text[DIRECT_RULES_BYTES];
    rules.consumer.port = 0;
    assert_int_equal(direct_rules_print(&rules, text, NULL), -EINVAL);
    rules = sound();
    rules.consumer.ip = 0;
    assert_int_equal(direct_rules_print(&rules, text, NULL), -EINVAL);
}

static void as_many_of_the_longest_addresses_as_there_can_be_fit(void **state)
{
    (void)state;
    struct direct_rules rules = sound();
    char text[DIRECT_RULES_BYTES];
    char elements[DIRECT_ELEMENTS_BYTES];
    rules.own_count = DIRECT_OWN_MAX;
    for (uint32_t at = 0; at < DIRECT_OWN_MAX; at++)
        rules.own[at] = UINT32_C(0xDEDEDE64) + at % 100;
    rules.own[DIRECT_OWN_MAX - 1] = UINT32_C(0xDEDEDEFE);
    assert_true(direct_rules_print(&rules, text, NULL) > 0);
    assert_non_null(strstr(text, "222.222.222.254 }"));
    assert_true(direct_rules_print_own(rules.own, rules.own_count, elements, NULL) > 0);
    assert_non_null(strstr(elements, "222.222.222.254 }"));
}

static void the_set_is_replaced_in_one_transaction(void **state)
{
    (void)state;
    const struct direct_rules rules = sound();
    char elements[DIRECT_ELEMENTS_BYTES];
    assert_true(direct_rules_print_own(rules.own, rules.own_count, elements, NULL) > 0);
    assert_string_equal(elements, "flush set ip omerta own; add element ip omerta own "
                                  "{ 127.0.0.1, 192.168.77.1, 198.51.100.1 }");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rules_are_the_snapshot),
        cmocka_unit_test(private_ranges_open_and_nothing_else_does),
        cmocka_unit_test(a_set_without_the_host_s_addresses_is_refused),
        cmocka_unit_test(rules_without_a_consumer_are_refused),
        cmocka_unit_test(as_many_of_the_longest_addresses_as_there_can_be_fit),
        cmocka_unit_test(the_set_is_replaced_in_one_transaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
