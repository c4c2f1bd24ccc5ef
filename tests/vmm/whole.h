/* One world of vmm_fixture.h for each test of a file: WHOLE() makes and ends it. */
#ifndef TESTS_VMM_WHOLE_H
#define TESTS_VMM_WHOLE_H

#include "tests/cmocka.h"
#include "tests/vmm/fake_qemu.h"
#include "tests/vmm/vmm_fixture.h"

static const char *program;
static struct vmm_fixture world;

static inline int set_up(void **state)
{
    (void)state;
    fixture_init(&world, program);
    return 0;
}

/* Sees that nothing is left of it. */
static inline int tear_down(void **state)
{
    (void)state;
    fixture_done(&world);
    return 0;
}

#define WHOLE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

#endif
