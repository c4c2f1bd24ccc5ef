#include "api/command/run_exit.h"

#include <string.h>

#include "tests/cmocka.h"

static void every_end_of_a_lease_has_its_code(void **state)
{
    (void)state;
    static const struct {
        const char *reason;
        int code;
    } table[] = {
        {"released", 0},       {"guest_shutdown", 0},    {"policy_violation", 3}, {"lease_expired", 4},
        {"tunnel_timeout", 5}, {"tunnel_lost", 5},       {"guest_crash", 6},      {"vmm_crash", 7},
        {"filter_failure", 7}, {"start_failed", 7},      {"start_timeout", 7},    {"image_rejected", 7},
        {"heartbeat_lost", 8}, {"provider_shutdown", 8}, {"recovery_failed", 8},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        enum lease_reason reason;
        assert_true(lease_reason_parse(table[i].reason, &reason));
        assert_int_equal(run_exit_code(reason), table[i].code);
    }
    /* None was left out. */
    assert_int_equal(sizeof table / sizeof table[0], LEASE_REASON_COUNT - 1);
}

static void a_refusal_says_whether_to_try_again(void **state)
{
    (void)state;
    static const unsigned later[] = {409, 429, 500, 503, 507};
    static const unsigned never[] = {400, 401, 403, 413, 415, 422};
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++)
        assert_int_equal(run_exit_refusal(later[i]), RUN_TRY_AGAIN);
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        assert_int_equal(run_exit_refusal(never[i]), RUN_REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_end_of_a_lease_has_its_code),
        cmocka_unit_test(a_refusal_says_whether_to_try_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
