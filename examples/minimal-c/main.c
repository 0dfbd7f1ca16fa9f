/*
 * The smallest kernel in C that traces its own functions: it prints who called `greet` and what came back, counts calls, and
 * prints a graph of them where `cargo fentry trace` asks for one.
 *
 * What it takes to add fentry to a kernel is between the lines `integration` and `end of integration`; the rest is what any
 * kernel has (board.c, start.S), and a workload. How all is compiled and linked stands at the beginning of fentry.h.
 */

#include "board.h"

/* The workload. */

__attribute__((noinline)) uint64_t greet(uint64_t times, uint64_t volume)
{
    __asm__ volatile("" : "+r"(times), "+r"(volume));
    return times * volume;
}

__attribute__((noinline)) uint64_t party(void)
{
    uint64_t sum = 0;
    for (uint64_t times = 1; times <= 3; times++)
        sum += greet(times, 11);
    return sum;
}

static void check(int is_right, const char *what)
{
    if (!is_right) {
        print("wrong: ");
        print(what);
        print("\n");
        leave(1);
    }
}

/* What fentry asks of a kernel, and init. */

/* integration */

#include "fentry.h"

static struct fentry_trace_context trace;
static uint8_t shadow_stack[FENTRY_SHADOW_STACK_BYTES(16)];

static void *map_alias(void *context, uint64_t page)
{
    (void)context;
    return (void *)(page + WRITABLE);
}

static void console(void *context, const char *text, size_t length)
{
    (void)context;
    print_text(text, length);
}

static void panic(void *context)
{
    (void)context;
    leave(1);
}

static const struct fentry_platform platform = {
    FENTRY_PLATFORM_INIT,
    .context_base = { FENTRY_BASE_REGISTER_TPIDR_EL1, 0 },
    .map_alias = map_alias,
    .synchronize_cpus = fentry_one_cpu_synchronize,
    .quiesce = fentry_one_cpu_quiesce,
    .console = console,
    .panic = panic,
};

static enum fentry_error start_tracing(struct fentry_report *report)
{
    enum fentry_error error = fentry_trace_context_init(&trace);
    if (!error)
        error = fentry_trace_context_set_shadow_stack(&trace, shadow_stack, sizeof shadow_stack);
    if (!error) {
        __asm__ volatile("msr tpidr_el1, %0" : : "r"(&trace));
        error = fentry_init(&platform, report);
    }
    return error;
}

/* end of integration */

/* Three ops: a callback, a probe with an exit handler, and a counter. */

static void print_address(uint64_t address)
{
    char text[64];
    fentry_format_address(address, text, sizeof text);
    print(text);
}

static void watch(uint64_t ip, uint64_t parent_ip, struct fentry_ops *ops, struct fentry_regs *regs)
{
    (void)ops;
    print("  ");
    print_address(ip);
    print(" (");
    print_number(regs->x[0]);
    print(", ");
    print_number(regs->x[1]);
    print(") <- ");
    print_address(parent_ip);
    print("\n");
}

static bool enters(uint64_t ip, uint64_t parent_ip, struct fentry_ops *ops, struct fentry_regs *regs, uint64_t *data)
{
    (void)ip, (void)parent_ip, (void)ops;
    data[0] = regs->x[0];
    return true;
}

static void returns(const struct fentry_call *call, struct fentry_ops *ops)
{
    uint64_t *sum = ops->data;
    *sum += call->data[0] * 100 + call->regs->x[0];
}

static uint64_t seen_at_returns;
static struct fentry_ops watching = { FENTRY_OPS_INIT, .callback = watch };
static struct fentry_ops probing = {
    FENTRY_OPS_INIT, .kind = FENTRY_KIND_PROBE, .entry = enters, .exit = returns, .data = &seen_at_returns
};
static struct fentry_ops counting = { FENTRY_OPS_INIT, .kind = FENTRY_KIND_COUNTER };

static void must(enum fentry_error error, const char *what)
{
    if (error) {
        print(fentry_error_name(error));
        print(": ");
        print(fentry_error_text(error));
        print("\n");
    }
    check(!error, what);
}

/* A session, as the command line of `cargo fentry trace` asks for it: `tracer=graph filter=party`. */

static uint8_t ring_memory[4 * FENTRY_RING_BLOCK_BYTES] FENTRY_ALIGNED(64);
static struct fentry_ring ring;
static struct fentry_ring *const rings[] = { &ring };
static const struct fentry_recording recording = { FENTRY_RECORDING_INIT, .rings = rings, .cpus = 1 };

static void record(const char *words)
{
    must(fentry_ring_init(&ring, ring_memory, sizeof ring_memory, FENTRY_RING_MODE_OVERWRITE), "the ring");
    must(fentry_session_start(&recording, words, NULL), "the session");
    party();
    must(fentry_session_stop(NULL), "the session's end");
    must(fentry_session_print(NULL, 0), "the dump");
}

int main(void)
{
    struct fentry_report report;
    must(start_tracing(&report), "init");
    print_number(report.accepted);
    print(" functions can be traced\n");

    const struct fentry_rule only_greet[] = { FENTRY_RULE_FUNCTION(greet) };
    size_t functions = 0;
    must(fentry_register(&watching, only_greet, 1, &functions), "the callback");
    must(fentry_register(&probing, only_greet, 1, NULL), "the probe");
    must(fentry_register(&counting, NULL, 0, NULL), "the counter");
    check(functions == 1, "the number of functions");
    print("traced:\n");
    uint64_t sum = party();
    must(fentry_unregister(&counting, NULL), "the counter's end");
    must(fentry_unregister(&probing, NULL), "the probe's end");
    must(fentry_unregister(&watching, NULL), "the callback's end");

    print("not traced:\n");
    check(party() == sum, "the sum");
    print("  the same result: ");
    print_number(sum);
    print("\n");
    /* Arguments 1, 2, 3 and results 11, 22, 33. */
    check(seen_at_returns == 666, "what the probe saw");
    /* party, three calls of greet, and what the callback did not keep from being counted. */
    check(fentry_hits(&counting) >= 4, "the counter");

    if (command_line_has("tracer="))
        record(command_line());
    leave(0);
}
