/* How `omertad run` ends: the exit code for each end of a lease, so that a scheduler can tell work from trouble. */
#ifndef API_COMMAND_RUN_EXIT_H
#define API_COMMAND_RUN_EXIT_H

#include "store/lease.h"

enum run_exit {
    RUN_DONE = 0,       /* the guest shut down, or the lease was released */
    RUN_FAILED = 1,     /* this command itself failed */
    RUN_USAGE = 2,      /* the command line, the configuration or the file */
    RUN_VIOLATION = 3,  /* the guest broke the promise; as `omertad nat` */
    RUN_EXPIRED = 4,    /* its time was up */
    RUN_TUNNEL = 5,     /* the consumer did not come, or went */
    RUN_GUEST = 6,      /* the guest crashed */
    RUN_PROVIDER = 7,   /* machine, filter or image of this provider failed */
    RUN_NODE = 8,       /* the daemon ended, or was away for too long */
    RUN_REFUSED = 9,    /* the daemon does not take this request, now or later */
    RUN_TRY_AGAIN = 10, /* there is no room now; the same request may succeed later or elsewhere */
    RUN_NO_DAEMON = 11, /* none listens */
};

/** run_exit_code() - The exit code for a lease's end. Thread: any */
enum run_exit run_exit_code(enum lease_reason reason);

/** run_exit_refusal() - The exit code for a refusal of the request. @status: HTTP's. Thread: any */
enum run_exit run_exit_refusal(unsigned status);

#endif
