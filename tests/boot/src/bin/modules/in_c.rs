//! An ops struct in C: its tables used by the kernel, the kernel's used by it, and members that are generated, both ways.

use crate::policy::{PolicyOps, of_the_kernel};
use alloc::format;
use alloc::string::{String, ToString};
use core::ffi::c_void;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use fentry::module::{ModuleId, Modules};
use fentry::trampoline::{Argument, Body, Implementations, Member, OpsError, OpsStruct, ScalarKind, UntypedOps};
use fentry::{Engine, TextAddr};
use loading::{PLACES, load, modules, names, unload};
use support::exceptions::{Syndrome, catch};
use support::{engine, println};

type Pick = extern "C" fn(u64, u64) -> u64;
/// The module's `policy_call`.
type Call = extern "C" fn(*const c_void, u64, u64) -> u64;

static POLICY: Implementations<PolicyOps> = Implementations::new();
static CALLS: AtomicU64 = AtomicU64::new(0);

/// What the module exports.
struct Policy {
    picks: TextAddr,
    sends: TextAddr,
    call: Call,
    newest: PolicyOps,
    of_another_type: PolicyOps,
    elsewhere: PolicyOps,
}

impl Policy {
    fn of(modules: &Modules<'_>, id: ModuleId) -> Self {
        let module = modules.get(id).expect("loaded");
        let address = |name: &str| module.export(name).unwrap_or_else(|| panic!("{name} is not exported"));
        let at = |name: &str| core::ptr::with_exposed_provenance::<()>(address(name) as usize);
        // SAFETY: the module has such tables, but for the types of some members; it is loaded as long as they are used.
        let table = |name: &str| unsafe { *at(name).cast::<PolicyOps>() };
        Self {
            picks: TextAddr::new(address("policy_pick_stub")),
            sends: TextAddr::new(address("policy_sent_stub")),
            // SAFETY: the module's function has this type.
            call: unsafe { core::mem::transmute::<*const (), Call>(at("policy_call")) },
            newest: table("policy_newest"),
            of_another_type: table("policy_of_another_type"),
            elsewhere: table("policy_elsewhere"),
        }
    }

    /// Its members, as C declares them.
    fn members(&self) -> [Member; 2] {
        const NUMBERS: &[Argument] = &[Argument::general(8); 2];
        const NUMBER: &[Argument] = &[Argument::general(4)];
        let stub = |at: TextAddr| core::ptr::with_exposed_provenance::<()>(at.get() as usize);
        let [pick, sent] = PolicyOps::MEMBERS else { panic!("two members") };
        assert_eq!([pick.name(), sent.name()], ["pick", "sent"]);
        [
            Member::new("pick", 0, false, stub(self.picks), Some(ScalarKind::U64), NUMBERS),
            Member::new("sent", 8, true, stub(self.sends), Some(ScalarKind::Unit), NUMBER),
        ]
    }

    fn ops<'a>(&self, members: &'a [Member]) -> UntypedOps<'a> {
        let caller = TextAddr::new(self.call as usize as u64);
        // SAFETY: 1. to 4. So the struct is declared in C, and in Rust.
        unsafe { UntypedOps::new("policy_ops", members, caller) }
    }

    /// Has the module call by a table.
    fn call_by(&self, table: &PolicyOps, waiting: u64, last: u64) -> u64 {
        (self.call)(core::ptr::from_ref(black_box(table)).cast(), waiting, last)
    }

    /// What the module's call by a table does, if it traps.
    fn trap(&self, table: &PolicyOps) -> Option<String> {
        let ended = catch(|| {
            black_box(self.call_by(table, 1, 2));
        });
        ended.err().map(|fault| format!("{}", Syndrome(fault.esr)))
    }
}

extern "C" fn of_another_type(_: u64, last: u32) -> u64 {
    last.into()
}

/// A function of another type than the member.
fn wrong_pick() -> Pick {
    // SAFETY: it takes two numbers and returns one, as far as its registers tell.
    unsafe { core::mem::transmute::<*const (), Pick>(of_another_type as *const ()) }
}

/// The kernel calls by tables of the module.
fn is_used_by_the_kernel(engine: &'static Engine, policy: &Policy, is_checked: bool) -> Result<(), OpsError> {
    for (table, member) in [(&policy.of_another_type, "sent"), (&policy.elsewhere, "pick")] {
        let error = POLICY.prepare(engine, "wrong", table).map(drop);
        let is_expected = match error {
            Err(OpsError::OtherType { member: wrong, .. }) => (wrong, "sent") == (member, member),
            Err(OpsError::OtherDistance { member: wrong, expected, found, .. }) => {
                (wrong, "pick") == (member, member) && expected.abs_diff(found) == 2
            }
            _ => false,
        };
        assert_eq!(is_expected, is_checked, "{error:?}");
        assert_eq!(error.is_ok(), !is_checked, "{error:?}");
    }
    let kernels = PolicyOps { pick: Some(of_the_kernel), sent: None };
    assert!(POLICY.prepare(engine, "kernel", &kernels)?.put_in_use().is_none());
    let first = POLICY.prepare(engine, "newest", &policy.newest)?.put_in_use().expect("one was in use");
    assert!(first.try_free().is_ok());
    let user = POLICY.user().expect("in use");
    assert_eq!((user.name(), user.pick(2, 5), user.sent(7)), ("newest", 205, Some(())));
    let bodies = [("pick", Body::forward().counting(&CALLS)), ("sent", Body::answer(()))];
    let before = CALLS.load(Ordering::Relaxed);
    let traced = POLICY.prepare_generated(engine, "traced", &user, &bodies)?.put_in_use();
    drop(user);
    let user = POLICY.user().expect("in use");
    assert_eq!((user.pick(2, 6), user.sent(7), CALLS.load(Ordering::Relaxed)), (206, Some(()), before + 1));
    drop(user);
    assert!(POLICY.take_out().expect("one was in use").try_free().is_ok());
    assert!(traced.expect("one was in use").try_free().is_ok());
    Ok(())
}

/// The module calls by tables of the kernel.
fn uses_the_kernel(engine: &'static Engine, policy: &Policy, is_checked: bool) -> Result<(), OpsError> {
    let members = policy.members();
    let ops = policy.ops(&members);
    // SAFETY: 1. it is one.
    let check = |table: &PolicyOps| unsafe { ops.check(engine, core::ptr::from_ref(table).cast()) };
    let mut table = PolicyOps { pick: Some(of_the_kernel), sent: None };
    check(&table)?;
    assert_eq!(policy.call_by(&table, 1, 5), 7);
    let missing = check(&PolicyOps { pick: None, sent: None }).expect_err("it must be there");
    assert_eq!(missing.to_string(), "policy_ops.pick is NULL, and not optional");
    let wrong = PolicyOps { pick: Some(wrong_pick()), ..table };
    let refused = check(&wrong);
    assert_eq!(matches!(refused, Err(OpsError::OtherType { member: "pick", .. })), is_checked, "{refused:?}");
    assert_eq!(matches!(check(&policy.elsewhere), Err(OpsError::OtherDistance { member: "pick", .. })), is_checked);
    // By force: the check is live.
    for table in [&wrong, &policy.elsewhere] {
        let trap = policy.trap(table);
        assert_eq!(trap.as_ref().is_some_and(|trap| trap.contains("kCFI")), is_checked, "{trap:?}");
    }

    let before = CALLS.load(Ordering::Relaxed);
    let at: *mut () = (&raw mut table).cast();
    let nothing = [("sent", Body::forward())];
    // SAFETY: 1. and 2. Nobody else has the table, and the kernel's functions stay.
    let nothing = unsafe { ops.generate(engine, at, &nothing) }.map(drop);
    assert!(
        matches!(nothing, Err(OpsError::NothingBehind { member: "sent", .. })) && table.sent.is_none(),
        "{nothing:?}"
    );
    let bodies = [("pick", Body::forward().counting(&CALLS)), ("sent", Body::answer(()).counting(&CALLS))];
    // SAFETY: 1. and 2. As above.
    let generated = unsafe { ops.generate(engine, at, &bodies) }?;
    check(&table)?;
    assert_eq!((policy.call_by(&table, 1, 6), CALLS.load(Ordering::Relaxed)), (8, before + 1));
    let pick = table.pick.map_or(0, |pick| pick as usize as u64);
    let name = ops.name_of(&generated, TextAddr::new(pick + 4)).map(|name| name.to_string());
    assert_eq!(name.as_deref(), Some("policy_ops.pick [generated]"));
    assert_eq!(ops.name_of(&generated, TextAddr::new(policy.call as usize as u64)), None);
    // SAFETY: 1. nobody else calls by the table.
    unsafe { generated.free() };
    Ok(())
}

pub(crate) fn an_ops_struct_in_c_and_one_in_rust_take_each_others_functions() -> Result<(), String> {
    let (engine, _) = engine();
    let is_checked = cfg!(sanitize = "kcfi");
    let mut count = 0;
    for (distance, place) in PLACES {
        for name in names().filter(|name| name.starts_with("policy")) {
            let told = |error: OpsError| format!("{name}, {distance}: {error}");
            let mut list = modules();
            let id = load(&mut list, name, place).map_err(|error| format!("{name}, {distance}: {error}"))?;
            let policy = Policy::of(&list, id);
            let room = engine.statistics().stub_bytes;
            is_used_by_the_kernel(engine, &policy, is_checked).map_err(told)?;
            uses_the_kernel(engine, &policy, is_checked).map_err(told)?;
            assert_eq!(engine.statistics().stub_bytes, room, "{name}, {distance}");
            unload(&mut list, id);
            count += 1;
        }
    }
    println!("({count} modules in C, calls are {}checked)", if is_checked { "" } else { "not " });
    Ok(())
}
