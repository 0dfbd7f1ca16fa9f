/*
 * What any kernel on QEMU's virt board has: page tables, a stack, and the way to main().
 *
 * RAM is mapped twice, as blocks of 1 GiB: where it is, read-only and executable, for code and constants; and 1 GiB above,
 * writable and never executable, for data, and as the writable alias of the code. Nothing is both.
 */

#define VALID           (1 | 1 << 10)       /* a block that was accessed */
#define RAM             (VALID | 1 << 2 | 3 << 8)   /* attribute 1 of MAIR_EL1, Inner Shareable */
#define READ_ONLY       (1 << 7)
#define GUARDED         (1 << 50)           /* branches go to landing pads only */
#define NEVER_EXECUTE   (3 << 53)
#define GIB             0x40000000

#ifdef __ARM_FEATURE_BTI_DEFAULT
#define CODE            (RAM | READ_ONLY | GUARDED)
#else
#define CODE            (RAM | READ_ONLY)
#endif

    .section .rodata.page_table, "a"
    .balign 4096
page_table:
    .quad   VALID | NEVER_EXECUTE           /* devices */
    .quad   GIB | CODE                      /* RAM where it is */
    .quad   GIB | RAM | NEVER_EXECUTE       /* the same RAM again */
    .fill   509, 8, 0

    .section .bss.stack, "aw", %nobits
    .balign 16
    .skip   16384
stack_end:

    .section .text.start, "ax"
    .global start
start:
    adrp    x0, page_table
    msr     ttbr0_el1, x0
    ldr     x0, =0xff00                     /* attribute 0: device; 1: normal memory, write-back */
    msr     mair_el1, x0
    ldr     x0, =(25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 1 << 32) /* 39 bits, 4 KiB, tables cached, no TTBR1 */
    msr     tcr_el1, x0
    mov     x0, #3 << 20                    /* floating-point registers are no trap */
    msr     cpacr_el1, x0
    isb
    tlbi    vmalle1
    dsb     nsh
    mrs     x0, sctlr_el1
    ldr     x1, =(1 | 1 << 2 | 1 << 12)     /* MMU, data and instruction caches */
    orr     x0, x0, x1
#ifdef __ARM_FEATURE_PAC_DEFAULT
    orr     x0, x0, #1 << 31                /* return addresses are signed, with whatever is in the key */
#endif
    msr     sctlr_el1, x0
    isb
    ldr     x0, =vectors
    msr     vbar_el1, x0
    ldr     x0, =stack_end
    mov     sp, x0
    ldr     x0, =bss_begin
    ldr     x1, =bss_end
1:  cmp     x0, x1
    b.hs    2f
    stp     xzr, xzr, [x0], #16
    b       1b
2:  mov     x29, xzr
    mov     x30, xzr
    bl      main
    b       .

    /* Every exception ends the kernel. */
    .section .text.vectors, "ax"
    .balign 2048
vectors:
    .rept   16
    .balign 128
    mrs     x0, esr_el1
    mrs     x1, elr_el1
    mrs     x2, far_el1
    b       unexpected_exception
    .endr
