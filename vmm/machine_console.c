#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/scope.h"
#include "vmm/machine.h"

static void read_lines(struct machine *machine, const uint8_t *bytes, size_t length, bool *ret_ready)
{
    const char *ready_line = machine->image.image.ready_line;
    for (size_t taken; length > 0; bytes += taken, length -= taken) {
        struct guest_packet packet;
        taken = console_line_feed(&machine->line, bytes, length);
        if (!machine->line.ended)
            continue;
        if (guest_report_parse(machine->line.text, &packet))
            guest_reports_count(&machine->guest_reports, &packet);
        else if (ready_line[0] != '\0' && strstr(machine->line.text, ready_line) != NULL)
            *ret_ready = true;
    }
}

size_t machine_read_console(struct machine *machine, bool *ret_ready)
{
    size_t total = 0;
    for (int reads = 0; reads < MACHINE_CONSOLE_READS_MAX && machine->console_fd >= 0; reads++) {
        uint8_t bytes[MACHINE_CONSOLE_READ_BYTES];
        ssize_t length = read(machine->console_fd, bytes, sizeof bytes);
        if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            break;
        if (length <= 0) {
            fd_close(&machine->console_fd);
            break;
        }
        console_append(&machine->console, bytes, (size_t)length);
        read_lines(machine, bytes, (size_t)length, ret_ready);
        total += (size_t)length;
    }
    return total;
}
