/* The tests of test_exit_watch.c with the twin for systems that have kqueue(2), which this file compiles into its program in place
 * of the build's own. On Linux a stand-in of a queue is below tests/vmm/kqueue, where the Makefile lets it be found. */
#ifndef OMERTAD_PORTABLE
#define OMERTAD_PORTABLE 1
#endif
#include "vmm/exit_watch.c"

#ifndef EV_SET
#error "no kqueue(2), and no stand-in for it"
#endif

#include "tests/vmm/test_exit_watch.c"
