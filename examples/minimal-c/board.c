#include "board.h"

/* The data register of the board's PL011, which QEMU needs no set-up for. */
static volatile uint32_t *const uart = (volatile uint32_t *)0x09000000;

void print_text(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        *uart = (unsigned char)text[i];
}

void print(const char *text)
{
    size_t length = 0;
    while (text[length])
        length++;
    print_text(text, length);
}

void print_number(uint64_t number)
{
    char digits[20];
    size_t first = sizeof digits;
    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    print_text(digits + first, sizeof digits - first);
}

/* Arm's semihosting: a call to the debugger, or to QEMU. */
static long semihosting(long operation, const void *arguments)
{
    register long x0 __asm__("x0") = operation;
    register const void *x1 __asm__("x1") = arguments;
    __asm__ volatile("hlt #0xf000" : "+r"(x0) : "r"(x1) : "memory");
    return x0;
}

void leave(uint64_t status)
{
    const uint64_t arguments[2] = { 0x20026, status };
    for (;;)
        semihosting(0x18, arguments);
}

const char *command_line(void)
{
    static char line[1024];
    const uint64_t arguments[2] = { (uint64_t)line, sizeof line };
    return semihosting(0x15, arguments) == 0 ? line : "";
}

int command_line_has(const char *text)
{
    for (const char *line = command_line(); *line; line++) {
        size_t i = 0;
        while (text[i] && line[i] == text[i])
            i++;
        if (!text[i])
            return 1;
    }
    return 0;
}

/* From start.S. */
void unexpected_exception(uint64_t esr, uint64_t elr, uint64_t far);

void unexpected_exception(uint64_t esr, uint64_t elr, uint64_t far)
{
    print("exception: ESR ");
    print_number(esr);
    print(" ELR ");
    print_number(elr);
    print(" FAR ");
    print_number(far);
    print("\n");
    leave(1);
}
