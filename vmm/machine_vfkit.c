/* A machine whose hypervisor is vfkit, on macOS: disks, kernel and console are names in folders that are this user's alone, the
 * cable is a descriptor. */
#include <string.h>

#include "base/clock.h"
#include "vmm/command.h"
#include "vmm/command_vfkit.h"
#include "vmm/machine.h"
#include "vmm/machine_files.h"

/* Room for every name that a command has. */
struct names {
    char rest[MACHINE_FILE_PATH_BYTES];
    char kernel[MACHINE_FILE_PATH_BYTES];
    char initrd[MACHINE_FILE_PATH_BYTES];
    char seed[MACHINE_FILE_PATH_BYTES];
    char console[MACHINE_FILE_PATH_BYTES];
    char root[MACHINE_DISK_PATH_BYTES];
    char disk[MACHINE_DISK_PATH_BYTES];
};

static int build_command(const struct machine *machine, const struct machine_places *places,
                         struct command *ret_command, struct error *err)
{
    const struct vmm_spec *spec = machine->spec;
    struct names names;
    const struct command_vfkit vfkit = {
        .program = places->program,
        .vcpus = spec->vcpus,
        .memory_mib = spec->memory_mib,
        .control_socket = machine_file_path(places, &spec->id, MACHINE_FILE_REST, names.rest),
        .kernel = machine_file_path(places, &spec->id, MACHINE_FILE_KERNEL, names.kernel),
        .initrd = machine_file_path(places, &spec->id, MACHINE_FILE_INITRD, names.initrd),
        .kernel_command_line = machine->image.image.command_line,
        .root = machine->image.disk_fd < 0 ? NULL : machine_disk_path(machine, places, "overlay", names.root),
        .seed = machine_file_path(places, &spec->id, MACHINE_FILE_SEED, names.seed),
        .disk = spec->disk_mib == 0 ? NULL : machine_disk_path(machine, places, "disk", names.disk),
        .console = machine_file_path(places, &spec->id, MACHINE_FILE_LOG, names.console),
        .guest_mac = spec->guest_mac,
    };
    return command_vfkit_build(&vfkit, ret_command, err);
}

int machine_vfkit_spawn(struct machine *machine, const struct machine_places *places, const struct vmm_accel *accel,
                        struct error *err)
{
    (void)accel; /* there is but one */
    struct command command;
    const struct child_fd net = {machine->attachment.guest_fd, COMMAND_FD_NET};
    int rc = build_command(machine, places, &command, err);
    if (rc == 0)
        rc = child_prepare(places->program, command.argv, &net, 1, CHILD_DIES_WITH_PARENT, &machine->child, err);
    if (rc != 0)
        return rc;
    machine->console_name = MACHINE_FILE_LOG;
    machine->runs = false;
    machine->ask_ms = 0;
    machine->look_ms = clock_monotonic_ms();
    return 0;
}

bool machine_vfkit_answers(const struct machine *machine)
{
    return machine->runs;
}

int machine_vfkit_ask_to_end(struct machine *machine, const struct machine_places *places, enum machine_step step)
{
    char path[MACHINE_FILE_PATH_BYTES];
    machine_file_path(places, &machine->spec->id, MACHINE_FILE_REST, path);
    return rest_send(&machine->rest, path, step == MACHINE_STEP_POWERDOWN ? REST_STOP : REST_HARD_STOP,
                     clock_monotonic_ms(), NULL);
}
