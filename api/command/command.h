/* The subcommands. Each reads its own options and returns an exit code. */
#ifndef API_COMMAND_COMMAND_H
#define API_COMMAND_COMMAND_H

enum command_exit {
    COMMAND_OK = 0,
    COMMAND_FAILED = 1,
    COMMAND_USAGE = 2, /* the command line or the configuration */
};

/** command_serve() - Run the daemon until SIGTERM or SIGINT. Thread: main */
int command_serve(int argc, char **argv);

/** command_doctor() - Check the machine and the configuration. Thread: main */
int command_doctor(int argc, char **argv);

/** command_image() - List, show and verify guest images. Thread: main */
int command_image(int argc, char **argv);

/** command_run() - A lease as a foreground process. Return: as run_exit.h has it. Thread: main */
int command_run(int argc, char **argv);

/** command_nat() - Run one NAT by itself. Thread: main */
int command_nat(int argc, char **argv);

/** command_token() - List, add and revoke tokens. Thread: main */
int command_token(int argc, char **argv);

/** command_launch() - Become pasta, then a hypervisor; started by vmm alone. Thread: main */
int command_launch(int argc, char **argv);

#endif
