use super::{assemble, with_program};
use crate::rules::{Counted, Depths};

/// What a function of a source takes with all that it calls; with a `+` where that is the least.
fn depths(source: &str, counted: Counted, look: impl FnOnce(&dyn Fn(&str) -> String)) {
    with_program(assemble(source), |flow, cfi| {
        let depths = Depths::of(flow, cfi, counted);
        look(&|name| {
            let depth = depths.depth(flow.program().function_named(name).unwrap());
            format!("{}{}", depth.bytes, if depth.is_bounded { "" } else { "+" })
        });
    });
}

const LEAVES: &str = "
    function leaf; sub sp, sp, #64; str x0, [sp]; add sp, sp, #64; ret; end leaf
    function flat; ret; end flat
    function tail; b leaf; end tail
";

/// A function with a frame of 32 bytes that does this.
fn f(name: &str, code: &str) -> String {
    format!(
        "function {name}; stp x29, x30, [sp, #-32]!; mov x29, sp; {code}; ldp x29, x30, [sp], #32; ret; end {name}\n"
    )
}

#[test]
fn a_chain_adds_what_is_taken_at_each_call() {
    let source = [
        LEAVES,
        &f("one", "bl leaf"),
        &f("two", "bl flat; bl one; bl tail"),
        // Lowest not where it calls, and called where it is not lowest.
        &f("beside", "sub sp, sp, #256; add sp, sp, #256; bl leaf"),
        // A frame that a loop takes page by page.
        "function large; sub x9, sp, #8, lsl #12; 1: sub sp, sp, #4, lsl #12; str xzr, [sp]; cmp sp, x9; b.ne 1b
         add sp, sp, #8, lsl #12; ret; end large",
    ];
    depths(&source.concat(), Counted::All, |of| {
        let found = ["leaf", "flat", "tail", "one", "two", "beside", "large"].map(of);
        assert_eq!(found, ["64", "0", "64", "96", "128", "288", "32768"]);
    });
}

#[test]
fn what_has_no_bound_says_so_to_all_its_callers() {
    let source = [
        LEAVES,
        &f("by_register", "blr x1; bl leaf"),
        &f("outside", "bl other"),
        &f("itself", "cbz x0, 1f; bl itself; 1: bl leaf"),
        &f("ping", "bl pong"),
        &f("pong", "cbz x0, 1f; bl ping; 1: bl flat"),
        &f("dynamic", "sub sp, sp, x0; mov sp, x29"),
        &f("caller", "bl dynamic"),
    ];
    let source = source.concat();
    depths(&source, Counted::All, |of| {
        let found = ["by_register", "outside", "itself", "ping", "pong", "dynamic", "caller"].map(of);
        assert_eq!(found, ["96+", "32+", "96+", "32+", "32+", "32+", "64+"]);
    });
    with_program(assemble(&source), |flow, cfi| {
        let program = flow.program();
        let depths = Depths::of(flow, cfi, Counted::All);
        let why = |name: &str| {
            let unbounded = depths.unbounded(flow, program.function_named(name).unwrap());
            unbounded.iter().map(|why| format!("{}: {why}", program.place(why.at()))).collect::<Vec<_>>()
        };
        let expected = |place: &str, text: &str| {
            let found = why(place.split('+').next().unwrap());
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(place) && found[0].ends_with(text), "{found:?}");
        };
        expected("by_register+0x8", "a register says what is called");
        expected("outside+0x8", "another file has other");
        expected("itself+0xc", "the call leads back here");
        assert_eq!(why("ping").len(), 2);
        assert!(why("caller")[0].starts_with("dynamic+0xc"), "{:?}", why("caller"));
        assert!(why("leaf").is_empty());
    });
}

#[test]
fn a_hash_says_whom_a_register_may_reach() {
    let source = [
        LEAVES,
        &f(
            "checked",
            "ldr x8, [x0]; ldur w16, [x8, #-4]; movk w17, #1; movk w17, #2, lsl #16; cmp w16, w17; b.eq 1f
             brk #0x8228; 1: blr x8",
        ),
        ".word 0x20001\n function deep; sub sp, sp, #512; add sp, sp, #512; ret; end deep
         .word 0x20002\n function deeper; sub sp, sp, #1024; add sp, sp, #1024; ret; end deeper
         .data\n .quad deep, deeper\n",
    ];
    depths(&source.concat(), Counted::All, |of| assert_eq!(of("checked"), "544"));
    // Nobody whose address is taken has it.
    let nobody = source.concat().replace(".quad deep, deeper", ".quad deeper");
    depths(&nobody, Counted::All, |of| assert_eq!(of("checked"), "32+"));
}

#[test]
fn calls_that_do_not_come_back_can_be_left_out() {
    let source = [
        LEAVES,
        &f("panics", "cbz x0, 1f; bl panic; 1: bl flat"),
        "function panic; sub sp, sp, #512; blr x1; 1: b 1b; end panic",
    ];
    depths(&source.concat(), Counted::All, |of| assert_eq!(of("panics"), "544+"));
    depths(&source.concat(), Counted::Returning, |of| assert_eq!(of("panics"), "32"));
    // What never returns calls nobody else.
    let source = [&source.concat(), "\nfunction main; sub sp, sp, #16; bl panic; end main"].concat();
    depths(&source, Counted::Returning, |of| assert_eq!(of("main"), "528+"));
}

#[test]
fn chains_that_are_too_deep_are_found_with_the_way_there() {
    let source = [LEAVES, &f("top", "bl middle"), &f("middle", "bl tail"), ".data\n .quad middle"].concat();
    with_program(assemble(&source), |flow, cfi| {
        let program = flow.program();
        let depths = Depths::of(flow, cfi, Counted::All);
        let names: Vec<&str> = depths.entries().iter().map(|entry| program.name(*entry)).collect();
        assert_eq!(names, ["top", "middle", "flat"]);
        let found = |limit| depths.deeper_than(limit, &depths.entries());
        assert_eq!([127, 128, 95, 96].map(|limit| found(limit).len()), [1, 0, 2, 1]);
        let [top] = &found(127)[..] else { panic!("{:?}", found(127)) };
        assert_eq!(top.rule.id(), "stack-depth");
        let path: Vec<String> =
            top.path.iter().map(|step| format!("{} {}", program.place(step.at), step.text)).collect();
        let starts = ["top+0x8", "middle+0x8", "tail+0x0", "leaf+0x0"];
        let ends = ["32 bytes", "32 bytes", "0 bytes", "64 bytes"];
        assert_eq!(path.len(), 4, "{path:?}");
        for (step, (start, end)) in path.iter().zip(starts.iter().zip(ends)) {
            assert!(step.starts_with(start) && step.ends_with(end), "{path:?}");
        }
    });
}
