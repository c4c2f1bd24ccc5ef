/* A vfkit without a guest, for systems that have none: it takes the arguments that vfkit's documentation has and no others, opens
 * what they name as it would, answers its REST interface, and does what the kernel's command line says:
 *
 *     fake=WORD     what becomes of it, once the file named by go= exists
 *     relay=FOLDER  datagrams that come to FOLDER/LEASE.sock become frames of the guest, and the guest's become datagrams to whom
 *                   sent the first; so a test is the guest
 *
 * A test binary is one when it is started by this name. */
#ifndef TESTS_VMM_FAKE_VFKIT_H
#define TESTS_VMM_FAKE_VFKIT_H

#include <stdbool.h>

/** fake_vfkit_is_meant() - Whether the program was started by that name. Thread: any */
bool fake_vfkit_is_meant(const char *program);

/** fake_vfkit_main() - Be the stand-in; does not return but with an exit code. Thread: main */
int fake_vfkit_main(int argc, char **argv);

#endif
