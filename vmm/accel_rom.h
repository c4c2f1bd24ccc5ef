/* The trial guest of accel.c: through protected mode into long mode, an exception there and back, then one value to
 * QEMU's isa-debug-exit. */
#ifndef VMM_ACCEL_ROM_H
#define VMM_ACCEL_ROM_H

#include <stddef.h>
#include <stdint.h>

enum accel_rom_limits {
    ACCEL_ROM_BYTES = 512,      /* the end of a BIOS image; what comes before is filled with HLT */
    ACCEL_ROM_EXIT_PORT = 0xf4, /* where the ROM writes */
    ACCEL_ROM_EXIT_VALUE = 0x2a,
    ACCEL_ROM_EXIT_CODE = ACCEL_ROM_EXIT_VALUE * 2 + 1, /* what isa-debug-exit makes of it */
};

/** accel_rom - The assembled accel_rom.S */
extern const uint8_t accel_rom[ACCEL_ROM_BYTES];

#endif
