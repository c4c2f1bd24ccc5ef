/* `omertad direct-launch`: not for people. vmm starts it to put a direct machine into its namespace. */
#include "api/command/command.h"
#include "vmm/vmm.h"

int command_launch(int argc, char **argv)
{
    return launcher_run(argc, argv);
}
