//! Two real subsystems under fentry, shown on a kernel's console: `cargo xtask demo --kernel patients`.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::error::Error;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use fentry::inject::{Failure, Injection, fail_nth};
use fentry::record::times::CallTimes;
use fentry::tracer::kernel::StoreIn;
use fentry::tracer::latency::{Bucket, Histogram, Latency};
use fentry::tracer::ticks_per_second;
use fentry::{Engine, Filter, Ops, Rule};
use patients::container::driver::{COUNT, Seen};
use patients::container::{self, MAP, NAME, UNMAP, User, Watching, bus};
use patients::extents::{Extents, RIGHT, WRONG, allocating, freeing};
use patients::graph::{GRAPH, take_calls};
use patients::lifetimes::{self, Watched};
use patients::loaded::{Loaded, function_at};
use spin::Mutex;
use support::{percpu, print, println, smp};

support::kernel!(show);

const THE_REPORT: &str = "   \
   It takes three things: delayed blocks, which must not be forgotten; an insertion into their middle that goes on in
   status and on the device; and memory that fails when it splits them. The third is what nobody meets in a test, and
   what an injection on the module's `try_allocate` brings about: its second call fails, once. Hooks on the functions
   that allocate and free take down who called them.";

const THE_BUG: &str = "   \
   The spare node that was allocated goes into the tree, as the right part of the split. The insertion joins it with
   its neighbour and frees it. Then its length is looked at, to see whether it was used; and it is freed again.";

type Shown = Result<(), Box<dyn Error>>;

fn show() {
    // SAFETY: 1. It is the first that this kernel does.
    let cpus = unsafe { patients::prepare() };
    let (engine, _) = support::engine();
    println!("Two subsystems of Linux, rebuilt in Rust, are loaded as modules into this kernel of {cpus} CPUs.");
    println!("Nothing in them knows of fentry, which looks at them and makes them fail while they run.");
    let shown = show_the_tree(engine).and_then(|()| show_the_container(engine));
    if let Err(error) = shown {
        println!("{error}");
        support::harness::exit(1);
    }
}

/// A headline.
fn title(text: &str) {
    println!("\n== {text}");
}

fn show_the_tree(engine: &Engine) -> Shown {
    title("A: ext4's extent status tree. What is known of each range of a file's blocks");
    let module = Loaded::new(RIGHT)?;
    // SAFETY: 1. It is that module, and unloaded at the end.
    let tree = unsafe { Extents::of(&module) };
    println!("   module {}: {} functions that can be traced", module.name(), module.functions());
    let wrong = Mutex::new(Vec::<String>::new());
    smp::on_all(|cpu| {
        if let Err(error) = tree.work(cpu % 4, 300) {
            wrong.lock().push(error);
        }
    });
    let wrong = wrong.into_inner();
    println!("   300 random operations on each CPU, beside a map of every block: {} differences", wrong.len());
    if let Some(first) = wrong.into_iter().next() {
        return Err(first.into());
    }
    // SAFETY: 1. It is used no more.
    unsafe { module.unload() };

    title("A bug report: \"KASAN: slab-use-after-free Read in ext4_es_insert_extent\"");
    println!("{THE_REPORT}");
    for (name, said) in [(RIGHT, "as it should be"), (WRONG, "with the bug of the report")] {
        println!("\n   The module {said}:");
        let found = report(engine, name)?;
        if found != usize::from(name == WRONG) {
            return Err(format!("{found} uses after free were found").into());
        }
    }
    println!("\n{THE_BUG}");
    Ok(())
}

/// The report's insertion, with the one allocation failing, under the checker of lifetimes. Returns how many uses after free were
/// found.
fn report(engine: &Engine, name: &'static str) -> Result<usize, Box<dyn Error>> {
    static INJECTION: Injection = Injection::new().with_name("no memory").with_report(|failure| {
        let Failure { function, parent_ip, .. } = failure;
        // Nobody waits for this callback with the engine's lock, which the name is looked up under.
        println!("   made to fail: {}, called by {}", function.name(), function_at(parent_ip.get() - 4));
    });
    let module = Loaded::new(name)?;
    // SAFETY: 1. It is that module, in either build, and unloaded at the end.
    let tree = unsafe { Extents::of(&module) };
    lifetimes::watch(engine, &allocating(name), &freeing(name))?;
    INJECTION.set_probability(100);
    INJECTION.set_space(1);
    INJECTION.set_times(Some(1));
    module.with_injectables(|list| match list.next() {
        Some(site) => INJECTION.attach(engine, [&site]).map_err(Box::<dyn Error>::from),
        None => Err("the module lists nothing that may fail".into()),
    })?;
    tree.report();
    INJECTION.detach(engine)?;
    tree.clear(0);
    let Watched { objects, alive, found } = lifetimes::stop(engine)?;
    println!("   {objects} nodes watched, {alive} left at the end, used after they were freed: {}", found.len());
    found.iter().for_each(|found| print!("   {found}"));
    // SAFETY: 1. It is used no more.
    unsafe { module.unload() };
    Ok(found.len())
}

fn show_the_container(engine: &'static Engine) -> Shown {
    title("B: an IOMMU container of VFIO. A user's pages, mapped for devices");
    let module = Loaded::new(NAME)?;
    // SAFETY: 1. It is that module, and unloaded when the driver was taken out, at the end.
    unsafe { container::put_driver_in_use(engine, &module) }?;
    // SAFETY: 1. As above.
    let users: Vec<User> = (0..COUNT).map(|number| unsafe { User::of(&module, number) }).collect();
    println!("   module {}: {} functions that can be traced", module.name(), module.functions());
    show_a_mapping(engine, users[0])?;
    fail_every_step(engine, &module, users[0])?;
    time_all(engine, &users)?;
    replace_the_driver(engine, &module, &users)?;
    container::take_driver_out();
    // SAFETY: 1. It is used no more.
    unsafe { module.unload() };
    Ok(())
}

/// A use of the container on all CPUs, 500 times; whether any step of it has failed.
fn work(users: &[User]) -> bool {
    let failed = AtomicU32::new(0);
    smp::on_all(|cpu| {
        let user = users[cpu % users.len()];
        let container = user.open(container::FIRST) as u32;
        let mut all = user.attach(container) | user.enable(container);
        for round in 0..500 {
            all |= user.map(container, 0, bus(0), 1 + round % 8) | user.unmap(container, bus(0), 8);
        }
        all |= user.disable(container) | user.detach(container) | user.release(container);
        failed.fetch_add(u32::from(all != 0), Ordering::Relaxed);
    });
    failed.into_inner() != 0
}

fn replace_the_driver(engine: &'static Engine, module: &Loaded, users: &[User]) -> Shown {
    static SEEN: Watching = Watching { ioctls: CallTimes::new(), opened: AtomicU64::new(0) };
    title("The driver's table of functions, replaced by a generated one that times and counts, and put back");
    let mut has_failed = true;
    // SAFETY: 1. As for `put_driver_in_use`.
    unsafe { container::watch_driver(engine, module, &SEEN, || has_failed = work(users)) }?;
    let (calls, opened) = (SEEN.ioctls.calls(), SEEN.opened.load(Ordering::Relaxed));
    let ticks = SEEN.ioctls.ticks() / calls.max(1);
    println!("   {opened} containers opened; {calls} commands, {} ns each on average", nanoseconds(ticks));
    has_failed |= work(users);
    println!("   put back: {} commands more were timed", SEEN.ioctls.calls() - calls);
    if has_failed { Err("something has failed".into()) } else { Ok(()) }
}

fn nanoseconds(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000_000_000) / ticks_per_second().max(1)
}

fn show_a_mapping(engine: &Engine, user: User) -> Shown {
    title("What mapping and unmapping three pages does, by the graph tracer");
    let container = u32::try_from(user.open(container::FIRST))?;
    user.attach(container);
    user.enable(container);
    engine.register(&GRAPH, &Filter::new(&[Rule::glob("container::*")?.in_module(NAME)]))?;
    user.map(container, 0, bus(0), 3);
    let reaches = [user.device_reaches(bus(2), 7), user.device_reaches(bus(3), 7)];
    user.unmap(container, bus(0), 3);
    engine.unregister(&GRAPH)?;
    take_calls().iter().for_each(|call| println!("   {call}"));
    user.release(container);
    println!(
        "   A device reached the third page: {}; and the fourth, which was not mapped: {}",
        reaches[0], reaches[1]
    );
    Ok(())
}

fn fail_every_step(engine: &Engine, module: &Loaded, user: User) -> Shown {
    static INJECTION: Injection = Injection::new();
    title("Each failure point of a use of both versions, once: pins and charges that are refused");
    module.with_injectables(|list| {
        let sites: Vec<_> = list.collect();
        sites.iter().for_each(|site| println!("   may fail: {}", site.name()));
        match &sites[..] {
            [first, second] => INJECTION.attach(engine, [first, second]).map_err(Box::<dyn Error>::from),
            _ => Err("the module lists something else".into()),
        }
    })?;
    let (mut wrong, mut runs) = (Vec::new(), Vec::new());
    let points = fail_nth(&percpu::this().trace, 100, |n| match user.use_both() {
        Ok(used) => runs.push((n, used.failed)),
        Err(why) => wrong.push(why),
    });
    for same in runs.chunk_by(|(_, one), (_, next)| one == next) {
        let [(first, failed), ..] = same else { continue };
        let last = *first as usize + same.len() - 1;
        match failed {
            Some((step, errno)) if same.len() == 1 => println!("   call {first:8} fails: `{step}` returns {errno}"),
            Some((step, errno)) => println!("   call {first:2} to {last:2} fails: `{step}` returns {errno}"),
            None => println!("   call {first:8} is not made: every step succeeds"),
        }
    }
    INJECTION.detach(engine)?;
    println!(
        "   After each step that failed, pins, charges and mappings were as before it, and at the end nothing was left:"
    );
    println!("   {} failure points, {} of them wrong", points.points, wrong.len());
    wrong.into_iter().next().map_or(Ok(()), |first| Err(first.into()))
}

static TIMES: [Histogram; 2] = [const { Histogram::new() }; 2];

struct Times<const WHICH: usize>;

impl<const WHICH: usize> StoreIn<Histogram> for Times<WHICH> {
    fn store() -> &'static Histogram {
        &TIMES[WHICH]
    }
}

fn time_all(engine: &Engine, users: &[User]) -> Shown {
    static OPS: [Ops; 2] = [Ops::returning::<Latency<Times<0>>>(), Ops::returning::<Latency<Times<1>>>()];
    title("How long mapping and unmapping take, on all CPUs at once");
    engine.register(&OPS[0], &Filter::new(&[MAP]))?;
    engine.register(&OPS[1], &Filter::new(&[UNMAP]))?;
    let has_failed = work(users);
    for ops in &OPS {
        engine.unregister(ops)?;
    }
    for (what, times) in ["map", "unmap"].into_iter().zip(&TIMES) {
        println!("   {what}, of 1 to 8 pages:");
        print_times(times);
    }
    let is_clean = users.iter().all(|user| Seen { faults: 0, ..user.look() } == Seen::default());
    println!("   nothing is mapped, pinned or paid for any more: {}", if is_clean { "yes" } else { "NO" });
    if is_clean && !has_failed { Ok(()) } else { Err("something has failed or was left".into()) }
}

fn print_times(times: &Histogram) {
    let most = times.buckets().map(|bucket| bucket.count).max().unwrap_or(1);
    for Bucket { from, to, count } in times.buckets().filter(|bucket| bucket.count > 0) {
        let bar = (40 * count).div_ceil(most) as usize;
        println!("   {:>9} to {:>9} ns {count:>6} |{:#<bar$}", nanoseconds(from), nanoseconds(to), "");
    }
}
