/* Other programs of this machine, asked what they are. */
#ifndef API_COMMAND_PROGRAM_H
#define API_COMMAND_PROGRAM_H

enum program_limits {
    PROGRAM_OPTIONS_MAX = 3,
    PROGRAM_LINE_BYTES = 160,
};

/**
 * program_says() - The first line of what a program prints before it ends
 * @options:  up to PROGRAM_OPTIONS_MAX, and NULL
 * @ret_line: cut where it is longer
 * Return:    0; -EIO when it ran and failed, else why it could not be started
 * Thread:    the only one of its process
 */
int program_says(const char *program, const char *const *options, char ret_line[static PROGRAM_LINE_BYTES]);

#endif
