#include "vmm/news_vfkit.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "vmm/lifecycle.h"
#include "vmm/machine_files.h"
#include "vmm/news.h"

enum { HTTP_OK = 200, HTTP_GOOD_END = 300 };

void news_vfkit_look(struct vmm *vmm, struct machine *machine, uint64_t now_ms)
{
    char path[MACHINE_FILE_PATH_BYTES];
    if (machine->child.pid == 0)
        return;
    machine->look_ms = now_ms + NEWS_VFKIT_LOOK_MS;
    news_console(vmm, machine);
    bool begun = machine->child.start_fd < 0; /* else it is not vfkit yet */
    if (!begun || machine->state >= MACHINE_STOPPING || now_ms < machine->ask_ms ||
        rest_is_pending(&machine->rest, now_ms))
        return;
    machine->ask_ms = now_ms + (machine->runs ? NEWS_VFKIT_ASK_MS : NEWS_VFKIT_LOOK_MS);
    machine_file_path(&vmm->places, &machine->spec->id, MACHINE_FILE_REST, path);
    (void)rest_send(&machine->rest, path, REST_GET_STATE, now_ms, NULL); /* it may not listen yet */
}

static void end_stopped(struct vmm *vmm, struct machine *machine, const char *state)
{
    char detail[VMM_DETAIL_BYTES];
    char word[4 * REST_STATE_BYTES];
    log_escape(state, strlen(state), word, sizeof word);
    snprintf(detail, sizeof detail, "the virtual CPUs stopped: %s", word);
    lifecycle_end(vmm, machine, machine->told_running ? VMM_END_HYPERVISOR_CRASH : VMM_END_START_FAILED,
                  MACHINE_STEP_KILL, detail);
}

/* Before it runs for the first time it is "Stopped", "Starting", or has not got so far that it would answer. */
static void on_state(struct vmm *vmm, struct machine *machine, const char *state)
{
    bool error = strcmp(state, "Error") == 0;
    if (machine->state >= MACHINE_STOPPING)
        return;
    if (strcmp(state, "Running") == 0) {
        bool news = !machine->runs;
        machine->runs = true;
        if (news)
            lifecycle_ready(vmm, machine);
    } else if (machine->runs && strcmp(state, "Stopped") == 0) {
        lifecycle_end(vmm, machine, VMM_END_GUEST_SHUTDOWN, MACHINE_STEP_QUIT, "the guest shut down");
    } else if (error || (machine->runs && strcmp(state, "Stopping") != 0)) {
        end_stopped(vmm, machine, state);
    }
}

void news_vfkit_hear(struct vmm *vmm, struct machine *machine)
{
    struct rest_answer answer;
    /* What makes no sense is asked again; who never makes sense does not start in time. */
    if (rest_receive(&machine->rest, &answer, NULL) <= 0)
        return;
    bool good = answer.status >= HTTP_OK && answer.status < HTTP_GOOD_END;
    if (answer.request == REST_GET_STATE && good)
        on_state(vmm, machine, answer.state);
    else if (answer.request != REST_GET_STATE && !good && machine->state == MACHINE_STOPPING)
        machine->step_ms = clock_monotonic_ms(); /* it will not: the next step need not wait */
}
