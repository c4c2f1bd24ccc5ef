/* A hypervisor without a machine: speaks QMP and does what the kernel command line tells it. A test binary becomes one
 * when it is called by the name "fake_qemu". */
#ifndef TESTS_VMM_FAKE_QEMU_H
#define TESTS_VMM_FAKE_QEMU_H

#include <stdbool.h>

enum {
    FAKE_QEMU_KINDS = 20, /* of malformed frames with flood-then-rogue: more than a machine's inbox holds */
};

/**
 * fake_qemu_is_meant() - Whether a test binary shall be the fake hypervisor
 * @program: argv[0]
 * Thread:   main
 */
bool fake_qemu_is_meant(const char *program);

/**
 * fake_qemu_main() - Be the hypervisor
 * The command line `fake=WORD go=PATH` chooses what happens once the file PATH exists; see fake_qemu.c.
 * Return: exit code
 * Thread: main
 */
int fake_qemu_main(int argc, char **argv);

#endif
