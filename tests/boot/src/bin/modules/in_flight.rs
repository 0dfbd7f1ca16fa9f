//! A hooked call of a kernel function is under way while the module goes whose ops has hooked it.

use alloc::format;
use alloc::string::String;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use fentry::context::shadow::ShadowStack;
use fentry::module::{ModuleId, Modules, Segment};
use fentry::ops::{Entry, Exit, Probe};
use fentry::{Filter, Ops, Rule, TextAddr};
use loading::memory::PAGES;
use loading::{AT_EXIT, PLACES, load, modules, unload};
use spin::Mutex;
use support::{engine, percpu, smp};

/// The CPU on which the function is called.
const CALLER: usize = 1;
static SHADOW: ShadowStack<4> = ShadowStack::new();

/// Whether the call may begin, has begun, and may end.
static MAY_BEGIN: AtomicBool = AtomicBool::new(false);
static BEGUN: AtomicBool = AtomicBool::new(false);
static MAY_END: AtomicBool = AtomicBool::new(false);

fn wait_for(flag: &AtomicBool) {
    while !flag.load(Ordering::Acquire) {
        smp::wait();
    }
}

#[inline(never)]
extern "C" fn held(number: u64) -> u64 {
    BEGUN.store(true, Ordering::Release);
    wait_for(&MAY_END);
    black_box(number) * 3
}

static ENTRIES: AtomicU64 = AtomicU64::new(0);
static EXITS: AtomicU64 = AtomicU64::new(0);
static RETURNED: AtomicU64 = AtomicU64::new(0);

struct Both;

impl Probe for Both {
    type Data = u64;

    fn entry(_: &mut Entry<'_>) -> Option<u64> {
        Some(ENTRIES.fetch_add(1, Ordering::Relaxed))
    }

    fn exit(_: &mut Exit<'_>, _: &u64) {
        EXITS.fetch_add(1, Ordering::Relaxed);
    }
}

/// The ops in the module's data.
static GUEST: AtomicPtr<Ops> = AtomicPtr::new(core::ptr::null_mut());

/// What the module has done when it exits.
fn unregister_guest() {
    // SAFETY: `make_guest` put it there, and the module's data is freed after its exit function only.
    let ops: &'static Ops = unsafe { &*GUEST.load(Ordering::Acquire) };
    assert_eq!(engine().0.unregister(ops), Ok(1));
}

/// Makes an ops in the module's data.
fn make_guest(modules: &Modules<'_>, id: ModuleId) -> &'static Ops {
    let module = modules.get(id).expect("loaded");
    let room = module.export("guest_room").expect("exported");
    // SAFETY: the module's function has this type.
    let room: extern "C" fn() -> *mut u64 =
        unsafe { core::mem::transmute(core::ptr::with_exposed_provenance::<()>(room as usize)) };
    let place = room().cast::<Ops>();
    assert!(size_of::<Ops>() <= 512 && align_of::<Ops>() <= 16, "the module's room is too small");
    assert!(module.range(Segment::Data).contains(TextAddr::new(place.addr() as u64)));
    // SAFETY: the room is large enough and aligned, in the module's data, and nobody else uses it.
    unsafe { place.write(Ops::returning::<Both>()) };
    GUEST.store(place, Ordering::Release);
    // SAFETY: just written. It lives until it is unregistered, which is what an engine asks of an ops in a module.
    unsafe { &*place }
}

/// On one CPU: loads the module, hooks the function by the ops in it, and unloads it when the call has begun.
fn come_and_go(place: u64) -> Result<(), String> {
    let mut modules = modules();
    let id = load(&mut modules, "guest", place).map_err(|error| format!("{error}"))?;
    let rules = [Rule::address(TextAddr::new((held as *const ()).addr() as u64))];
    let ops = make_guest(&modules, id);
    engine().0.register(ops, &Filter::new(&rules)).map_err(|error| format!("{error}"))?;
    *AT_EXIT.lock() = Some(unregister_guest);
    MAY_BEGIN.store(true, Ordering::Release);
    wait_for(&BEGUN);
    unload(&mut modules, id);
    assert_eq!(PAGES.lent_bytes(), 0);
    Ok(())
}

/// The module's memory is overwritten and unmapped before the call returns: nothing on its way may be looked for there.
pub(crate) fn a_hooked_call_returns_after_the_module_of_its_ops_was_unloaded() -> Result<(), String> {
    static RESULT: Mutex<Result<(), String>> = Mutex::new(Ok(()));
    assert!(smp::start_all() > CALLER, "there is no other CPU");
    // SAFETY: nothing is hooked on that CPU now, and no other context has the stack.
    smp::on_cpu(CALLER, || unsafe { percpu::this().trace.set_shadow_stack(&SHADOW) });
    for (distance, place) in PLACES {
        [&MAY_BEGIN, &BEGUN, &MAY_END].iter().for_each(|flag| flag.store(false, Ordering::Relaxed));
        [&ENTRIES, &EXITS, &RETURNED].iter().for_each(|number| number.store(0, Ordering::Relaxed));
        smp::on_cpus([0, CALLER].into_iter(), |cpu| {
            if cpu == CALLER {
                wait_for(&MAY_BEGIN);
                RETURNED.store(black_box(held)(7), Ordering::Relaxed);
            } else {
                *RESULT.lock() = come_and_go(place).map_err(|error| format!("{distance}: {error}"));
                // Even if it failed, so that the other CPU ends.
                [&MAY_BEGIN, &MAY_END].iter().for_each(|flag| flag.store(true, Ordering::Release));
            }
        });
        core::mem::replace(&mut *RESULT.lock(), Ok(()))?;
        let [entries, exits, returned] = [&ENTRIES, &EXITS, &RETURNED].map(|number| number.load(Ordering::Relaxed));
        assert_eq!((entries, exits, returned), (1, 0, 21), "{distance}");
        assert_eq!(percpu::of(CALLER).trace.depth(), 0, "{distance}");
    }
    Ok(())
}
