/*
 * fentry for kernels in C: traces, counts and intercepts a running arm64 kernel's own functions.
 *
 * Made by cargo xtask header of fentry's src/capi. A small kernel that uses it is examples/minimal-c.
 *
 * The library. cargo fentry staticlib --target aarch64-unknown-none-softfloat --out DIR writes libfentry.a, this header and
 * the linker fragment fentry.ld. The target's use of floating-point registers must equal the kernel's, or fentry_init() says
 * FENTRY_ERROR_FLOAT_ABI:
 *
 *     aarch64-unknown-none-softfloat    the kernel is compiled with -mgeneral-regs-only
 *     aarch64-unknown-none              the kernel uses floating-point and SIMD registers, and has let itself (CPACR_EL1)
 *
 * With --bti the library has landing pads and signs return addresses, as a kernel of -mbranch-protection=standard needs.
 *
 * The kernel's own flags, for GCC and Clang:
 *
 *     -fpatchable-function-entry=2      or =4,2: what makes functions traceable
 *     -mgeneral-regs-only               or not; see above
 *     -mno-outline-atomics              GCC: else atomics are calls of libgcc's functions, which a kernel does not have
 *     -fno-omit-frame-pointer           for backtraces
 *     -falign-functions=8               with =4,2; from GCC 14 on -fmin-function-alignment=8, since older ones ignore the first
 *                                       at -Os and for cold functions
 *     -ffixed-x18                       where the kernel reserves x18: and --fixed-x18 for the library
 *
 * Link with -T fentry.ld before the kernel's own script, and with libfentry.a behind the kernel's objects. The kernel
 * needs no allocator. memcpy, memset, memmove and memcmp are the kernel's own where it has them: compile them with
 * FENTRY_NOTRACE, or what the engine copies while it works is traced as well. The library has them where it has not.
 *
 * Stack: fentry_register() and its like take 2 KiB at most, fentry_init() 4 KiB, and the platform's own functions on top.
 *
 * Names for filters: link with --defsym=__fentry_symbols_room=64K (or so), before -T fentry.ld, and fill the room in by
 * cargo fentry symbols --in-place kernel.elf.
 *
 * Each function's comment says what it does, its errors (FENTRY_ERROR_ before each), and under "Safety" what its caller
 * promises. All may be called with interrupts masked or not; neither from a callback nor from an interrupt handler, unless they
 * say that they wait for nothing. What is misused in a way that can be seen is an error, and nothing is done.
 */


#ifndef FENTRY_H
#define FENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __GNUC__
#define FENTRY_ALIGNED(bytes) __attribute__((aligned(bytes)))
#else
#define FENTRY_ALIGNED(bytes) _Alignas(bytes)
#endif

/* Before a function that is never traced: it is compiled without a callsite. */
#define FENTRY_NOTRACE __attribute__((patchable_function_entry(0)))

/* How the kernel that includes this is compiled. (Clang 14 defines __ARM_FP also under -mgeneral-regs-only.) */
#define FENTRY_ABI (FENTRY_ABI_VERSION | FENTRY_ABI_FLOAT_IF_USED | FENTRY_ABI_BTI_IF_USED)
#ifdef __ARM_NEON
#define FENTRY_ABI_FLOAT_IF_USED FENTRY_ABI_FLOAT
#else
#define FENTRY_ABI_FLOAT_IF_USED 0
#endif
#ifdef __ARM_FEATURE_BTI_DEFAULT
#define FENTRY_ABI_BTI_IF_USED FENTRY_ABI_BTI
#else
#define FENTRY_ABI_BTI_IF_USED 0
#endif

/* The first members of these structs, for whoever initialises one: { FENTRY_OPS_INIT, .callback = watch } */
#define FENTRY_PLATFORM_INIT .size = sizeof(struct fentry_platform), .abi = FENTRY_ABI
#define FENTRY_OPS_INIT .size = sizeof(struct fentry_ops)
#define FENTRY_RECORDING_INIT .size = sizeof(struct fentry_recording)

/* The rules of a filter; see struct fentry_rule. */
#define FENTRY_RULE(rule_text) { (rule_text), NULL, 0 }
#define FENTRY_RULE_FUNCTION(name) { NULL, (const void *)(uintptr_t)(name), 0 }
#define FENTRY_RULE_NOT_FUNCTION(name) { NULL, (const void *)(uintptr_t)(name), 1 }

/* What a platform leaves out; see struct fentry_left_out. */
#define FENTRY_LEAVE_OUT(name_or_glob) { (name_or_glob), NULL, NULL }
#define FENTRY_LEAVE_OUT_RANGE(start, stop) { NULL, (const void *)(uintptr_t)(start), (const void *)(uintptr_t)(stop) }

/* The bytes of a shadow stack for so many hooked calls inside each other. */
#define FENTRY_SHADOW_STACK_BYTES(calls) (64 * ((calls) + 2) + 7)

struct fentry_ops;
struct fentry_regs;
struct fentry_call;
struct fentry_ring;
struct fentry_range;
struct fentry_cpu_area;
struct fentry_trace_context;


/**
 * The version of the header, in the low half of FENTRY_ABI.
 */
#define FENTRY_ABI_VERSION 1

/**
 * In FENTRY_ABI: the kernel uses floating-point and SIMD registers.
 */
#define FENTRY_ABI_FLOAT (1 << 16)

/**
 * In FENTRY_ABI: the kernel was compiled with branch targets (BTI).
 */
#define FENTRY_ABI_BTI (1 << 17)

/**
 * The most rules of one registration.
 */
#define FENTRY_MAX_RULES 32

/**
 * The most parts of a platform's leave_out.
 */
#define FENTRY_MAX_LEFT_OUT 16

/**
 * In a platform's flags: this kernel never runs on an emulator that translates text, as QEMU does without KVM. (Virtual
 * machines of a hypervisor are no emulators.) Each store of an instruction is made once then, and not twice.
 *
 * Where this is wrongly said, a callback may be called after fentry_unregister() has returned, and a call after
 * fentry_register() may be missed.
 */
#define FENTRY_PLATFORM_NEVER_EMULATED (1 << 0)

/**
 * In a platform's flags: some CPU is a Cortex-A53 before r0p3, on which cleaning a cache line may lose data (errata 819472,
 * 824069, 826319 and 827319). The engine asks the CPU that it runs on itself, so this is for machines with CPUs of several
 * kinds.
 */
#define FENTRY_PLATFORM_CLEAN_ERRATA (1 << 1)

/**
 * The words of a struct fentry_trace_context.
 */
#define FENTRY_TRACE_CONTEXT_WORDS 14

/**
 * The words of a struct fentry_interrupted.
 */
#define FENTRY_INTERRUPTED_WORDS 4

/**
 * The words of a struct fentry_cpu_area.
 */
#define FENTRY_CPU_AREA_WORDS 64

/**
 * The words of a struct fentry_ops that are the engine's own.
 */
#define FENTRY_OPS_WORDS 16

/**
 * In an ops' flags: every register is saved, not only the live ones; fentry_regs_all() has them.
 */
#define FENTRY_OPS_SAVE_REGS (1 << 0)

/**
 * In an ops' flags: the callback may change where execution goes on (pc, or fentry_regs_return_early()). A function can
 * have one such ops.
 */
#define FENTRY_OPS_IPMODIFY (1 << 1)

/**
 * In an ops' flags: the callback is called inside callbacks of its own level as well. It calls nothing that is traced, or
 * ends the recursion itself.
 */
#define FENTRY_OPS_RECURSION_SAFE (1 << 2)

/**
 * In an ops' flags: once registered it stays so.
 */
#define FENTRY_OPS_PERMANENT (1 << 3)

/**
 * The words of a struct fentry_ring.
 */
#define FENTRY_RING_WORDS 8

/**
 * The unit of a ring's memory, in bytes.
 */
#define FENTRY_RING_BLOCK_BYTES 4096

/**
 * The bytes of a profile's memory that one function takes.
 */
#define FENTRY_PROFILE_BYTES 64

/**
 * Why something was not done. Nothing has changed then, unless the function's own description says so.
 */
enum fentry_error {
    /**
     * No error.
     */
    FENTRY_ERROR_NONE = 0,
    /**
     * A pointer is NULL that may not be.
     */
    FENTRY_ERROR_NULL_POINTER,
    /**
     * A struct has another size than this library's: it was not initialised by its _INIT macro, or the header is of
     * another version.
     */
    FENTRY_ERROR_WRONG_SIZE,
    /**
     * The header that the kernel was compiled with is of another version than the library.
     */
    FENTRY_ERROR_WRONG_VERSION,
    /**
     * The kernel uses floating-point and SIMD registers and the library does not keep them, or the other way round.
     */
    FENTRY_ERROR_FLOAT_ABI,
    /**
     * The kernel was compiled with branch targets (BTI) and the library was not.
     */
    FENTRY_ERROR_BRANCH_TARGETS,
    /**
     * A function is missing that the platform, or this kind of ops, must have.
     */
    FENTRY_ERROR_INCOMPLETE,
    /**
     * A number or a flag has no such meaning, or an address is not aligned as it must be.
     */
    FENTRY_ERROR_BAD_VALUE,
    /**
     * The library has not been initialised.
     */
    FENTRY_ERROR_NOT_INITIALISED,
    /**
     * The library is already initialised.
     */
    FENTRY_ERROR_ALREADY_INITIALISED,
    /**
     * The callsite section can't be used: it is empty, or not writable, or has not been relocated.
     */
    FENTRY_ERROR_CALLSITES,
    /**
     * The symbol table that the kernel was linked with can't be used.
     */
    FENTRY_ERROR_SYMBOLS,
    /**
     * The offset of the trace context does not fit the stubs.
     */
    FENTRY_ERROR_CONTEXT_OFFSET,
    /**
     * The offset of the CPU area does not fit the stubs.
     */
    FENTRY_ERROR_CPU_AREA_OFFSET,
    /**
     * Text could not be written, or was not what the engine had left there.
     */
    FENTRY_ERROR_TEXT,
    /**
     * The ops is already registered, or the session has already begun.
     */
    FENTRY_ERROR_ALREADY_REGISTERED,
    /**
     * The ops is not registered, or no session has begun.
     */
    FENTRY_ERROR_NOT_REGISTERED,
    /**
     * As many ops are registered as an engine can hold.
     */
    FENTRY_ERROR_TOO_MANY_OPS,
    /**
     * The callsites would have more different sets of ops than an engine can hold.
     */
    FENTRY_ERROR_TOO_MANY_SETS,
    /**
     * The ops was made to stay.
     */
    FENTRY_ERROR_PERMANENT,
    /**
     * The ops calls no direct trampoline.
     */
    FENTRY_ERROR_NOT_DIRECT,
    /**
     * The platform has no CPU areas.
     */
    FENTRY_ERROR_NO_CPU_AREA,
    /**
     * A selected function has no counter among those of the ops.
     */
    FENTRY_ERROR_NO_COUNTER,
    /**
     * A selected function has an ops already that excludes this one.
     */
    FENTRY_ERROR_CONFLICT,
    /**
     * The room for generated code is full.
     */
    FENTRY_ERROR_NO_ROOM,
    /**
     * A stub can't be made in the room for it.
     */
    FENTRY_ERROR_STUB,
    /**
     * A rule asks for a name, and the kernel was linked without a symbol table.
     */
    FENTRY_ERROR_NO_NAMES,
    /**
     * A rule selects no traceable function.
     */
    FENTRY_ERROR_NOTHING_SELECTED,
    /**
     * A rule takes no traceable function away.
     */
    FENTRY_ERROR_NOTHING_TAKEN_AWAY,
    /**
     * The rules as a whole select no traceable function.
     */
    FENTRY_ERROR_EMPTY_SELECTION,
    /**
     * A rule asks for a function that returns twice to one call, whose return can't be hooked.
     */
    FENTRY_ERROR_RETURNS_TWICE,
    /**
     * A callsite can't reach what it is to call.
     */
    FENTRY_ERROR_OUT_OF_REACH,
    /**
     * No callsite calls the ops any more, but a CPU may still be inside its callback: try again.
     */
    FENTRY_ERROR_NOT_QUIESCENT,
    /**
     * The text of some callsites was written by somebody else, and left alone.
     */
    FENTRY_ERROR_QUARANTINED,
    /**
     * A rule is not UTF-8, or is a glob that can't be understood.
     */
    FENTRY_ERROR_BAD_RULE,
    /**
     * There are more than FENTRY_MAX_RULES rules.
     */
    FENTRY_ERROR_TOO_MANY_RULES,
    /**
     * A word of a session's command line can't be understood.
     */
    FENTRY_ERROR_BAD_WORD,
    /**
     * A ring, a trace context or another object was not initialised by its function.
     */
    FENTRY_ERROR_NOT_SET_UP,
    /**
     * The memory is too small, or its size is none that can be used.
     */
    FENTRY_ERROR_MEMORY_SIZE,
    /**
     * There is no function at the address, or no name for it.
     */
    FENTRY_ERROR_NOT_FOUND,
    /**
     * The kernel's function that takes a dump's bytes has failed.
     */
    FENTRY_ERROR_WRITE_FAILED,
    /**
     * There are probes in the text that is to be given back, or on both sides of it.
     */
    FENTRY_ERROR_PROBED,
};

/**
 * The system registers that kernels keep a pointer for each CPU or task in.
 */
enum fentry_base_register {
    /**
     * None.
     */
    FENTRY_BASE_REGISTER_NONE = 0,
    /**
     * TPIDR_EL1: a kernel at EL1.
     */
    FENTRY_BASE_REGISTER_TPIDR_EL1,
    /**
     * TPIDR_EL2: a kernel or hypervisor at EL2.
     */
    FENTRY_BASE_REGISTER_TPIDR_EL2,
    /**
     * TPIDR_EL0: a kernel that keeps user space's register for itself.
     */
    FENTRY_BASE_REGISTER_TPIDR_EL0,
    /**
     * TPIDRRO_EL0.
     */
    FENTRY_BASE_REGISTER_TPIDRRO_EL0,
    /**
     * SP_EL0, as Linux keeps current in it.
     */
    FENTRY_BASE_REGISTER_SP_EL0,
};

/**
 * How the kernel's functions were compiled, for a kernel without a symbol table.
 */
enum fentry_layout {
    /**
     * The symbol table says it for each function.
     */
    FENTRY_LAYOUT_FROM_SYMBOLS = 0,
    /**
     * -fpatchable-function-entry=2
     */
    FENTRY_LAYOUT_PLAIN,
    /**
     * -fpatchable-function-entry=4,2
     */
    FENTRY_LAYOUT_PREFIXED,
};

/**
 * What happens at the functions that an ops is registered for.
 */
enum fentry_kind {
    /**
     * callback is called at the entry.
     */
    FENTRY_KIND_CALLBACK = 0,
    /**
     * entry is called at the entry, if it is not NULL, and exit at the return.
     */
    FENTRY_KIND_PROBE,
    /**
     * The calls are counted; fentry_hits() reads the counter.
     */
    FENTRY_KIND_COUNTER,
};

/**
 * The levels of what is running: each can be inside a callback once.
 */
enum fentry_level {
    /**
     * An interrupt handler.
     */
    FENTRY_LEVEL_IRQ = 2,
    /**
     * What can interrupt an interrupt handler: an FIQ used as NMI, an SError, a debug exception.
     */
    FENTRY_LEVEL_NMI = 4,
};

/**
 * What a ring does when it is full.
 */
enum fentry_ring_mode {
    /**
     * The oldest records make room.
     */
    FENTRY_RING_MODE_OVERWRITE = 0,
    /**
     * What comes later is lost, and counted.
     */
    FENTRY_RING_MODE_STOP,
};

/**
 * A range of text: from start up to, and without, end.
 */
struct fentry_range {
    /**
     * The first address inside.
     */
    uint64_t start;
    /**
     * The first address after it.
     */
    uint64_t end;
};

/**
 * Where a pointer is found: a system register and an offset in bytes, a multiple of 8 below 4096. While the register holds
 * zero, nothing on that CPU is traced.
 */
struct fentry_base {
    /**
     * One of enum fentry_base_register.
     */
    uint32_t reg;
    /**
     * The offset in bytes from what the register holds.
     */
    uint32_t offset;
};

/**
 * Functions that are never traced: FENTRY_LEAVE_OUT("switch_*"), FENTRY_LEAVE_OUT_RANGE(early_start, early_stop).
 */
struct fentry_left_out {
    /**
     * The functions of this name, or, with *, ?, [ or \ in it, of the names that match; or NULL, and the range counts.
     */
    const char *names;
    /**
     * The first address of functions that are left out.
     */
    const void *start;
    /**
     * The first address behind them.
     */
    const void *stop;
};

/**
 * fentry's own words for one thread of execution: one for each CPU where the kernel never switches tasks inside kernel
 * code, one for each task where it does. fentry_trace_context_init() makes it, before the base register leads to it; it stays
 * for as long as that register can.
 */
struct FENTRY_ALIGNED(16) fentry_trace_context {
    /**
     * The engine's own.
     */
    uint64_t engine[FENTRY_TRACE_CONTEXT_WORDS];
};

/**
 * What is called with each trace context; show_context is what it was handed over with.
 */
typedef void (*fentry_show_context)(const struct fentry_trace_context *trace, void *show_context);

/**
 * One CPU's counters; all zeros at first. It must live, at one place, for as long as the CPU's base register can lead to it.
 */
struct FENTRY_ALIGNED(64) fentry_cpu_area {
    /**
     * The engine's own.
     */
    uint64_t engine[FENTRY_CPU_AREA_WORDS];
};

/**
 * What is called with each CPU area; show_context is what it was handed over with.
 */
typedef void (*fentry_show_cpu_area)(const struct fentry_cpu_area *area, void *show_context);

/**
 * The services that fentry needs from a kernel. It must be there, as it is, for ever: static const.
 *
 * All functions get context as their first argument. None of them may wait for a lock that a callback can hold, or call
 * fentry (but fentry_in_callback() and fentry_is_quiescent()); two CPUs that wait for each other in them answer each other.
 * Those that may be NULL say so.
 *
 * From begin_batch to end_batch, and quiesce, at most one call is under way at any time.
 */
struct fentry_platform {
    /**
     * sizeof(struct fentry_platform), as FENTRY_PLATFORM_INIT has it.
     */
    size_t size;
    /**
     * FENTRY_ABI, as FENTRY_PLATFORM_INIT has it: how this kernel was compiled.
     */
    uint32_t abi;
    /**
     * FENTRY_PLATFORM_ flags.
     */
    uint32_t flags;
    /**
     * One of enum fentry_layout. With a symbol table it is ignored.
     */
    uint32_t layout;
    /**
     * Where the stubs find the struct fentry_trace_context of the running thread: in every context in which a traced
     * function may run, that register holds either zero or a valid base.
     */
    struct fentry_base context_base;
    /**
     * Where the stubs of counters find the struct fentry_cpu_area of the running CPU. FENTRY_BASE_REGISTER_NONE: all CPUs
     * share one counter.
     */
    struct fentry_base cpu_base;
    /**
     * How far above its linked addresses this kernel runs, modulo 2^64: 0 unless it was relocated (KASLR). With a symbol
     * table it is ignored.
     */
    uint64_t slide;
    /**
     * What is never traced, beside functions with FENTRY_NOTRACE: early code, the exception path, whatever writes the base
     * register. NULL with a count of 0: nothing.
     */
    const struct fentry_left_out *leave_out;
    /**
     * How many there are: FENTRY_MAX_LEFT_OUT at most.
     */
    size_t leave_out_count;
    /**
     * The first argument of all functions.
     */
    void *context;
    /**
     * Returns a writable alias of the 4096 bytes of text that start at page, never the mapping that the text is executed
     * through; NULL: page is not this kernel's text, or can't be mapped. The alias maps the same memory as Normal Inner
     * Shareable Write-Back. Called with interrupts masked, for one page at a time.
     */
    void *(*map_alias)(void *context, uint64_t page);
    /**
     * Unmaps the alias of page, and invalidates its TLB entries. NULL: text has an alias that stays.
     */
    void (*unmap_alias)(void *context, uint64_t page, void *alias);
    /**
     * Prepares for any number of changes to text; another number than 0 ends them before they begin. NULL: there is
     * nothing to do.
     */
    int (*begin_batch)(void *context);
    /**
     * Ends what begin_batch has begun. NULL: there is nothing to do.
     */
    void (*end_batch)(void *context);
    /**
     * Makes every other CPU execute a context synchronisation event (ISB, or taking and leaving an exception), waits until
     * each has, and returns 0; or 1 + the number of a CPU that did not in the time that this kernel allows. A kernel with
     * one CPU gives fentry_one_cpu_synchronize.
     */
    uint32_t (*synchronize_cpus)(void *context);
    /**
     * Waits until every thread of execution was quiescent at some moment since the call, and returns 0; or 1 + the number of
     * a CPU on which one was not in the time that this kernel allows.
     *
     * Quiescent is a thread that is interrupted or preempted at pc where fentry_is_quiescent() says so of its context and
     * that pc (of each exception that it is inside of, if they are nested); one that has given up its CPU by itself, or
     * waits in relax, where fentry_in_callback() is false; and one that does not exist yet, or has ended. Where
     * kernel code is never preempted, each CPU is a thread: interrupt it and look, again and again, until it is. Where kernel
     * code is preempted, each task is one: look at every task that does not run, and interrupt those that run.
     *
     * stubs are the ranges of text in which a thread may be on its way to a callback; fentry_is_quiescent() knows
     * them. A kernel with one CPU whose code is never preempted gives fentry_one_cpu_quiesce.
     */
    uint32_t (*quiesce)(void *context, const struct fentry_range *stubs, size_t count);
    /**
     * Waits a little: called in a loop by a CPU that waits for another one. Where it may be called with interrupts masked, it
     * answers requests to synchronise. NULL: YIELD.
     */
    void (*relax)(void *context);
    /**
     * Calls show with every trace context that there is, and with show_context, so that a return in a wrong context can
     * be told with its function. NULL: it is told without.
     */
    void (*for_each_context)(void *context, fentry_show_context show, void *show_context);
    /**
     * Calls show with every CPU's area, those of CPUs that are off included, and with show_context. NULL where there is
     * no cpu_base.
     */
    void (*for_each_cpu_area)(void *context, fentry_show_cpu_area show, void *show_context);
    /**
     * Prints length bytes of text in UTF-8, a part of a line or several: what errors have found, warnings, panics. Called
     * in any context in which fentry is. NULL: nothing is printed.
     */
    void (*console)(void *context, const char *text, size_t length);
    /**
     * Ends the kernel after a panic, which was printed: an error in fentry itself, or a function whose return was hooked and
     * that returned in another context than it was called in. It should not return. NULL: the CPU stays in a loop.
     */
    void (*panic)(void *context);
};

/**
 * What init found.
 */
struct fentry_report {
    /**
     * Functions that can be traced.
     */
    uint64_t accepted;
    /**
     * Of these, how many begin with a landing pad.
     */
    uint64_t with_landing_pad;
    /**
     * Of these, how many were compiled with -fpatchable-function-entry=4,2.
     */
    uint64_t with_literal;
    /**
     * Entries of the callsite section in text that is never traced.
     */
    uint64_t excluded;
    /**
     * Functions that the platform leaves out.
     */
    uint64_t left_out;
    /**
     * Parts of the platform's leave_out that mean no function with a callsite; the console has them.
     */
    uint64_t unmatched;
    /**
     * Entries that are no callsites; fentry_for_each_refusal() names them.
     */
    uint64_t refused;
    /**
     * Names in the symbol table; 0: there is none, and rules by name select nothing.
     */
    uint64_t symbols;
};

/**
 * All callsites' text, compared with what the engine believes.
 */
struct fentry_text_check {
    /**
     * Callsites that call nothing.
     */
    uint64_t disabled;
    /**
     * Callsites that call a stub.
     */
    uint64_t enabled;
    /**
     * Callsites whose text is not what the engine believes.
     */
    uint64_t wrong;
    /**
     * Callsites that are left alone, since somebody else has written their text.
     */
    uint64_t quarantined;
};

/**
 * What is told of an entry of the callsite section that is no callsite: where it is, and why, in length bytes of text.
 */
typedef void (*fentry_show_refusal)(uint64_t entry, const char *why, size_t length, void *context);

/**
 * Every general register as it was at a callsite, laid out as Linux's struct pt_regs begins.
 */
struct fentry_pt_regs {
    /**
     * x0 to x30. x9 and x30 both hold the address that the function will return to.
     */
    uint64_t regs[31];
    /**
     * The stack pointer at the callsite; arguments passed in memory begin there.
     */
    uint64_t sp;
    /**
     * Where the function goes on.
     */
    uint64_t pc;
    /**
     * NZCV, DAIF, CurrentEL and SPSel, in the places that SPSR_EL1 has them.
     */
    uint64_t pstate;
};

/**
 * The registers that the AAPCS64 makes live at a function's entry, where a stub has saved them.
 *
 * Reading is always right. What a callback writes is what the function starts with:
 *
 * - x[0] to x[8]: the arguments, and the address of a result in memory. The function must be sound with them;
 * - pc, by an ops with FENTRY_OPS_IPMODIFY only: where execution goes on, a function of the same signature;
 * - lr: the address that the function returns to. In a probe's entry handler that has no effect.
 *
 * At a function's exit, x[0] to x[7] are its results, and nothing else may be written.
 */
struct fentry_regs {
    /**
     * The engine's own.
     */
    uint64_t record;
    /**
     * Where execution goes on: at first, the function's first instruction after the callsite.
     */
    uint64_t pc;
    /**
     * x29 at the callsite: the caller's frame record.
     */
    uint64_t fp;
    /**
     * x30: the address that the function will return to, unsigned.
     */
    uint64_t lr;
    /**
     * x0 to x8.
     */
    uint64_t x[9];
    /**
     * The engine's own.
     */
    uint64_t context;
};

/**
 * What an exception handler has interrupted.
 */
struct fentry_interrupted {
    /**
     * The engine's own.
     */
    uint64_t engine[FENTRY_INTERRUPTED_WORDS];
};

/**
 * What a context has counted.
 */
struct fentry_context_counts {
    /**
     * Hooked calls that are under way, inside each other.
     */
    uint64_t depth;
    /**
     * Calls that went untraced because their level was inside a callback already.
     */
    uint64_t misses;
    /**
     * Calls that were not hooked because the shadow stack was full, or there is none.
     */
    uint64_t overflows;
    /**
     * Hooked calls that never returned, as far as a later call or return has shown it.
     */
    uint64_t abandoned;
};

/**
 * What a traced function's entry calls: with the callsite's address, the address that the function will return to, the ops,
 * and the registers.
 *
 * It runs on the stack of the traced call, in whatever context that was, with interrupts as they were. It may call traced
 * functions (they are not traced while it runs), but must not wait for a lock that the code it interrupts can hold, nor
 * register or unregister anything, nor sleep or otherwise give up its CPU by itself, nor leave by longjmp.
 */
typedef void (*fentry_callback)(uint64_t ip, uint64_t parent_ip, struct fentry_ops *ops, struct fentry_regs *regs);

/**
 * What is called at the entry of a function whose return is hooked: as a callback, and with two words of data for the exit
 * handler of the same call, zeros at first. False lets this call go: its exit is not seen.
 */
typedef bool (*fentry_entry)(uint64_t ip,
                             uint64_t parent_ip,
                             struct fentry_ops *ops,
                             struct fentry_regs *regs,
                             uint64_t *data);

/**
 * A call that returns.
 */
struct fentry_call {
    /**
     * The callsite: the ip of the call's entry.
     */
    uint64_t ip;
    /**
     * Where the function returns to; for the outer of several ops at one function, the return stub.
     */
    uint64_t parent_ip;
    /**
     * CNTVCT_EL0 at the entry.
     */
    uint64_t entry_time;
    /**
     * The ticks of CNTVCT_EL0 since the entry.
     */
    uint64_t ticks;
    /**
     * How many hooked calls this one is inside of.
     */
    uint64_t depth;
    /**
     * The results: x[0] to x[7]. What is written to x[0] is what the caller gets.
     */
    struct fentry_regs *regs;
    /**
     * What the entry handler has left; zeros where there is none.
     */
    uint64_t data[2];
};

/**
 * What is called at the return of a function whose return is hooked, under the rules of a callback.
 */
typedef void (*fentry_exit)(const struct fentry_call *call, struct fentry_ops *ops);

/**
 * What happens at functions' entries and exits. In memory that stays for ever, since a CPU may be on its way to the callback
 * at any moment: static struct fentry_ops watch = { FENTRY_OPS_INIT, .callback = watch_callback };
 *
 * From the first registration on, only data may be changed while it is registered.
 */
struct fentry_ops {
    /**
     * The engine's own; zeros at first.
     */
    uint64_t engine[FENTRY_OPS_WORDS];
    /**
     * sizeof(struct fentry_ops), as FENTRY_OPS_INIT has it.
     */
    size_t size;
    /**
     * One of enum fentry_kind.
     */
    uint32_t kind;
    /**
     * FENTRY_OPS_ flags.
     */
    uint32_t flags;
    /**
     * For FENTRY_KIND_CALLBACK.
     */
    fentry_callback callback;
    /**
     * For FENTRY_KIND_PROBE, or NULL.
     */
    fentry_entry entry;
    /**
     * For FENTRY_KIND_PROBE.
     */
    fentry_exit exit;
    /**
     * The caller's own.
     */
    void *data;
};

/**
 * One rule of a filter: FENTRY_RULE("disk_*"), FENTRY_RULE("!disk_poll"), FENTRY_RULE_FUNCTION(disk_read),
 * FENTRY_RULE_NOT_FUNCTION(disk_poll).
 *
 * A function is selected if a rule that selects matches it, or if there is none, and no rule that takes away does. As text:
 *
 *     disk_read      the functions of exactly this name
 *     disk_*         the functions whose whole name matches: * is any characters, ? one, [a-z] one of these, [!a-z]
 *                    one of the others, and \ takes the next character as it is
 *     "TEXT"         (with the quotes) a name, whatever characters it has
 *     0x40201000     the function whose entry holds this address
 *     !RULE          takes away what RULE matches
 *
 * Rules by name need the kernel's symbol table.
 */
struct fentry_rule {
    /**
     * The rule as text, in UTF-8; or NULL, and function counts.
     */
    const char *text;
    /**
     * The function, by its address.
     */
    const void *function;
    /**
     * Not 0: what function is about is taken away.
     */
    uint32_t takes_away;
};

/**
 * One CPU's records. It stays for ever.
 */
struct fentry_ring {
    /**
     * The engine's own.
     */
    uint64_t engine[FENTRY_RING_WORDS];
};

/**
 * What a ring has counted.
 */
struct fentry_ring_counts {
    /**
     * Records in the ring, unread.
     */
    uint64_t kept;
    /**
     * Records that were taken out.
     */
    uint64_t read;
    /**
     * Records that were lost, because there was no room or newer ones took their place.
     */
    uint64_t lost;
};

/**
 * Where a session records. It must be there, as it is, from fentry_session_start() to the end of fentry_session_dump().
 */
struct fentry_recording {
    /**
     * sizeof(struct fentry_recording), as FENTRY_RECORDING_INIT has it.
     */
    size_t size;
    /**
     * A ring for each CPU, 256 at most.
     */
    struct fentry_ring *const *rings;
    /**
     * How many there are.
     */
    size_t cpus;
    /**
     * Returns the running CPU's number, from 0; called in any context in which a function is traced. NULL: there is one CPU.
     */
    uint32_t (*cpu)(void *context);
    /**
     * Returns the running task's number, 0 where a CPU runs no task; called likewise. NULL: always 0.
     */
    uint32_t (*task)(void *context);
    /**
     * The argument of both.
     */
    void *context;
    /**
     * Memory for the profile tracer, aligned to 64: FENTRY_PROFILE_BYTES for each function, and a third more. NULL: it counts
     * nothing.
     */
    void *profile;
    /**
     * The bytes of it.
     */
    size_t profile_bytes;
};

/**
 * Takes the bytes of a dump, a few or some thousand at a time; 0 if that went well, and any other number ends the dump.
 */
typedef int (*fentry_write)(void *context, const void *bytes, size_t length);

/**
 * A task that has a name.
 */
struct fentry_task {
    /**
     * The number that the recording's task returns.
     */
    uint32_t number;
    /**
     * Its name, in UTF-8.
     */
    const char *name;
};

/**
 * A function that an address is in.
 */
struct fentry_symbol {
    /**
     * Its name, in UTF-8: length bytes, with no zero behind them.
     */
    const char *name;
    /**
     * The bytes of the name.
     */
    size_t length;
    /**
     * Where it begins.
     */
    uint64_t address;
    /**
     * Its length in bytes.
     */
    uint64_t size;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Returns an error's name, such as FENTRY_ERROR_NO_ROOM; that of any other number is FENTRY_ERROR_UNKNOWN.
 */
const char *fentry_error_name(uint32_t error);

/**
 * Returns what an error means, in a few words. What was found, with names and addresses, was printed to the console.
 */
const char *fentry_error_text(uint32_t error);

/**
 * What synchronize_cpus of a platform with one CPU is. Returns 0.
 */
uint32_t fentry_one_cpu_synchronize(void *context);

/**
 * What quiesce of a platform with one CPU is, whose kernel code is never preempted. Returns 0.
 */
uint32_t fentry_one_cpu_quiesce(void *context, const struct fentry_range *stubs, size_t count);

/**
 * Initialises the library, once, on the boot CPU: makes every callsite of the image ready, and prepares the stubs to find the
 * trace contexts. Writes what it found to report, if that is not NULL. After an error it can be called again.
 *
 * Errors: NULL_POINTER, WRONG_SIZE (no FENTRY_PLATFORM_INIT), WRONG_VERSION, FLOAT_ABI, BRANCH_TARGETS, INCOMPLETE, BAD_VALUE,
 * TOO_MANY_RULES and BAD_RULE (of what is left out), ALREADY_INITIALISED, CALLSITES (the section is empty, not writable, not
 * relocated yet, or needs layout or a symbol table), SYMBOLS,
 * CONTEXT_OFFSET, CPU_AREA_OFFSET, TEXT (a page has no alias).
 *
 * Safety:
 *
 * 1. platform is NULL or a platform that stays for ever, whose functions do what they should; report is NULL or a place
 *    for a report.
 * 2. Until this returns, no other CPU runs the image's text, and neither does an interrupt handler.
 * 3. The image was linked with the linker fragment, whose sections are mapped as it says: the callsites writable, text and the
 *    room for stubs executable. A position-independent kernel has relocated itself.
 * 4. From now on a function may find x9 changed at its entry, and x10 to x17, q16 to q31 and the flags while it is traced: none
 *    is called by another convention than the AAPCS64's base standard (preserve_most, vector PCS; nested functions of GCC
 *    with x18).
 */
enum fentry_error fentry_init(const struct fentry_platform *platform,
                              struct fentry_report *report);

/**
 * Returns whether a thread of this context that is interrupted at pc (ELR_EL1) is quiescent: inside no callback, and not on
 * its way to one. Waits for nothing, so it may be called in interrupt handlers. True before init, and for NULL.
 *
 * Safety:
 *
 * trace is NULL or a context.
 */
bool fentry_is_quiescent(const struct fentry_trace_context *trace,
                         uint64_t pc);

/**
 * Writes how many callsites' text is as the engine believes.
 *
 * Errors: NOT_INITIALISED, NULL_POINTER.
 *
 * Safety:
 *
 * check is NULL, or a place for one.
 */
enum fentry_error fentry_check_text(struct fentry_text_check *check);

/**
 * Calls show with every entry of the callsite section that is no callsite, and with context. show may not call fentry.
 *
 * Errors: NOT_INITIALISED, NULL_POINTER.
 *
 * Safety:
 *
 * show is NULL or such a function.
 */
enum fentry_error fentry_for_each_refusal(fentry_show_refusal show,
                                          void *context);

/**
 * Gives a part of the text back, as a kernel does with its init text when it has started: its callsites lose their ops and are
 * forgotten, and the engine neither reads nor writes there any more. Writes their number to functions, if that is not NULL.
 *
 * Errors: NOT_INITIALISED, NULL_POINTER, and those of fentry_unregister(): the text must stay. After NOT_QUIESCENT the callsites
 * have lost their ops already.
 *
 * Safety:
 *
 * range is NULL or a range, and functions is NULL or a place for a number.
 */
enum fentry_error fentry_forget(const struct fentry_range *range,
                                size_t *functions);

/**
 * Looks again at the callsites whose text somebody else has written, a debugger for example, and that were left alone for that;
 * returns how many are as the engine had left them, and in use again. 0 before init.
 */
size_t fentry_look_again(void);

/**
 * Returns every register as it was at the callsite; NULL where no ops with FENTRY_OPS_SAVE_REGS had them saved, and for
 * NULL.
 *
 * Safety:
 *
 * regs is NULL, or what this callback was given.
 */
const struct fentry_pt_regs *fentry_regs_all(const struct fentry_regs *regs);

/**
 * Returns the stack pointer at the callsite, where arguments passed in memory begin; 0 for NULL.
 */
uint64_t fentry_regs_sp(const struct fentry_regs *regs);

/**
 * Makes the call return to its caller at once with value in x0; the function does not run. For an ops with
 * FENTRY_OPS_IPMODIFY, or a probe's entry handler whose ops has it. NULL is ignored.
 *
 * Safety:
 *
 * regs is NULL, or what this callback was given. The function returns its result in x0 alone, value is a valid one,
 * and what else the caller relies on has been done.
 */
void fentry_regs_return_early(struct fentry_regs *regs, uint64_t value);

/**
 * Makes a context in which nothing is going on. Without a shadow stack, no return is hooked in it.
 *
 * Errors: NULL_POINTER, BAD_VALUE (not aligned to 16).
 *
 * Safety:
 *
 * trace is NULL, or memory that nobody uses: no base register leads to it yet, or it is a context whose task has ended.
 */
enum fentry_error fentry_trace_context_init(struct fentry_trace_context *trace);

/**
 * Gives a context a shadow stack, without which no return is hooked, and resets it: inside no callback and no hooked call.
 *
 * FENTRY_SHADOW_STACK_BYTES(N) bytes, 64 for each call and some at the ends, hold N hooked calls inside each other. What finds
 * no room is not hooked, and counted as an overflow.
 *
 * Errors: NULL_POINTER, NOT_SET_UP (no fentry_trace_context_init() before), MEMORY_SIZE (no room for one call).
 *
 * Safety:
 *
 * 1. memory is nobody else's, and stays for as long as the context is used.
 * 2. No hooked call of this thread returns any more.
 * 3. It is inside no callback, or will never go on there; and inside no handler that has called fentry_enter().
 */
enum fentry_error fentry_trace_context_set_shadow_stack(struct fentry_trace_context *trace,
                                                        void *memory,
                                                        size_t bytes);

/**
 * Resets a context for another task: inside no callback and no hooked call. Its shadow stack and the bounds of its stack stay.
 *
 * A task that is killed leaves its context inside whatever it was inside of; a context that is used again without this may
 * never be traced any more, nor ever be quiescent.
 *
 * Errors: NULL_POINTER, NOT_SET_UP.
 *
 * Safety:
 *
 * As for fentry_trace_context_set_shadow_stack(), 2 and 3.
 */
enum fentry_error fentry_trace_context_reset(struct fentry_trace_context *trace);

/**
 * Tells a context where its thread's stack is, from its lowest address to behind its highest; 0, 0 where nobody knows. With
 * it, hooked calls on that stack that never returned are dropped at the next hooked call.
 *
 * Errors: NULL_POINTER, NOT_SET_UP.
 *
 * Safety:
 *
 * That is the stack of this context's thread, and nothing else that runs in this context uses a part of it, but for exception
 * handlers that go on below what they interrupt.
 */
enum fentry_error fentry_trace_context_set_stack_bounds(struct fentry_trace_context *trace,
                                                        uint64_t low,
                                                        uint64_t high);

/**
 * Tells a context that an exception handler begins, at this enum fentry_level, so that what it calls is traced also where it
 * has interrupted a callback. A kernel that never calls this is traced all the same; then such calls are counted as misses.
 *
 * Errors: NULL_POINTER, NOT_SET_UP, BAD_VALUE.
 *
 * Safety:
 *
 * trace is the running thread's. interrupted is given to fentry_leave() with the same context, before what was
 * interrupted goes on; of several handlers inside each other, the one that entered last leaves first.
 */
enum fentry_error fentry_enter(struct fentry_trace_context *trace,
                               uint32_t level,
                               struct fentry_interrupted *interrupted);

/**
 * Tells a context that the exception handler ends. Hooked calls that were made inside it and never returned are dropped.
 *
 * Errors: NULL_POINTER, NOT_SET_UP (no fentry_enter() has written interrupted, or it was given here before).
 *
 * Safety:
 *
 * As for fentry_enter().
 */
enum fentry_error fentry_leave(struct fentry_trace_context *trace,
                               struct fentry_interrupted *interrupted);

/**
 * Returns whether the thread of this context is inside a callback, at any level. False for a context that was not initialised,
 * and for NULL.
 *
 * Safety:
 *
 * trace is NULL or a context.
 */
bool fentry_in_callback(const struct fentry_trace_context *trace);

/**
 * Writes what a context has counted to counts.
 *
 * Errors: NULL_POINTER, NOT_SET_UP.
 *
 * Safety:
 *
 * trace is NULL or a context, and counts is NULL or a place for one.
 */
enum fentry_error fentry_trace_context_counts(const struct fentry_trace_context *trace,
                                              struct fentry_context_counts *counts);

/**
 * Registers an ops for every function that the rules select; with a count of 0, for all. Writes their number to
 * functions, if that is not NULL. Of several ops at one function, the one that was registered first is called first.
 *
 * Not to be called from a callback or an interrupt handler, as all functions that change registrations.
 *
 * Errors: NOT_INITIALISED, NULL_POINTER, WRONG_SIZE (no FENTRY_OPS_INIT), INCOMPLETE (no function of its kind), BAD_VALUE
 * (unknown kind or flag), ALREADY_REGISTERED, those of the rules (BAD_RULE, TOO_MANY_RULES, NO_NAMES, NOTHING_SELECTED,
 * NOTHING_TAKEN_AWAY, EMPTY_SELECTION, RETURNS_TWICE), CONFLICT, TOO_MANY_OPS, TOO_MANY_SETS, NO_ROOM, OUT_OF_REACH, TEXT,
 * NOT_QUIESCENT. The ops is not registered then; if text could not be put back, fentry_is_registered() says that it is, and
 * it must be unregistered.
 *
 * Safety:
 *
 * ops is NULL or an ops that stays for ever; its functions keep to what fentry_callback asks for. rules is NULL or points at
 * count rules, functions is NULL or a place for a number.
 */
enum fentry_error fentry_register(struct fentry_ops *ops,
                                  const struct fentry_rule *rules,
                                  size_t count,
                                  size_t *functions);

/**
 * Unregisters an ops, and waits until no CPU is inside its callback. Writes the number of functions that it had to functions,
 * if that is not NULL.
 *
 * Errors: NOT_INITIALISED, NULL_POINTER, WRONG_SIZE, NOT_REGISTERED, PERMANENT, TEXT; NOT_QUIESCENT and QUARANTINED, after which
 * it can be tried again.
 *
 * Safety:
 *
 * As for fentry_register().
 */
enum fentry_error fentry_unregister(struct fentry_ops *ops,
                                    size_t *functions);

/**
 * Changes the functions for which an ops is registered to those that the rules select; writes their number to functions,
 * if that is not NULL.
 *
 * Errors: as for fentry_register() and fentry_unregister(). After NOT_QUIESCENT the new rules are in force; with any other
 * nothing has changed.
 *
 * Safety:
 *
 * As for fentry_register().
 */
enum fentry_error fentry_set_filter(struct fentry_ops *ops,
                                    const struct fentry_rule *rules,
                                    size_t count,
                                    size_t *functions);

/**
 * Returns whether an ops is registered. False for NULL, and for what was not initialised.
 *
 * Safety:
 *
 * As for fentry_register().
 */
bool fentry_is_registered(struct fentry_ops *ops);

/**
 * Returns how many calls an ops of kind FENTRY_KIND_COUNTER has counted, over all its registrations: exactly, once it is
 * unregistered. 0 where it was never registered, and for NULL.
 *
 * Safety:
 *
 * As for fentry_register(); it is not being registered meanwhile.
 */
uint64_t fentry_hits(struct fentry_ops *ops);

/**
 * Returns how many calls an ops has missed, because their level was inside a callback already. 0 where it was never
 * registered, and for NULL.
 *
 * Safety:
 *
 * As for fentry_hits().
 */
uint64_t fentry_misses(struct fentry_ops *ops);

/**
 * Makes a ring in this memory, of as many blocks of FENTRY_RING_BLOCK_BYTES, aligned to 64, as fit, down to a power of two; two
 * at least. mode is one of enum fentry_ring_mode.
 *
 * Errors: NULL_POINTER, BAD_VALUE (unknown mode), MEMORY_SIZE (no room for two blocks).
 *
 * Safety:
 *
 * 1. ring is NULL, or memory that nobody uses and that stays for ever.
 * 2. memory is NULL, or has so many bytes that nobody else uses and that stay for ever.
 */
enum fentry_error fentry_ring_init(struct fentry_ring *ring,
                                   void *memory,
                                   size_t bytes,
                                   uint32_t mode);

/**
 * Writes what a ring has counted to counts.
 *
 * Errors: NULL_POINTER, NOT_SET_UP.
 *
 * Safety:
 *
 * ring is NULL or a ring, and counts is NULL or a place for one.
 */
enum fentry_error fentry_ring_counts_of(const struct fentry_ring *ring, struct fentry_ring_counts *counts);

/**
 * Starts a session: the tracer and the functions that a command line's words ask for, recorded where recording says. Writes
 * the number of functions to functions, if that is not NULL. Returns are hooked where threads have shadow stacks.
 *
 *     tracer=graph       calls with their nesting, durations and results (the default)
 *     tracer=function    calls with their callers
 *     tracer=profile     only how often each function was called and how long it took
 *     filter=RULE        the functions, as struct fentry_rule has them as text; several times
 *     under=RULE         of the graph, only calls of these functions, and calls inside them; several times
 *     not-under=RULE     of the graph, no calls of these functions, nor any inside them; several times
 *     depth=N            of the graph, calls that are inside less than N others
 *     args=N             of the function tracer, the first N arguments, 8 at most
 *
 * Other words are the kernel's own, so that it can hand over its whole command line.
 *
 * Errors: NOT_INITIALISED, NULL_POINTER, WRONG_SIZE (no FENTRY_RECORDING_INIT), NOT_SET_UP (a ring was not made by
 * fentry_ring_init()), BAD_VALUE (no ring, too many, memory not aligned), BAD_WORD, ALREADY_REGISTERED (a session has begun), and
 * those of fentry_register().
 *
 * Safety:
 *
 * recording is NULL, or one that stays with all that it points at until its session was stopped and dumped; words is NULL or
 * ends in a zero; functions is NULL or a place for a number.
 */
enum fentry_error fentry_session_start(const struct fentry_recording *recording,
                                       const char *words,
                                       size_t *functions);

/**
 * Stops the session; writes the number of functions that were traced to functions, if that is not NULL.
 *
 * Errors: NOT_INITIALISED, NOT_REGISTERED (there is none), and those of fentry_unregister().
 *
 * Safety:
 *
 * functions is NULL or a place for a number.
 */
enum fentry_error fentry_session_stop(size_t *functions);

/**
 * Writes all that the session has recorded through write, and takes it out of the rings: the bytes that
 * cargo fentry trace --from FILE reads once they are in a file. tasks are count tasks that have names. write may not call
 * fentry.
 *
 * Errors: NOT_INITIALISED, NULL_POINTER, NOT_REGISTERED (no session was ever started), BAD_VALUE (a name is not UTF-8),
 * WRITE_FAILED.
 *
 * Safety:
 *
 * The recording of the last session is still there. write is NULL or such a function, which gets context; tasks is NULL with
 * a count of 0, or points at so many.
 */
enum fentry_error fentry_session_dump(fentry_write write,
                                      void *context,
                                      const struct fentry_task *tasks,
                                      size_t count);

/**
 * Prints all that the session has recorded to the platform's console, in lines of text, and takes it out of the rings:
 * cargo fentry trace finds them among other lines. tasks are count tasks that have names.
 *
 * Errors: NOT_INITIALISED, NULL_POINTER, INCOMPLETE (the platform has no console), NOT_REGISTERED (no session was ever started),
 * BAD_VALUE (a name is not UTF-8).
 *
 * Safety:
 *
 * The recording of the last session is still there; tasks is NULL with a count of 0, or points at so many.
 */
enum fentry_error fentry_session_print(const struct fentry_task *tasks,
                                       size_t count);

/**
 * Finds the function of the kernel that an address is in. Waits for nothing.
 *
 * Errors: NOT_INITIALISED, NULL_POINTER, NO_NAMES (there is no symbol table), NOT_FOUND.
 *
 * Safety:
 *
 * symbol is NULL, or a place for one.
 */
enum fentry_error fentry_symbol_at(uint64_t address, struct fentry_symbol *symbol);

/**
 * Writes an address as a person reads it, disk_read+0x10/0x40, or as a number where no function is known, to buffer, which
 * has bytes bytes: as much as fits, with a zero behind. Returns how long it is without the zero, as snprintf() does. Waits
 * for nothing.
 *
 * Safety:
 *
 * buffer is NULL, or has that many bytes.
 */
size_t fentry_format_address(uint64_t address,
                             char *buffer,
                             size_t bytes);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FENTRY_H */
