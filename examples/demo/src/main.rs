//! What fentry does, shown on a kernel's console: `cargo xtask demo`; and a kernel to trace: `cargo xtask trace`.
#![no_std]
#![no_main]

extern crate alloc;

mod recorder;
mod tracing;
mod workload;

use alloc::string::String;
use alloc::vec::Vec;
use core::hint::black_box;
use fentry::engine::{InitReport, RegisterError};
use fentry::{Engine, Filter, FtraceRegs, Ops, OpsFlags, Rule, Symbols, TextAddr};
use support::{count, println};

support::kernel!(demo);

fn demo() {
    match tracing::run() {
        Ok(true) => {}
        Ok(false) => show(),
        Err(error) => {
            println!("{error}");
            support::harness::exit(1);
        }
    }
}

/// The show on the console.
fn show() {
    // Once for all, so that what is counted below is the engine's work alone.
    let counter = count::start();
    let (engine, report) = support::engine();
    let instructions = counter.map(|counter| counter.instructions());
    introduce(report, instructions);
    let Some(symbols) = engine.symbols() else {
        println!("This kernel was linked without its symbol table: build it with `cargo xtask demo`.");
        return;
    };
    let outcome = trace_the_workload(engine, symbols)
        .and_then(|()| look_at_the_callers(engine))
        .and_then(|()| change_an_argument(engine))
        .and_then(|()| replace_a_function(engine))
        .and_then(|()| count_everything(engine, symbols));
    if let Err(error) = outcome {
        println!("{error}");
        support::harness::exit(1);
    }
}

/// A headline.
fn title(text: &str) {
    println!("\n== {text}");
}

fn introduce(report: InitReport, instructions: Option<u32>) {
    let counts = report.counts;
    title("fentry: this kernel can trace its own functions");
    println!("   {:>6} callsites, of {} entries in the kernel's table", counts.accepted, {
        counts.accepted + counts.excluded + counts.refused
    });
    println!("   {:>6} begin with BTI C, {} have room for a literal", counts.with_landing_pad, counts.with_literal);
    println!("   {:>6} left alone: the engine's own functions", counts.excluded);
    println!("   {:>6} refused", counts.refused);
    println!("   {:>6} names", report.symbols);
    match instructions.zip(u32::try_from(counts.accepted).ok()) {
        Some((all, callsites)) if callsites > 0 => {
            println!("   init took {all} instructions, {} a callsite", all / callsites);
        }
        _ => println!("   (init's instructions can be counted under -icount only)"),
    }
}

fn trace_the_workload(engine: &Engine, symbols: Symbols<'static>) -> Result<(), RegisterError> {
    static TRACER: Ops = Ops::new(recorder::record);
    let rules = ["demo::workload::*", "*alloc::*", "*core::*", "!*support::*"].map(|text| Rule::parse(text).ok());
    let rules: Vec<Rule<'_>> = rules.into_iter().flatten().collect();

    title("A trace of counting words: sorting, a tree, formatting");
    let expected = workload::report(workload::TEXT);
    let traced = engine.register(&TRACER, &Filter::new(&rules))?;
    let report = workload::report(workload::TEXT);
    engine.unregister(&TRACER)?;

    println!("# tracer: function");
    println!("#");
    println!("# entries-in-buffer/entries-written: {0}/{0}   #P:1   filter: {traced} functions", recorder::recorded());
    println!("#");
    println!("#           TASK-PID     CPU#     TIMESTAMP  FUNCTION(x0, x1, x2)");
    println!("#              | |         |         |         |");
    let (first, last) = (16, 12);
    let between = first..recorder::recorded().saturating_sub(last);
    for (number, call) in recorder::calls().enumerate() {
        if number == between.start {
            println!("   ... {} more calls ...", between.len());
        }
        if between.contains(&number) {
            continue;
        }
        let name = |addr| symbols.lookup_addr(addr).map_or(String::new(), |found| short(found.symbol.name));
        let [x0, x1, x2] = call.arguments;
        println!(
            "            demo-1       [000] {:>6}.{:06}: {}({x0:#x}, {x1:#x}, {x2:#x}) <-{}",
            call.time_ns / 1_000_000_000,
            call.time_ns / 1_000 % 1_000_000,
            name(call.ip),
            name(call.parent_ip - 4),
        );
    }
    println!("   the workload said: {report}");
    println!("   the same as without a tracer: {}", yes_or_no(report == expected));
    recorder::clear();
    Ok(())
}

fn look_at_the_callers(engine: &Engine) -> Result<(), RegisterError> {
    extern "C" fn look_back(_: TextAddr, _: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
        support::backtrace::print_of_call(&regs);
    }
    static LOOK_BACK: Ops = Ops::new(look_back);

    title("Who calls it: each frame is compared with the unwind table, and one that may be wrong has a ?");
    engine.register(&LOOK_BACK, &Filter::new(&[Rule::name("demo::workload::price")]))?;
    workload::price(black_box(4), 25);
    engine.unregister(&LOOK_BACK).map(drop)
}

fn change_an_argument(engine: &Engine) -> Result<(), RegisterError> {
    extern "C" fn buy_one_get_one_free(_: TextAddr, _: TextAddr, _: &'static Ops, mut regs: FtraceRegs<'_>) {
        let quantity = regs.argument(0).unwrap_or(0);
        // SAFETY: `price` takes any quantity.
        unsafe { regs.set_argument(0, quantity.div_ceil(2)) };
    }
    static DISCOUNT: Ops = Ops::new(buy_one_get_one_free);

    title("A callback changes an argument");
    println!("   price(4, 25) = {}", workload::price(black_box(4), 25));
    engine.register(&DISCOUNT, &Filter::new(&[Rule::name("demo::workload::price")]))?;
    println!("   price(4, 25) = {}   with a callback that halves the quantity", workload::price(black_box(4), 25));
    engine.unregister(&DISCOUNT)?;
    println!("   price(4, 25) = {}   without it", workload::price(black_box(4), 25));
    Ok(())
}

fn replace_a_function(engine: &Engine) -> Result<(), RegisterError> {
    extern "C" fn load_the_die(_: TextAddr, _: TextAddr, _: &'static Ops, mut regs: FtraceRegs<'_>) {
        let replacement = workload::loaded_roll as extern "C" fn(u64) -> u64;
        // SAFETY: the ops has IPMODIFY, and both functions have the same signature.
        unsafe { regs.set_pc(TextAddr::new((replacement as *const ()).addr() as u64)) };
    }
    extern "C" fn answer(_: TextAddr, _: TextAddr, _: &'static Ops, mut regs: FtraceRegs<'_>) {
        // SAFETY: the ops has IPMODIFY, and `roll` returns a number.
        unsafe { regs.return_early(1000) };
    }
    static LOADED: Ops = Ops::new(load_the_die).with_flags(OpsFlags::IPMODIFY);
    static ANSWERED: Ops = Ops::new(answer).with_flags(OpsFlags::IPMODIFY);

    title("A function is replaced, and one is answered for");
    let rules = [Rule::name("demo::workload::roll")];
    println!("   roll(6) = {}", workload::roll(black_box(6)));
    engine.register(&LOADED, &Filter::new(&rules))?;
    println!("   roll(6) = {}      with loaded_roll in its place", workload::roll(black_box(6)));
    engine.unregister(&LOADED)?;
    engine.register(&ANSWERED, &Filter::new(&rules))?;
    println!("   roll(6) = {}   without running at all", workload::roll(black_box(6)));
    engine.unregister(&ANSWERED)?;
    println!("   roll(6) = {}      as it was", workload::roll(black_box(6)));
    Ok(())
}

fn count_everything(engine: &Engine, symbols: Symbols<'static>) -> Result<(), RegisterError> {
    static COUNTER: Ops = Ops::new(recorder::count);

    title("Every callsite at once, counting");
    let before = support::memory::copy_of_text();
    let counter = count::start();
    let enabled = engine.register(&COUNTER, &Filter::ALL)?;
    let to_enable = counter.map(|counter| counter.instructions() as usize / enabled);
    let check = engine.check_text();
    let report = workload::report(workload::TEXT);
    let disabled = engine.unregister(&COUNTER)?;
    println!("   {} callsites enabled, {} wrong; the workload still says: {report}", check.enabled, check.wrong);
    if let Some(instructions) = to_enable {
        println!("   enabling took {instructions} instructions a callsite, names included");
    }

    let mut ranking = Vec::new();
    engine.for_each_callsite(|status| ranking.push(status.callsite.call_addr()));
    ranking.sort_by_key(|ip| core::cmp::Reverse(recorder::hits(*ip)));
    println!("   the busiest functions:");
    for ip in ranking.iter().take(8) {
        let name = symbols.lookup_addr(ip.get()).map_or("?", |found| found.symbol.name);
        println!("   {:>6} {}", recorder::hits(*ip), short(name));
    }

    title("And off again");
    let check = engine.check_text();
    println!("   {disabled} callsites disabled; {} enabled, {} wrong", check.enabled, check.wrong);
    let same = support::memory::copy_of_text() == before;
    println!("   the text of this kernel is bit for bit as before: {}", yes_or_no(same));
    if !same || check.enabled + check.wrong > 0 {
        support::harness::exit(1);
    }
    Ok(())
}

/// A name without its generic arguments: `<alloc::vec::Vec<u8>>::push` as `alloc::vec::Vec::push`.
fn short(name: &str) -> String {
    let mut short = String::new();
    let mut depth = 0_usize;
    for c in name.chars() {
        // The brackets around a whole type, at the start, hold the name itself.
        let around_all = depth == 0 && short.is_empty();
        match c {
            '<' if around_all => {}
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ if depth == 0 => short.push(c),
            _ => {}
        }
    }
    short.replace("::::", "::").trim_end_matches("::").into()
}

fn yes_or_no(answer: bool) -> &'static str {
    if answer { "yes" } else { "NO" }
}
