//! A table of functions that a module implements: checked, put in use, traced, taken out again.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicU64, Ordering};
use fentry::module::{ModuleId, Modules};
use fentry::trampoline::{Body, Implementations, OpsError};
use loading::{NOTES, PLACES, load, modules, unload};
use support::engine;

fentry::ops_struct! {
    /// What modules implement.
    pub(crate) struct PolicyOps => Policy {
        /// Which goes next.
        fn pick(waiting: u64, last: u64) -> u64;
        /// One was sent.
        [optional] fn sent(number: u32);
    }
}

static POLICY: Implementations<PolicyOps> = Implementations::new();
static CALLS: AtomicU64 = AtomicU64::new(0);

pub(crate) extern "C" fn of_the_kernel(_: u64, last: u64) -> u64 {
    last + 1
}

/// The module's table.
fn table(modules: &Modules<'_>, id: ModuleId, is_right: bool) -> PolicyOps {
    let shows = modules.get(id).and_then(|module| module.export("counter_policy")).expect("exported");
    // SAFETY: the module's function has this type.
    let shows: extern "C" fn(bool) -> *const () =
        unsafe { core::mem::transmute(core::ptr::with_exposed_provenance::<()>(shows as usize)) };
    // SAFETY: what it shows is such a table, but for the argument of one member; the module is loaded as long as it is used.
    unsafe { *shows(is_right).cast::<PolicyOps>() }
}

pub(crate) fn a_table_of_a_module_is_checked_put_in_use_and_traced() -> Result<(), String> {
    let (engine, _) = engine();
    let show = |error: OpsError| format!("{error}");
    POLICY.prepare(engine, "kernel", &PolicyOps { pick: Some(of_the_kernel), sent: None }).map_err(show)?.put_in_use();
    for (distance, place) in PLACES {
        NOTES.lock().clear();
        CALLS.store(0, Ordering::Relaxed);
        let mut modules = modules();
        let greeter = load(&mut modules, "greeter", place).map_err(|error| format!("{distance}: {error}"))?;
        let id = load(&mut modules, "counter", place).map_err(|error| format!("{distance}: {error}"))?;

        // Where calls are not checked, nobody can tell; and it does no harm to this one.
        let wrong = POLICY.prepare(engine, "wrong", &table(&modules, id, false)).map(drop);
        let is_refused = matches!(wrong, Err(OpsError::OtherType { ops: "PolicyOps", member: "sent", .. }));
        assert_eq!((is_refused, wrong.is_ok()), (cfg!(sanitize = "kcfi"), cfg!(not(sanitize = "kcfi"))), "{wrong:?}");
        let of_module = POLICY.prepare(engine, "counter", &table(&modules, id, true)).map_err(show)?;
        let kernels = of_module.put_in_use().ok_or("the kernel's was in use")?;
        let user = POLICY.user().ok_or("in use")?;
        let bodies = [("pick", Body::forward().counting(&CALLS)), ("sent", Body::forward().counting(&CALLS))];
        let traced = POLICY.prepare_generated(engine, "traced", &user, &bodies).map_err(show)?;
        assert_eq!((user.name(), user.pick(2, 5), user.sent(7)), ("counter", 205, Some(())), "{distance}");
        assert_eq!(CALLS.load(Ordering::Relaxed), 0, "{distance}");
        let plain = traced.put_in_use().ok_or("the module's was in use")?;
        drop(user);
        let user = POLICY.user().ok_or("in use")?;
        assert_eq!((user.name(), user.pick(2, 5), user.sent(1)), ("traced", 219, Some(())), "{distance}");
        assert_eq!((CALLS.load(Ordering::Relaxed), plain.users()), (2, 1), "{distance}");
        drop(user);

        // Back to the kernel's; then nobody is inside the module, and it may go.
        let again = PolicyOps { pick: Some(of_the_kernel), sent: None };
        kernels.try_free().map_err(|still| format!("{distance}: {} users", still.users()))?;
        let traced = POLICY.prepare(engine, "kernel", &again).map_err(show)?.put_in_use().ok_or("one was in use")?;
        traced.try_free().map_err(|still| format!("{distance}: {} users", still.users()))?;
        plain.try_free().map_err(|still| format!("{distance}: {} users", still.users()))?;
        unload(&mut modules, id);
        unload(&mut modules, greeter);
        assert_eq!(POLICY.user().map(|user| user.pick(2, 5)), Some(6), "{distance}");
    }
    Ok(())
}
