/*
 * What include/fentry.h promises, as a kernel in C meets it: misuse is an error, and everything that it declares does what it
 * says. On the board of examples/minimal-c, with one CPU; the ops of one case are none of the next.
 */

#include "board.h"
#include "fentry.h"

#define CHECK(condition)                                     \
    do {                                                     \
        if (!(condition)) {                                  \
            print("  " #condition " is wrong at line ");     \
            print_number(__LINE__);                          \
            print("\n");                                     \
            return 0;                                        \
        }                                                    \
    } while (0)

#define IS(call, expected) CHECK(is((call), FENTRY_ERROR_##expected))

static int is(enum fentry_error found, enum fentry_error expected)
{
    if (found != expected) {
        print("  ");
        print(fentry_error_name(found));
        print(" instead of ");
        print(fentry_error_name(expected));
        print("\n");
    }
    return found == expected;
}

/* Whether a text of this length begins with another one. */
static int begins_with(const char *text, size_t length, const char *beginning)
{
    size_t i = 0;
    while (beginning[i] && i < length && text[i] == beginning[i])
        i++;
    return !beginning[i];
}

/* Whether two texts are the same; the second one ends in a zero. */
static int same(const char *text, size_t length, const char *other)
{
    return begins_with(text, length, other) && !other[length];
}

/* The functions that are traced: GCC would make copies of them for known arguments. */
#ifdef __clang__
#define TRACED __attribute__((noinline))
#else
#define TRACED __attribute__((noipa))
#endif

TRACED uint64_t add(uint64_t a, uint64_t b)
{
    __asm__ volatile("" : "+r"(a), "+r"(b));
    return a + b;
}

TRACED uint64_t multiply(uint64_t a, uint64_t b)
{
    __asm__ volatile("" : "+r"(a), "+r"(b));
    return a * b;
}

TRACED uint64_t add_twice(uint64_t a, uint64_t b)
{
    uint64_t sum = add(add(a, b), b);
    __asm__ volatile("" : "+r"(sum)); /* no tail call */
    return sum;
}

FENTRY_NOTRACE TRACED uint64_t untraced(uint64_t a)
{
    __asm__ volatile("" : "+r"(a));
    return a;
}

TRACED uint64_t left_out_by_name(uint64_t a)
{
    return a + 1;
}

TRACED uint64_t left_out_of_range(uint64_t a)
{
    return a + 2;
}

static const struct fentry_rule only_add[] = { FENTRY_RULE_FUNCTION(add) };
static const struct fentry_rule add_and_twice[] = { FENTRY_RULE_FUNCTION(add), FENTRY_RULE_FUNCTION(add_twice) };

/* The platform. */

static struct cpu {
    uint64_t number;
    struct fentry_trace_context trace;
    struct fentry_cpu_area area;
} cpu;

static uint8_t shadow_stack[FENTRY_SHADOW_STACK_BYTES(8)];
static int no_alias;
static int batches;
static size_t printed;

static void *map_alias(void *context, uint64_t page)
{
    return context == &cpu && !no_alias ? (void *)(page + WRITABLE) : NULL;
}

static int begin_batch(void *context)
{
    (void)context;
    batches++;
    return 0;
}

static void end_batch(void *context)
{
    (void)context;
    batches--;
}

static void for_each_cpu_area(void *context, fentry_show_cpu_area show, void *show_context)
{
    (void)context;
    show(&cpu.area, show_context);
}

static void for_each_context(void *context, fentry_show_context show, void *show_context)
{
    (void)context;
    show(&cpu.trace, show_context);
}

static void console(void *context, const char *text, size_t length)
{
    (void)context, (void)text;
    printed += length;
}

static void panic(void *context)
{
    (void)context;
    print("panic\n");
    leave(1);
}

static const struct fentry_left_out left_out[] = {
    FENTRY_LEAVE_OUT("left_out_by_*"),
    FENTRY_LEAVE_OUT("nobody"),
    FENTRY_LEAVE_OUT_RANGE(left_out_of_range, (const char *)left_out_of_range + 4),
};

static const struct fentry_platform good = {
    FENTRY_PLATFORM_INIT,
    .context_base = { FENTRY_BASE_REGISTER_TPIDR_EL1, offsetof(struct cpu, trace) },
    .cpu_base = { FENTRY_BASE_REGISTER_TPIDR_EL1, offsetof(struct cpu, area) },
    .leave_out = left_out,
    .leave_out_count = 3,
    .context = &cpu,
    .map_alias = map_alias,
    .begin_batch = begin_batch,
    .end_batch = end_batch,
    .synchronize_cpus = fentry_one_cpu_synchronize,
    .quiesce = fentry_one_cpu_quiesce,
    .for_each_context = for_each_context,
    .for_each_cpu_area = for_each_cpu_area,
    .console = console,
    .panic = panic,
};

/* How deep the stack gets: what is below the caller is painted, and later looked at. No interrupt comes in between. */

#define PAINTED 8192
#define PAINT UINT64_C(0xfe17fe17fe17fe17)

static uint64_t stack_pointer(void)
{
    uint64_t sp;
    __asm__ volatile("mov %0, sp" : "=r"(sp));
    return sp;
}

static __attribute__((always_inline)) inline uint64_t paint_stack(void)
{
    uint64_t sp = stack_pointer();
    for (uint64_t at = sp - PAINTED; at < sp - 64; at += 8)
        __asm__ volatile("str %0, [%1]" : : "r"(PAINT), "r"(at) : "memory");
    return sp;
}

static __attribute__((always_inline)) inline uint64_t stack_used(uint64_t sp)
{
    uint64_t at = sp - PAINTED, found = PAINT;
    for (; at < sp && found == PAINT; at += 8)
        __asm__ volatile("ldr %0, [%1]" : "=r"(found) : "r"(at) : "memory");
    return sp - at;
}

/* What is seen. */

static struct {
    uint64_t calls, ip, parent_ip, x0, x1, sp, all_x1, data;
    int in_callback, is_quiescent;
} seen;

static void look(uint64_t ip, uint64_t parent_ip, struct fentry_ops *ops, struct fentry_regs *regs)
{
    const struct fentry_pt_regs *all = fentry_regs_all(regs);
    seen.calls++;
    seen.ip = ip;
    seen.parent_ip = parent_ip;
    seen.x0 = regs->x[0];
    seen.x1 = regs->x[1];
    seen.sp = fentry_regs_sp(regs);
    seen.all_x1 = all ? all->regs[1] : 0;
    seen.data = (uint64_t)ops->data;
    seen.in_callback = fentry_in_callback(&cpu.trace);
    seen.is_quiescent = fentry_is_quiescent(&cpu.trace, ip);
    /* Inside of a callback nothing is traced, and what is missed is counted. */
    add(0, 0);
}

static struct fentry_ops looking = { FENTRY_OPS_INIT, .callback = look, .data = (void *)0x1234 };

/* The cases. */

static int before_init_everything_is_refused(void)
{
    struct fentry_text_check check;
    struct fentry_symbol symbol;
    const struct fentry_range range = { 0x1000, 0x2000 };
    IS(fentry_register(&looking, only_add, 1, NULL), NOT_INITIALISED);
    IS(fentry_unregister(&looking, NULL), NOT_INITIALISED);
    IS(fentry_set_filter(&looking, only_add, 1, NULL), NOT_INITIALISED);
    IS(fentry_session_start(NULL, "", NULL), NOT_INITIALISED);
    IS(fentry_session_stop(NULL), NOT_INITIALISED);
    IS(fentry_session_dump(NULL, NULL, NULL, 0), NOT_INITIALISED);
    IS(fentry_session_print(NULL, 0), NOT_INITIALISED);
    IS(fentry_check_text(&check), NOT_INITIALISED);
    IS(fentry_for_each_refusal(NULL, NULL), NOT_INITIALISED);
    IS(fentry_forget(&range, NULL), NOT_INITIALISED);
    IS(fentry_symbol_at((uint64_t)add, &symbol), NOT_INITIALISED);
    CHECK(fentry_look_again() == 0 && fentry_hits(&looking) == 0 && !fentry_is_registered(&looking));
    CHECK(fentry_is_quiescent(&cpu.trace, 0) && !fentry_in_callback(&cpu.trace));
    return 1;
}

static int a_context_must_be_initialised(void)
{
    struct fentry_interrupted interrupted = { { 0 } };
    struct fentry_context_counts counts;
    IS(fentry_trace_context_init(NULL), NULL_POINTER);
    IS(fentry_trace_context_init((struct fentry_trace_context *)((uint64_t)&cpu.trace + 8)), BAD_VALUE);
    IS(fentry_trace_context_set_shadow_stack(&cpu.trace, shadow_stack, sizeof shadow_stack), NOT_SET_UP);
    IS(fentry_trace_context_reset(&cpu.trace), NOT_SET_UP);
    IS(fentry_trace_context_set_stack_bounds(&cpu.trace, 0, 0), NOT_SET_UP);
    IS(fentry_trace_context_counts(&cpu.trace, &counts), NOT_SET_UP);
    IS(fentry_enter(&cpu.trace, FENTRY_LEVEL_IRQ, &interrupted), NOT_SET_UP);
    IS(fentry_trace_context_init(&cpu.trace), NONE);
    IS(fentry_enter(&cpu.trace, 3, &interrupted), BAD_VALUE);
    IS(fentry_enter(&cpu.trace, FENTRY_LEVEL_IRQ, NULL), NULL_POINTER);
    IS(fentry_leave(&cpu.trace, &interrupted), NOT_SET_UP);
    IS(fentry_trace_context_set_shadow_stack(&cpu.trace, NULL, 1000), NULL_POINTER);
    IS(fentry_trace_context_set_shadow_stack(&cpu.trace, shadow_stack, FENTRY_SHADOW_STACK_BYTES(1) - 8), MEMORY_SIZE);
    IS(fentry_trace_context_counts(&cpu.trace, NULL), NULL_POINTER);
    return 1;
}

/* The good platform, changed by one statement, is refused with this error. */
#define REFUSED(change, expected)             \
    do {                                      \
        platform = good;                      \
        change;                               \
        IS(fentry_init(&platform, NULL), expected); \
    } while (0)

static int a_platform_that_is_wrong_is_refused(void)
{
    static struct fentry_platform platform;
    IS(fentry_init(NULL, NULL), NULL_POINTER);
    IS(fentry_init((const struct fentry_platform *)((uint64_t)&platform + 4), NULL), BAD_VALUE);
    REFUSED(platform.size = 0, WRONG_SIZE);
    REFUSED(platform.size += 8, WRONG_SIZE);
    REFUSED(platform.abi++, WRONG_VERSION);
    REFUSED(platform.abi |= 1u << 31, WRONG_VERSION);
    REFUSED(platform.abi ^= FENTRY_ABI_FLOAT, FLOAT_ABI);
#ifndef LIBRARY_HAS_LANDING_PADS
    REFUSED(platform.abi |= FENTRY_ABI_BTI, BRANCH_TARGETS);
#endif
    REFUSED(platform.flags = 1u << 7, BAD_VALUE);
    REFUSED(platform.layout = 3, BAD_VALUE);
    static const struct fentry_left_out no_glob = FENTRY_LEAVE_OUT("a["), no_range = FENTRY_LEAVE_OUT_RANGE(add, add);
    REFUSED(platform.leave_out = NULL, NULL_POINTER);
    REFUSED(platform.leave_out_count = FENTRY_MAX_LEFT_OUT + 1, TOO_MANY_RULES);
    REFUSED((platform.leave_out = &no_glob, platform.leave_out_count = 1), BAD_RULE);
    REFUSED((platform.leave_out = &no_range, platform.leave_out_count = 1), BAD_VALUE);
    REFUSED(platform.map_alias = NULL, INCOMPLETE);
    REFUSED(platform.synchronize_cpus = NULL, INCOMPLETE);
    REFUSED(platform.quiesce = NULL, INCOMPLETE);
    REFUSED(platform.for_each_cpu_area = NULL, INCOMPLETE);
    REFUSED(platform.context_base.reg = FENTRY_BASE_REGISTER_NONE, INCOMPLETE);
    REFUSED(platform.context_base.reg = 6, BAD_VALUE);
    REFUSED(platform.context_base.offset = 4104, CONTEXT_OFFSET);
    REFUSED(platform.context_base.offset = 1 << 20, CONTEXT_OFFSET);
    REFUSED(platform.context_base.offset = 12, CONTEXT_OFFSET);
    REFUSED(platform.cpu_base.offset = 4088, CPU_AREA_OFFSET);
    return 1;
}

static int init_that_failed_can_be_tried_again(void)
{
    struct fentry_report report = { .accepted = 0 };
    struct fentry_text_check check;
    size_t before = printed;
    no_alias = 1;
    IS(fentry_init(&good, &report), TEXT);
    CHECK(report.accepted == 0 && printed > before);
    IS(fentry_check_text(&check), NOT_INITIALISED);
    no_alias = 0;
    uint64_t sp = paint_stack();
    IS(fentry_init(&good, &report), NONE);
    uint64_t used = stack_used(sp);
    print("  ");
    print_number(used);
    print(" bytes of stack\n");
    CHECK(used > 200 && used <= 4096);
    CHECK(report.accepted > 10 && report.refused == 0 && report.symbols > report.accepted);
    CHECK(report.left_out == 2 && report.unmatched == 1 && left_out_by_name(1) + left_out_of_range(1) == 5);
#ifdef PREFIXED
    CHECK(report.with_literal == report.accepted);
#else
    CHECK(report.with_literal == 0);
#endif
    IS(fentry_init(&good, &report), ALREADY_INITIALISED);
    IS(fentry_init(NULL, &report), NULL_POINTER);
    IS(fentry_check_text(&check), NONE);
    CHECK(check.disabled == report.accepted && check.enabled == 0 && check.wrong == 0 && batches == 0);
    IS(fentry_check_text(NULL), NULL_POINTER);
    IS(fentry_for_each_refusal(NULL, NULL), NULL_POINTER);
    IS(fentry_forget(NULL, NULL), NULL_POINTER);
    return 1;
}

static int a_callback_sees_its_call(void)
{
    size_t functions = 0;
    struct fentry_context_counts counts;
    seen.calls = 0;
    IS(fentry_register(&looking, only_add, 1, &functions), NONE);
    CHECK(functions == 1 && fentry_is_registered(&looking));
    CHECK(add(2, 3) == 5 && multiply(2, 3) == 6 && seen.calls == 1);
    CHECK(seen.ip - (uint64_t)add <= 8 && seen.x0 == 2 && seen.x1 == 3 && seen.data == 0x1234);
    CHECK(seen.parent_ip - (uint64_t)a_callback_sees_its_call < 4096 && seen.sp % 16 == 0 && seen.all_x1 == 0);
    CHECK(seen.in_callback && !seen.is_quiescent && fentry_misses(&looking) == 1);
    CHECK(!fentry_in_callback(&cpu.trace) && fentry_is_quiescent(&cpu.trace, seen.ip));
    IS(fentry_trace_context_counts(&cpu.trace, &counts), NONE);
    CHECK(counts.misses == 1);
    IS(fentry_unregister(&looking, &functions), NONE);
    CHECK(functions == 1 && !fentry_is_registered(&looking));
    CHECK(add(2, 3) == 5 && seen.calls == 1);
    return 1;
}

static void change(uint64_t ip, uint64_t parent_ip, struct fentry_ops *ops, struct fentry_regs *regs)
{
    (void)ip, (void)parent_ip;
    if (!ops->data)
        regs->x[1] = 40;
    else if (ops->data == (void *)1)
        regs->pc = (uint64_t)multiply;
    else
        fentry_regs_return_early(regs, 77);
}

static int a_callback_changes_its_call(void)
{
    static struct fentry_ops changing = { FENTRY_OPS_INIT, .flags = FENTRY_OPS_IPMODIFY, .callback = change };
    static struct fentry_ops another = { FENTRY_OPS_INIT, .flags = FENTRY_OPS_IPMODIFY, .callback = change };
    IS(fentry_register(&changing, only_add, 1, NULL), NONE);
    CHECK(add(2, 3) == 42);
    changing.data = (void *)1;
    CHECK(add(5, 6) == 30);
    changing.data = (void *)2;
    CHECK(add(5, 6) == 77);
    IS(fentry_register(&another, only_add, 1, NULL), CONFLICT);
    CHECK(!fentry_is_registered(&another));
    IS(fentry_unregister(&changing, NULL), NONE);
    CHECK(add(5, 6) == 11);
    return 1;
}

static int all_registers_are_saved_where_asked_for(void)
{
    static struct fentry_ops all = { FENTRY_OPS_INIT, .flags = FENTRY_OPS_SAVE_REGS, .callback = look };
    IS(fentry_register(&all, only_add, 1, NULL), NONE);
    CHECK(add(2, 3) == 5 && seen.all_x1 == 3);
    IS(fentry_unregister(&all, NULL), NONE);
    CHECK(fentry_regs_all(NULL) == NULL && fentry_regs_sp(NULL) == 0);
    fentry_regs_return_early(NULL, 1);
    return 1;
}

static struct {
    uint64_t entries, exits, sum, depth, ticks;
} probed;

static bool enter(uint64_t ip, uint64_t parent_ip, struct fentry_ops *ops, struct fentry_regs *regs, uint64_t *data)
{
    (void)parent_ip, (void)ops;
    probed.entries++;
    data[0] = regs->x[0];
    data[1] = ip;
    return regs->x[0] != 9;
}

static void leave_call(const struct fentry_call *call, struct fentry_ops *ops)
{
    probed.exits++;
    probed.depth += call->depth;
    probed.ticks += call->entry_time > 0;
    if (call->data[0] && call->data[1] != call->ip)
        probed.sum = 1000;
    probed.sum += call->data[0];
    if (ops->data)
        call->regs->x[0] = 99;
}

static struct fentry_ops probing = {
    FENTRY_OPS_INIT, .kind = FENTRY_KIND_PROBE, .entry = enter, .exit = leave_call
};

static int a_probe_sees_entry_and_exit(void)
{
    static struct fentry_ops exiting = { FENTRY_OPS_INIT, .kind = FENTRY_KIND_PROBE, .exit = leave_call };
    struct fentry_context_counts counts;
    /* Without a shadow stack nothing is hooked. */
    IS(fentry_register(&probing, add_and_twice, 2, NULL), NONE);
    CHECK(add(2, 3) == 5 && probed.exits == 0);
    IS(fentry_trace_context_counts(&cpu.trace, &counts), NONE);
    CHECK(counts.overflows == 1 && counts.depth == 0);
    IS(fentry_trace_context_set_shadow_stack(&cpu.trace, shadow_stack, sizeof shadow_stack), NONE);
    probed.entries = 0;
    CHECK(add_twice(2, 3) == 8);
    CHECK(probed.entries == 3 && probed.exits == 3 && probed.sum == 2 + 2 + 5 && probed.depth == 2 && probed.ticks == 3);
    /* The entry lets this one go. */
    CHECK(add(9, 1) == 10 && probed.entries == 4 && probed.exits == 3);
    probing.data = &probing;
    CHECK(add(2, 3) == 99);
    IS(fentry_unregister(&probing, NULL), NONE);
    IS(fentry_register(&exiting, only_add, 1, NULL), NONE);
    CHECK(add(2, 3) == 5 && probed.entries == 5 && probed.exits == 5);
    IS(fentry_unregister(&exiting, NULL), NONE);
    return 1;
}

static int a_full_shadow_stack_is_counted(void)
{
    static uint8_t one_call[FENTRY_SHADOW_STACK_BYTES(1)];
    struct fentry_context_counts before, after;
    probed.entries = probed.exits = 0;
    probing.data = NULL;
    IS(fentry_trace_context_set_shadow_stack(&cpu.trace, one_call, sizeof one_call), NONE);
    IS(fentry_trace_context_set_stack_bounds(&cpu.trace, 0, 0), NONE);
    IS(fentry_trace_context_counts(&cpu.trace, &before), NONE);
    IS(fentry_register(&probing, add_and_twice, 2, NULL), NONE);
    CHECK(add_twice(2, 3) == 8 && probed.exits == 1);
    IS(fentry_unregister(&probing, NULL), NONE);
    IS(fentry_trace_context_counts(&cpu.trace, &after), NONE);
    CHECK(after.overflows == before.overflows + 2 && after.depth == 0 && after.abandoned == 0);
    IS(fentry_trace_context_set_shadow_stack(&cpu.trace, shadow_stack, sizeof shadow_stack), NONE);
    return 1;
}

static int rules_select_by_name_glob_and_address(void)
{
    static struct fentry_ops ops = { FENTRY_OPS_INIT, .kind = FENTRY_KIND_COUNTER };
    const struct fentry_rule by_name[] = { FENTRY_RULE("multiply") };
    const struct fentry_rule by_glob[] = { FENTRY_RULE("add*"), FENTRY_RULE("!*_twice") };
    const struct fentry_rule but_add[] = { FENTRY_RULE("add*"), FENTRY_RULE_NOT_FUNCTION(add) };
    const struct fentry_rule nobody[] = { FENTRY_RULE("nobody") };
    const struct fentry_rule not_there[] = { FENTRY_RULE_FUNCTION(untraced) };
    const struct fentry_rule left[] = { FENTRY_RULE("left_out_*") };
    const struct fentry_rule no_glob[] = { FENTRY_RULE("add["), FENTRY_RULE("add") };
    const struct fentry_rule no_utf8[] = { FENTRY_RULE("add\xff") };
    const struct fentry_rule nothing[] = { { NULL, NULL, 0 } };
    const struct fentry_rule none_left[] = { FENTRY_RULE("add"), FENTRY_RULE("!add") };
    struct fentry_rule many[FENTRY_MAX_RULES + 1];
    size_t functions = 0;
    for (size_t i = 0; i <= FENTRY_MAX_RULES; i++)
        many[i] = by_name[0];
    IS(fentry_register(&ops, nobody, 1, &functions), NOTHING_SELECTED);
    IS(fentry_register(&ops, not_there, 1, NULL), NOTHING_SELECTED);
    IS(fentry_register(&ops, left, 1, NULL), NOTHING_SELECTED);
    IS(fentry_register(&ops, no_glob, 2, NULL), BAD_RULE);
    IS(fentry_register(&ops, no_utf8, 1, NULL), BAD_RULE);
    IS(fentry_register(&ops, nothing, 1, NULL), NULL_POINTER);
    IS(fentry_register(&ops, NULL, 1, NULL), NULL_POINTER);
    IS(fentry_register(&ops, none_left, 2, NULL), EMPTY_SELECTION);
    IS(fentry_register(&ops, many, FENTRY_MAX_RULES + 1, NULL), TOO_MANY_RULES);
    CHECK(functions == 0 && !fentry_is_registered(&ops));
    IS(fentry_register(&ops, many, FENTRY_MAX_RULES, &functions), NONE);
    CHECK(functions == 1);
    multiply(1, 1), add(1, 1);
    IS(fentry_set_filter(&ops, by_glob, 2, &functions), NONE);
    CHECK(functions == 1);
    add_twice(1, 1), multiply(1, 1);
    IS(fentry_set_filter(&ops, nobody, 1, NULL), NOTHING_SELECTED);
    IS(fentry_set_filter(&ops, but_add, 2, &functions), NONE);
    CHECK(functions == 1);
    add(1, 1), add_twice(1, 1);
    CHECK(fentry_hits(&ops) == 1 + 2 + 1);
    IS(fentry_set_filter(&ops, NULL, 0, &functions), NONE);
    CHECK(functions > 10);
    IS(fentry_unregister(&ops, NULL), NONE);
    return 1;
}

static int a_counter_counts_over_all_its_registrations(void)
{
    static struct fentry_ops ops = { FENTRY_OPS_INIT, .kind = FENTRY_KIND_COUNTER };
    for (uint64_t times = 1; times <= 3; times++) {
        IS(fentry_register(&ops, only_add, 1, NULL), NONE);
        for (uint64_t i = 0; i < 10; i++)
            add(1, 2);
        CHECK(fentry_hits(&ops) == 10 * times);
        IS(fentry_unregister(&ops, NULL), NONE);
        CHECK(fentry_hits(&ops) == 10 * times);
    }
    return 1;
}

static int an_ops_that_is_wrong_is_refused(void)
{
    static struct fentry_ops bare, ops = { FENTRY_OPS_INIT };
    IS(fentry_register(NULL, NULL, 0, NULL), NULL_POINTER);
    IS(fentry_register((struct fentry_ops *)((uint64_t)&ops + 4), NULL, 0, NULL), BAD_VALUE);
    IS(fentry_register(&bare, NULL, 0, NULL), WRONG_SIZE);
    IS(fentry_unregister(&bare, NULL), WRONG_SIZE);
    IS(fentry_register(&ops, NULL, 0, NULL), INCOMPLETE);
    ops.kind = FENTRY_KIND_PROBE;
    ops.entry = enter;
    IS(fentry_register(&ops, NULL, 0, NULL), INCOMPLETE);
    ops.kind = 3;
    IS(fentry_register(&ops, NULL, 0, NULL), BAD_VALUE);
    ops.kind = FENTRY_KIND_COUNTER;
    ops.flags = 1u << 20;
    IS(fentry_register(&ops, NULL, 0, NULL), BAD_VALUE);
    ops.flags = 0;
    IS(fentry_unregister(&ops, NULL), NOT_REGISTERED);
    IS(fentry_register(&ops, only_add, 1, NULL), NONE);
    IS(fentry_register(&ops, only_add, 1, NULL), ALREADY_REGISTERED);
    IS(fentry_unregister(&ops, NULL), NONE);
    IS(fentry_unregister(&ops, NULL), NOT_REGISTERED);
    IS(fentry_set_filter(&ops, only_add, 1, NULL), NOT_REGISTERED);
    CHECK(fentry_hits(NULL) == 0 && fentry_misses(NULL) == 0 && !fentry_is_registered(NULL));
    return 1;
}

static int handlers_of_interrupts_have_a_level_of_their_own(void)
{
    struct fentry_interrupted interrupted;
    IS(fentry_enter(&cpu.trace, FENTRY_LEVEL_IRQ, &interrupted), NONE);
    seen.calls = 0;
    IS(fentry_register(&looking, only_add, 1, NULL), NONE);
    add(1, 1);
    CHECK(seen.calls == 1);
    IS(fentry_unregister(&looking, NULL), NONE);
    IS(fentry_leave(&cpu.trace, &interrupted), NONE);
    IS(fentry_leave(&cpu.trace, &interrupted), NOT_SET_UP);
    IS(fentry_trace_context_reset(&cpu.trace), NONE);
    return 1;
}

static int names_are_found_for_addresses(void)
{
    struct fentry_symbol symbol;
    char text[32];
    IS(fentry_symbol_at((uint64_t)add + 4, &symbol), NONE);
    CHECK(same(symbol.name, symbol.length, "add") && symbol.address == (uint64_t)add && symbol.size > 4);
    IS(fentry_symbol_at(0x10, &symbol), NOT_FOUND);
    IS(fentry_symbol_at((uint64_t)add, NULL), NULL_POINTER);
    CHECK(fentry_format_address(0x10, text, sizeof text) == 4 && same(text, 4, "0x10"));
    size_t length = fentry_format_address((uint64_t)add, text, sizeof text);
    CHECK(length > 10 && length < sizeof text && begins_with(text, length, "add+0x0/0x"));
    return 1;
}

static uint8_t ring_memory[2 * FENTRY_RING_BLOCK_BYTES] FENTRY_ALIGNED(64);
static uint8_t profile_memory[16 * FENTRY_PROFILE_BYTES] FENTRY_ALIGNED(64);
static size_t dumped;

static int take(void *context, const void *bytes, size_t length)
{
    (void)bytes;
    if (context)
        return -1;
    dumped += length;
    return 0;
}

static uint32_t task_seven(void *context)
{
    (void)context;
    return 7;
}

static int a_session_records_and_is_dumped(void)
{
    static struct fentry_ring ring;
    static struct fentry_ring *const rings[] = { &ring };
    static struct fentry_recording recording = { FENTRY_RECORDING_INIT, .rings = rings, .cpus = 1 };
    static struct fentry_recording bare;
    const struct fentry_task task = { 7, "seven" }, no_name = { 7, NULL };
    struct fentry_ring_counts counts;
    size_t functions = 0;
    IS(fentry_session_dump(take, NULL, NULL, 0), NOT_REGISTERED);
    IS(fentry_session_print(NULL, 0), NOT_REGISTERED);
    IS(fentry_session_start(NULL, "", NULL), NULL_POINTER);
    IS(fentry_session_start(&bare, "", NULL), WRONG_SIZE);
    IS(fentry_session_start(&recording, "", NULL), NOT_SET_UP);
    IS(fentry_ring_counts_of(&ring, &counts), NOT_SET_UP);
    IS(fentry_ring_init(NULL, ring_memory, sizeof ring_memory, 0), NULL_POINTER);
    IS(fentry_ring_init(&ring, NULL, sizeof ring_memory, 0), NULL_POINTER);
    IS(fentry_ring_init(&ring, ring_memory + 8, sizeof ring_memory - 8, 0), MEMORY_SIZE);
    IS(fentry_ring_init(&ring, ring_memory, FENTRY_RING_BLOCK_BYTES, 0), MEMORY_SIZE);
    IS(fentry_ring_init(&ring, ring_memory, sizeof ring_memory, 2), BAD_VALUE);
    IS(fentry_ring_init(&ring, ring_memory, sizeof ring_memory, FENTRY_RING_MODE_STOP), NONE);
    recording.cpus = 0;
    IS(fentry_session_start(&recording, "", NULL), BAD_VALUE);
    recording.cpus = 1;
    recording.task = task_seven;
    IS(fentry_session_start(&recording, NULL, NULL), NULL_POINTER);
    IS(fentry_session_start(&recording, "tracer=grph", NULL), BAD_WORD);
    IS(fentry_session_start(&recording, "filter=nobody", NULL), NOTHING_SELECTED);
    IS(fentry_session_stop(NULL), NOT_REGISTERED);
    IS(fentry_session_start(&recording, "console=uart tracer=function args=2 filter=add", &functions), NONE);
    CHECK(functions == 1);
    IS(fentry_session_start(&recording, "", NULL), ALREADY_REGISTERED);
    CHECK(add_twice(1, 2) == 5);
    IS(fentry_session_stop(&functions), NONE);
    CHECK(functions == 1);
    IS(fentry_ring_counts_of(&ring, &counts), NONE);
    CHECK(counts.kept == 2 && counts.read == 0 && counts.lost == 0);
    IS(fentry_session_dump(NULL, NULL, NULL, 0), NULL_POINTER);
    IS(fentry_session_dump(take, NULL, NULL, 1), NULL_POINTER);
    IS(fentry_session_dump(take, NULL, &no_name, 1), NULL_POINTER);
    IS(fentry_session_dump(take, &ring, &task, 1), WRITE_FAILED);
    dumped = 0;
    IS(fentry_session_dump(take, NULL, &task, 1), NONE);
    CHECK(dumped > 100);
    IS(fentry_ring_counts_of(&ring, &counts), NONE);
    CHECK(counts.kept == 0 && counts.read == 2);
    size_t without_profile = dumped;
    recording.profile = profile_memory;
    recording.profile_bytes = sizeof profile_memory;
    IS(fentry_session_start(&recording, "tracer=profile filter=add*", &functions), NONE);
    CHECK(functions == 2 && add_twice(1, 2) == 5);
    IS(fentry_session_stop(NULL), NONE);
    dumped = 0;
    IS(fentry_session_dump(take, NULL, &task, 1), NONE);
    /* Two functions of 64 bytes, and no records. */
    CHECK(dumped >= 2 * 64 && dumped != without_profile);
    size_t before = printed;
    IS(fentry_session_print(&task, 1), NONE);
    CHECK(printed > before + 2 * dumped);
    return 1;
}

static int registration_takes_little_stack(void)
{
    static struct fentry_ops ops = { FENTRY_OPS_INIT, .kind = FENTRY_KIND_COUNTER };
    const struct fentry_rule by_glob[] = { FENTRY_RULE("add*"), FENTRY_RULE("!multiply") };
    uint64_t sp = paint_stack();
    IS(fentry_register(&ops, by_glob, 2, NULL), NONE);
    IS(fentry_set_filter(&ops, only_add, 1, NULL), NONE);
    IS(fentry_unregister(&ops, NULL), NONE);
    uint64_t used = stack_used(sp);
    print("  ");
    print_number(used);
    print(" bytes of stack\n");
    CHECK(used > 200 && used <= 2048);
    return 1;
}

static int errors_have_names_and_texts(void)
{
    CHECK(same(fentry_error_name(FENTRY_ERROR_NO_ROOM), 20, "FENTRY_ERROR_NO_ROOM"));
    CHECK(same(fentry_error_name(FENTRY_ERROR_WRITE_FAILED), 25, "FENTRY_ERROR_WRITE_FAILED"));
    CHECK(same(fentry_error_name(4711), 20, "FENTRY_ERROR_UNKNOWN"));
    CHECK(fentry_error_text(FENTRY_ERROR_NO_ROOM)[0] && fentry_error_text(4711)[0]);
    return 1;
}

#ifdef __ARM_NEON

TRACED double sum_of_doubles(double a, double b)
{
    __asm__ volatile("" : "+w"(a), "+w"(b));
    return a + b;
}

static void use_simd(uint64_t ip, uint64_t parent_ip, struct fentry_ops *ops, struct fentry_regs *regs)
{
    (void)ip, (void)parent_ip, (void)ops, (void)regs;
    __asm__ volatile("movi v0.2d, #0\n movi v1.2d, #0" : : : "v0", "v1");
}

static int arguments_in_simd_registers_arrive(void)
{
    static struct fentry_ops ops = { FENTRY_OPS_INIT, .callback = use_simd };
    const struct fentry_rule rule = FENTRY_RULE_FUNCTION(sum_of_doubles);
    IS(fentry_register(&ops, &rule, 1, NULL), NONE);
    CHECK(sum_of_doubles(1.5, 2.25) == 3.75);
    IS(fentry_unregister(&ops, NULL), NONE);
    return 1;
}

#endif

static int text_can_be_given_back(void)
{
    const struct fentry_range range = { (uint64_t)multiply, (uint64_t)multiply + 4 };
    size_t functions = 0;
    IS(fentry_forget(&range, &functions), NONE);
    CHECK(functions == 1 && multiply(2, 3) == 6);
    const struct fentry_rule rule = FENTRY_RULE_FUNCTION(multiply);
    IS(fentry_register(&looking, &rule, 1, NULL), NOTHING_SELECTED);
    struct fentry_text_check check;
    IS(fentry_check_text(&check), NONE);
    CHECK(check.enabled == 0 && check.wrong == 0 && check.quarantined == 0 && fentry_look_again() == 0);
    return 1;
}

/* In this order. */
#define CASE(name) { #name, name }
static const struct {
    const char *name;
    int (*run)(void);
} cases[] = {
    CASE(errors_have_names_and_texts),
    CASE(before_init_everything_is_refused),
    CASE(a_context_must_be_initialised),
    CASE(a_platform_that_is_wrong_is_refused),
    CASE(init_that_failed_can_be_tried_again),
    CASE(a_callback_sees_its_call),
    CASE(a_callback_changes_its_call),
    CASE(all_registers_are_saved_where_asked_for),
    CASE(a_probe_sees_entry_and_exit),
    CASE(a_full_shadow_stack_is_counted),
    CASE(rules_select_by_name_glob_and_address),
    CASE(a_counter_counts_over_all_its_registrations),
    CASE(registration_takes_little_stack),
    CASE(an_ops_that_is_wrong_is_refused),
    CASE(handlers_of_interrupts_have_a_level_of_their_own),
    CASE(names_are_found_for_addresses),
    CASE(a_session_records_and_is_dumped),
#ifdef __ARM_NEON
    CASE(arguments_in_simd_registers_arrive),
#endif
    CASE(text_can_be_given_back),
};

int main(void)
{
    const uint64_t count = sizeof cases / sizeof cases[0];
    uint64_t failed = 0;
    __asm__ volatile("msr tpidr_el1, %0" : : "r"(&cpu));
    print("running ");
    print_number(count);
    print(" tests\n");
    for (uint64_t i = 0; i < count; i++) {
        print("test ");
        print(cases[i].name);
        print(" ...\n");
        int passed = cases[i].run();
        print(passed ? "ok\n" : "FAILED\n");
        failed += !passed;
    }
    print(failed ? "test result: FAILED. " : "test result: ok. ");
    print_number(count - failed);
    print(" passed; ");
    print_number(failed);
    print(" failed\n");
    leave(failed != 0);
}
