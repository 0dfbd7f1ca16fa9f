//! The extent status tree.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use fentry::engine::RegisterError;
use fentry::inject::Injection;
use patients::extents::{Extents, RIGHT, UNWRITTEN_DELAYED, WRITTEN, WRONG, allocating, freeing};
use patients::lifetimes::{self, Watched};
use patients::loaded::Loaded;
use patients::trace::Trace;
use spin::Mutex;
use support::{engine, smp};

use crate::loaded;

/// Attaches an injection to all that the module lists, of which there is one function.
fn attach(injection: &'static Injection, module: &Loaded) -> Result<(), RegisterError> {
    let (engine, _) = engine();
    module.with_injectables(|list| {
        let [site] = &list.collect::<Vec<_>>()[..] else { panic!("the module lists one function") };
        assert_eq!(site.name(), "extents::slab::try_allocate");
        injection.attach(engine, [site])
    })
}

pub(crate) fn the_tree_says_what_a_map_of_every_block_says() -> Result<(), String> {
    static FAILING: Injection = Injection::new();
    static RESULTS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let steps = if cfg!(debug_assertions) { 100 } else { 600 };
    let module = loaded(RIGHT);
    // SAFETY: 1. It is that module, and unloaded at the end.
    let tree = unsafe { Extents::of(&module) };
    let work = || {
        smp::on_all(|cpu| {
            if let Err(error) = tree.work(cpu % 4, steps) {
                RESULTS.lock().push(format!("CPU {cpu}: {error}"));
            }
        });
    };
    work();
    assert_eq!(tree.waited(), 0);
    // And where every third allocation fails.
    FAILING.set_probability(100);
    FAILING.set_interval(3);
    attach(&FAILING, &module).map_err(|error| error.to_string())?;
    work();
    FAILING.detach(engine().0).map_err(|error| error.to_string())?;
    assert!(FAILING.failures() > 50, "{} have failed", FAILING.failures());
    assert_eq!(*RESULTS.lock(), Vec::<String>::new());
    assert_eq!((tree.nodes(), tree.wrong_frees()), (0, 0));
    assert!(tree.waited() > 10, "{} have waited", tree.waited());
    // SAFETY: 1. It is used no more.
    unsafe { module.unload() };
    Ok(())
}

/// The report's insertion, with memory that fails or not, under the checker of lifetimes: what it has seen, and how often
/// memory has failed.
fn report(module: &Loaded, injection: &'static Injection, fails: bool) -> Result<(Watched, u64), RegisterError> {
    let (engine, _) = engine();
    let before = injection.failures();
    // SAFETY: 1. It is that module, in either build, and stays loaded until this returns.
    let tree = unsafe { Extents::of(module) };
    lifetimes::watch(engine, &allocating(module.name()), &freeing(module.name()))?;
    injection.set_probability(if fails { 100 } else { 0 });
    // The node of the first insertion is to be had.
    injection.set_space(1);
    injection.set_times(Some(1));
    attach(injection, module)?;
    tree.report();
    injection.detach(engine)?;
    let kept = [tree.lookup(0, 0), tree.lookup(0, 5), tree.lookup(0, 9), tree.lookup(0, 10)];
    let expected = [100, 105, 109].map(|physical| Some((UNWRITTEN_DELAYED, physical)));
    assert_eq!(kept, [expected[0], expected[1], expected[2], None]);
    assert!(tree.is_right(0));
    tree.clear(0);
    Ok((lifetimes::stop(engine)?, injection.failures() - before))
}

pub(crate) fn the_right_tree_is_clean_where_the_wrong_one_is_not() -> Result<(), RegisterError> {
    static INJECTION: Injection = Injection::new();
    // (the module, whether memory fails): what is wrong.
    for (name, fails, wrong) in [(RIGHT, false, 0), (RIGHT, true, 0), (WRONG, false, 0), (WRONG, true, 1)] {
        let module = loaded(name);
        let (watched, failures) = report(&module, &INJECTION, fails)?;
        assert_eq!(failures, u64::from(fails), "{name}");
        assert_eq!((watched.found.len(), watched.alive), (wrong, 0), "{name}, {fails}: {watched:#?}");
        // Without the failure: the extent, and the right part of the split. With it, the insertion's spare node as well.
        assert_eq!(watched.objects, if fails { 3 } else { 2 }, "{name}, {fails}");
        // SAFETY: 1. It is used no more.
        unsafe { module.unload() };
    }
    Ok(())
}

/// Whether the trace is sure, and leads from the slab's function through the tree to this kernel's.
fn check(trace: &Trace, from: &str, through: &[&str]) -> Result<(), String> {
    let functions: Vec<String> = trace.functions().collect();
    let module = format!("[{WRONG}]");
    let is_of_module = |name: &&String| name.ends_with(&module);
    let in_module = functions.iter().take_while(is_of_module).count();
    let goes_through = through.iter().all(|name| functions[..in_module].iter().any(|function| function.contains(name)));
    let is_outside = functions[in_module..].iter().all(|function| !function.contains('['));
    let kernel = functions.get(in_module).map(String::as_str).unwrap_or_default();
    if trace.is_reliable()
        && functions[0].starts_with(from)
        && goes_through
        && is_outside
        && kernel.contains("patients")
    {
        return Ok(());
    }
    Err(format!("from {from} through {through:?}: {trace}"))
}

pub(crate) fn the_use_after_free_is_found_with_three_sure_traces() -> Result<(), String> {
    static INJECTION: Injection = Injection::new();
    let module = loaded(WRONG);
    let (watched, _) = report(&module, &INJECTION, true).map_err(|error| error.to_string())?;
    let [found] = &watched.found[..] else { return Err(format!("{} were found", watched.found.len())) };
    // The spare node, for which the insertion has waited; freed where the insertion joins it with its neighbour; and freed
    // once more, by who takes it for unused.
    check(&found.allocated, "extents::slab::allocate", &["extents_insert"])?;
    check(&found.freed, "extents::slab::free", &["Tree::insert", "extents_insert"])?;
    check(&found.touched, "extents::slab::free", &["free_if_unused", "extents_insert"])?;
    let text = found.to_string();
    assert!(["touched on CPU", "allocated on CPU", "freed on CPU"].iter().all(|part| text.contains(part)), "{text}");
    // SAFETY: 1. It is used no more.
    unsafe { module.unload() };
    Ok(())
}

pub(crate) fn an_injection_is_let_go_with_its_module() -> Result<(), RegisterError> {
    static INJECTION: Injection = Injection::new();
    let (engine, _) = engine();
    let callsites = engine.check_text();
    INJECTION.set_probability(100);
    let module = loaded(RIGHT);
    attach(&INJECTION, &module)?;
    // SAFETY: 1. Nothing of it was called.
    unsafe { module.unload() };
    assert_eq!(engine.check_text(), callsites);

    // The same, and then another one, in the same place: neither gets what was attached to the first.
    for name in [RIGHT, WRONG] {
        let module = loaded(name);
        // SAFETY: 1. It is that module, in either build, and stays loaded as long as this is used.
        let tree = unsafe { Extents::of(&module) };
        tree.insert(0, 0, 10, WRITTEN, 100);
        assert_eq!((tree.nodes(), INJECTION.failures()), (1, 0), "{name}");
        assert_eq!(attach(&INJECTION, &module), Err(RegisterError::AlreadyRegistered));
        tree.clear(0);
        // SAFETY: 1. It is used no more.
        unsafe { module.unload() };
    }
    INJECTION.detach(engine)?;

    // And again, where it is attached.
    let module = loaded(RIGHT);
    attach(&INJECTION, &module)?;
    // SAFETY: 1. It is that module, and stays loaded as long as this is used.
    let tree = unsafe { Extents::of(&module) };
    // It need not be kept, and is left out.
    tree.insert(0, 0, 10, WRITTEN, 100);
    assert_eq!((tree.nodes(), INJECTION.failures()), (0, 1));
    INJECTION.detach(engine)?;
    // SAFETY: 1. It is used no more.
    unsafe { module.unload() };
    assert_eq!(engine.check_text(), callsites);
    Ok(())
}
