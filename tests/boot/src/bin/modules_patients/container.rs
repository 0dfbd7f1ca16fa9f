//! The IOMMU container.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fentry::engine::RegisterError;
use fentry::inject::{Injection, fail_nth};
use fentry::record::times::CallTimes;
use fentry::tracer::kernel::StoreIn;
use fentry::tracer::latency::{Histogram, Latency};
use fentry::trampoline::OpsError;
use fentry::{Filter, Ops, Rule};
use patients::container::driver::{COUNT, Seen, WINDOW_PAGES};
use patients::container::{
    FIRST, MAP, NAME, UNMAP, User, Watching, bus, put_driver_in_use, take_driver_out, watch_driver,
};
use patients::graph::{GRAPH, take_calls};
use patients::loaded::Loaded;
use spin::Mutex;
use support::{engine, percpu, smp};

use crate::loaded;

/// Loads the module, and puts its driver in use.
fn container() -> Loaded {
    let module = loaded(NAME);
    // SAFETY: 1. It is that module, and unloaded by `unload`.
    let put = unsafe { put_driver_in_use(engine().0, &module) };
    put.unwrap_or_else(|error| panic!("{error}"));
    module
}

/// Takes its driver out of use, and unloads it. It is used no more.
fn unload(module: Loaded) {
    take_driver_out();
    // SAFETY: 1. It is used no more.
    unsafe { module.unload() };
}

pub(crate) fn a_container_is_paid_for_and_its_devices_reach_what_is_mapped() -> Result<(), String> {
    let module = container();
    // SAFETY: 1. It is that module, and unloaded at the end.
    let user = unsafe { User::of(&module, 0) };
    let container = user.open(FIRST) as u32;
    assert_eq!([user.attach(container), user.enable(container), user.map(container, 3, bus(5), 2)], [0; 3]);
    assert_eq!(user.look(), Seen { locked: WINDOW_PAGES, pins: 2, mapped: 2, faults: 0 });
    let reaches = |page| user.device_reaches(bus(page) + 0x123, 7);
    assert_eq!([5, 6, 7, 4].map(reaches), [true, true, false, false]);
    assert_eq!(user.unmap(container, bus(5), 1), 0);
    assert_eq!([5, 6].map(reaches), [false, true]);
    assert_eq!((user.detach(container), user.release(container)), (1, 0), "it was enabled still");
    assert_eq!(user.look(), Seen { faults: 3, ..Seen::default() });
    let used = user.use_both()?;
    assert_eq!((used.failed, used.steps), (None, 21));
    unload(module);
    Ok(())
}

pub(crate) fn each_failing_step_of_a_container_changes_nothing() -> Result<(), String> {
    static INJECTION: Injection = Injection::new();
    let (engine, _) = engine();
    let module = container();
    // SAFETY: 1. It is that module, and unloaded at the end.
    let user = unsafe { User::of(&module, 0) };
    module
        .with_injectables(|list| {
            let sites: Vec<_> = list.collect();
            let [first, second] = &sites[..] else { panic!("the module lists two functions: {sites:?}") };
            INJECTION.attach(engine, [first, second])
        })
        .map_err(|error| error.to_string())?;
    let mut failed = Vec::new();
    let mut wrong = Vec::new();
    let points = fail_nth(&percpu::this().trace, 100, |n| match user.use_both() {
        Ok(used) => failed.push(used.failed),
        Err(why) => wrong.push(format!("where call {n} fails: {why}")),
    });
    INJECTION.detach(engine).map_err(|error| error.to_string())?;
    assert_eq!(wrong, Vec::<String>::new());
    // ENOMEM where nobody pays, EFAULT where a page is not there.
    let step = |name: &'static str, errno: i64, times: usize| core::iter::repeat_n(Some((name, -errno)), times);
    let first = step("enable", 12, 1).chain(step("map 4 pages", 14, 4)).chain(step("map 2 pages", 14, 2));
    let second = step("register 8 pages", 12, 1).chain(step("register 8 pages", 14, 8));
    let windows = step("map 2 pages", 12, 1).chain(step("create a window", 12, 1));
    let all: Vec<_> = first.chain(second).chain(windows).chain([None]).collect();
    assert_eq!(failed, all);
    assert_eq!((points.points as usize, points.is_whole), (all.len() - 1, true));
    assert_eq!(INJECTION.failures(), u64::from(points.points));
    unload(module);
    Ok(())
}

pub(crate) fn the_graph_of_a_mapping_shows_its_pins() -> Result<(), String> {
    let (engine, _) = engine();
    let module = container();
    // SAFETY: 1. It is that module, and unloaded at the end.
    let user = unsafe { User::of(&module, 0) };
    let container = user.open(FIRST) as u32;
    assert_eq!([user.attach(container), user.enable(container)], [0; 2]);
    let rule = Rule::glob("container::*").map_err(|error| error.to_string())?.in_module(NAME);
    engine.register(&GRAPH, &Filter::new(&[rule])).map_err(|error| error.to_string())?;
    assert_eq!((user.map(container, 0, bus(0), 3), user.unmap(container, bus(0), 3)), (0, 0));
    engine.unregister(&GRAPH).map_err(|error| error.to_string())?;
    let calls: Vec<(u16, String)> = take_calls().iter().map(|call| (call.depth, call.function())).collect();
    let number = |name: &str| {
        let of_name = |(_, function): &&(u16, String)| function.contains(name) && function.ends_with("[container]");
        calls.iter().filter(of_name).count()
    };
    assert_eq!(["::ioctl", "::map", "::pin", "::unmap", "::unpin"].map(number), [2, 1, 3, 1, 3], "{calls:#?}");
    // One inside the other.
    let depth = |name: &str| calls.iter().find(|(_, function)| function.contains(name)).map(|(depth, _)| *depth);
    let inside = ["::ioctl", "::map", "::pin"].map(depth);
    assert!(inside.is_sorted_by(|outer, inner| outer < inner), "{calls:#?}");
    assert_eq!(user.release(container), 0);
    unload(module);
    Ok(())
}

/// How often a CPU uses a container.
const ROUNDS: u64 = if cfg!(debug_assertions) { 20 } else { 200 };

pub(crate) fn four_cpus_use_containers_at_once() -> Result<(), String> {
    static WRONG: Mutex<Vec<String>> = Mutex::new(Vec::new());
    static REACHED: AtomicU64 = AtomicU64::new(0);
    let module = container();
    // SAFETY: 1. It is that module, and unloaded at the end.
    let users: Vec<User> = (0..COUNT).map(|number| unsafe { User::of(&module, number) }).collect();
    // Each its own, and then all of them one: each a part of its window, by the same process.
    smp::on_all(|cpu| {
        for _ in 0..ROUNDS / 10 {
            if let Err(why) = users[cpu % 4].use_both() {
                WRONG.lock().push(format!("CPU {cpu}: {why}"));
            }
        }
    });
    let shared = users[0].open(FIRST) as u32;
    assert_eq!([users[0].attach(shared), users[0].enable(shared)], [0; 2]);
    smp::on_all(|cpu| {
        let first = 4 * (cpu as u64 % 4);
        for round in 0..ROUNDS {
            let (page, pages) = (first + round % 2, 1 + round % 3);
            let mapped = users[0].map(shared, page, bus(page), pages);
            let reached = users[0].device_reaches(bus(page + pages - 1) + 8 * cpu as u64, round as u8);
            REACHED.fetch_add(u64::from(reached), Ordering::Relaxed);
            let unmapped = users[0].unmap(shared, bus(first), 4);
            if (mapped, unmapped) != (0, 0) {
                WRONG.lock().push(format!("CPU {cpu}, round {round}: {mapped}, {unmapped}"));
            }
        }
    });
    assert_eq!(*WRONG.lock(), Vec::<String>::new());
    assert_eq!(REACHED.load(Ordering::Relaxed), ROUNDS * smp::online().count() as u64);
    assert_eq!(users[0].look(), Seen { locked: WINDOW_PAGES, ..Seen::default() });
    assert_eq!(users[0].release(shared), 0);
    assert!(users.iter().all(|user| user.look() == Seen::default()));
    unload(module);
    Ok(())
}

static MAPS: Histogram = Histogram::new();
static UNMAPS: Histogram = Histogram::new();

struct Maps;

impl StoreIn<Histogram> for Maps {
    fn store() -> &'static Histogram {
        &MAPS
    }
}

struct Unmaps;

impl StoreIn<Histogram> for Unmaps {
    fn store() -> &'static Histogram {
        &UNMAPS
    }
}

pub(crate) fn the_times_of_mapping_are_counted() -> Result<(), RegisterError> {
    static TIMES: [Ops; 2] = [Ops::returning::<Latency<Maps>>(), Ops::returning::<Latency<Unmaps>>()];
    let (engine, _) = engine();
    let module = container();
    // SAFETY: 1. It is that module, and unloaded at the end.
    let users: Vec<User> = (0..COUNT).map(|number| unsafe { User::of(&module, number) }).collect();
    engine.register(&TIMES[0], &Filter::new(&[MAP]))?;
    engine.register(&TIMES[1], &Filter::new(&[UNMAP]))?;
    smp::on_all(|cpu| {
        let user = &users[cpu % 4];
        let container = user.open(FIRST) as u32;
        assert_eq!([user.attach(container), user.enable(container)], [0; 2]);
        for round in 0..ROUNDS {
            assert_eq!(user.map(container, 0, bus(0), 1 + round % 8), 0);
            assert_eq!(user.unmap(container, bus(0), 8), 0);
            // No page is mapped, and it is tried again.
            assert_eq!(user.unmap(container, bus(8), 8), 0);
        }
        assert_eq!([user.disable(container), user.detach(container), user.release(container)], [0; 3]);
    });
    for ops in &TIMES {
        engine.unregister(ops)?;
    }
    let counted = [&MAPS, &UNMAPS].map(|times| times.buckets().map(|bucket| bucket.count).sum::<u64>());
    let calls = ROUNDS * smp::online().count() as u64;
    assert_eq!(counted, [calls, 2 * calls]);
    unload(module);
    Ok(())
}

/// Has a generated driver in front of the module's until `until` returns.
fn watch(module: &Loaded, seen: &'static Watching, until: impl FnOnce()) -> Result<(), OpsError> {
    // SAFETY: 1. It is that module, and unloaded by `unload`.
    unsafe { watch_driver(engine().0, module, seen, until) }
}

pub(crate) fn the_driver_is_replaced_by_one_that_watches_and_back_while_requests_run() -> Result<(), OpsError> {
    static SEEN: Watching = Watching { ioctls: CallTimes::new(), opened: AtomicU64::new(0) };
    static COMMANDS: AtomicU64 = AtomicU64::new(0);
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    let module = container();
    // SAFETY: 1. It is that module, and unloaded at the end.
    let users: Vec<User> = (0..COUNT).map(|number| unsafe { User::of(&module, number) }).collect();
    let swaps = if cfg!(debug_assertions) { 5 } else { 50 };
    let use_once = |cpu: usize| {
        let user = &users[cpu % 4];
        let container = user.open(FIRST) as u32;
        assert_eq!([user.attach(container), user.enable(container)], [0; 2]);
        assert_eq!([user.map(container, 0, bus(0), 2), user.unmap(container, bus(0), 2)], [0; 2]);
        assert_eq!([user.disable(container), user.detach(container), user.release(container)], [0; 3]);
        COMMANDS.fetch_add(4, Ordering::Relaxed);
    };
    // Alone, each command is timed, and none is before or after.
    watch(&module, &SEEN, || use_once(0))?;
    assert_eq!((SEEN.ioctls.calls(), SEEN.opened.load(Ordering::Relaxed)), (4, 1));
    assert!(SEEN.ioctls.ticks() >= SEEN.ioctls.longest());
    use_once(0);
    assert_eq!((SEEN.ioctls.calls(), SEEN.opened.load(Ordering::Relaxed)), (4, 1));
    let failed = Mutex::new(None);
    smp::on_all(|cpu| {
        if cpu == 0 {
            for _ in 0..swaps {
                let before = SEEN.ioctls.calls();
                let watched = watch(&module, &SEEN, || {
                    while SEEN.ioctls.calls() < before + 10 {
                        core::hint::spin_loop();
                    }
                });
                if let Err(error) = watched {
                    *failed.lock() = Some(error);
                }
            }
            IS_OVER.store(true, Ordering::Release);
        }
        while !IS_OVER.load(Ordering::Acquire) {
            use_once(cpu);
        }
    });
    if let Some(error) = failed.into_inner() {
        return Err(error);
    }
    let (timed, all) = (SEEN.ioctls.calls(), COMMANDS.load(Ordering::Relaxed));
    assert!(10 * swaps <= timed && timed < all, "{timed} commands of {all} were timed");
    assert!(users.iter().all(|user| user.look() == Seen::default()));
    unload(module);
    Ok(())
}
