/* Programs that a test starts from its own file, without an environment. */
#ifndef TESTS_COVERAGE_H
#define TESTS_COVERAGE_H

#include <stdlib.h>

#ifdef OMERTAD_COVERAGE
void __llvm_profile_set_filename(const char *name);
#endif

/** coverage_leave() - In a build for coverage: write no profile, whose place only the environment tells, and leave none in ours. */
static inline void coverage_leave(void)
{
#ifdef OMERTAD_COVERAGE
    __llvm_profile_set_filename("/dev/null");
    unsetenv("__LLVM_PROFILE_RT_INIT_ONCE"); /* the runtime's own */
#endif
}

#endif
