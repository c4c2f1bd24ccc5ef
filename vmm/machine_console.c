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

/* Return: 0 when there is nothing; at the end the descriptor is closed. */
static size_t read_descriptor(struct machine *machine, uint8_t *ret_bytes, size_t capacity)
{
    if (machine->console_fd < 0)
        return 0;
    ssize_t length = read(machine->console_fd, ret_bytes, capacity);
    if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    if (length <= 0)
        fd_close(&machine->console_fd);
    return length <= 0 ? 0 : (size_t)length;
}

size_t machine_read_console(struct machine *machine, bool *ret_ready)
{
    size_t total = 0;
    for (int reads = 0; reads < MACHINE_CONSOLE_READS_MAX; reads++) {
        uint8_t bytes[MACHINE_CONSOLE_READ_BYTES];
        size_t length = machine->console_name == NULL ? read_descriptor(machine, bytes, sizeof bytes)
                                                      : console_file_read(&machine->console_file, machine->folder_fd,
                                                                          machine->console_name, bytes, sizeof bytes);
        if (length == 0)
            break;
        console_append(&machine->console, bytes, length);
        read_lines(machine, bytes, length, ret_ready);
        total += length;
    }
    return total;
}
