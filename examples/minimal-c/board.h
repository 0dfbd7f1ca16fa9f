/* The board: QEMU's virt, a console, and two services of the host by semihosting. What any kernel has; nothing of fentry. */

#ifndef BOARD_H
#define BOARD_H

#include <stddef.h>
#include <stdint.h>

/* Where RAM is, and how far above it is writable (see start.S). */
#define RAM UINT64_C(0x40000000)
#define WRITABLE UINT64_C(0x40000000)

void print_text(const char *text, size_t length);
void print(const char *text);
void print_number(uint64_t number);

/* Ends the boot with this status, 0 for success. */
__attribute__((noreturn)) void leave(uint64_t status);

/* The kernel's command line, and whether a text is in it. */
const char *command_line(void);
int command_line_has(const char *text);

#endif
