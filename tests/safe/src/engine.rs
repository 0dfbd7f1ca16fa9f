use super::{callback, kernel_of};
use fentry::engine::RegisterError;
use fentry::fakes::Fault;
use fentry::ops::{Entry, Exit, Probe};
use fentry::{Filter, Ops, OpsFlags, Rule, TextAddr};
use std::thread;

static FIRST: Ops = Ops::new(callback);
static SECOND: Ops = Ops::new(callback).with_flags(OpsFlags::SAVE_REGS).with_data(7);

struct Hook;

impl Probe for Hook {
    type Data = u64;

    fn entry(call: &mut Entry<'_>) -> Option<u64> {
        call.regs.argument(0)
    }

    fn exit(call: &mut Exit<'_>, argument: &u64) {
        assert_ne!(call.value(), *argument);
    }
}

static RETURNING: Ops = Ops::returning::<Hook>();

#[test]
fn ops_come_and_go_and_change() {
    let (kernel, engine, [draw, ..]) = kernel_of(["draw", "sort", "sort_fast"]);
    let before = kernel.snapshot();
    assert_eq!(engine.register(&FIRST, &Filter::ALL), Ok(3));
    assert_eq!(engine.register(&FIRST, &Filter::ALL), Err(RegisterError::AlreadyRegistered));
    let rules = [Rule::parse("sort*").unwrap(), Rule::parse("!*fast").unwrap()];
    assert_eq!(engine.register(&SECOND, &Filter::new(&rules)), Ok(1));
    assert_eq!(engine.register(&RETURNING, &Filter::new(&[Rule::address(draw)])), Ok(1));
    assert_eq!(engine.set_filter(&FIRST, &Filter::new(&[Rule::glob("s*").unwrap()])), Ok(2));
    let check = engine.check_text();
    assert_eq!((check.enabled, check.wrong), (3, 0));
    let mut shown = Vec::new();
    engine.for_each_callsite(|status| {
        let ops: Vec<_> = status.ops().map(core::ptr::from_ref).collect();
        shown.push((status.name.unwrap_or_default().to_owned(), ops.len()));
        assert!(format!("{status:?}").contains("Status"));
    });
    assert_eq!(shown, [("draw".to_owned(), 1), ("sort".to_owned(), 2), ("sort_fast".to_owned(), 1)]);
    let mut registered = 0;
    engine.for_each_ops(|status| registered += status.callsites);
    assert_eq!((registered, engine.statistics().ops), (4, 3));
    assert_eq!((SECOND.data(), SECOND.flags(), SECOND.misses()), (7, OpsFlags::SAVE_REGS, 0));
    for (ops, callsites) in [(&FIRST, 2), (&SECOND, 1), (&RETURNING, 1)] {
        assert_eq!(engine.unregister(ops), Ok(callsites));
    }
    assert_eq!(engine.unregister(&FIRST), Err(RegisterError::NotRegistered));
    assert_eq!(kernel.snapshot(), before);
    engine.for_each_refusal(|(at, why)| panic!("{at}: {why}"));
}

#[test]
fn a_fault_leaves_the_text_as_it_was() {
    let (kernel, engine, _) = kernel_of(["one", "two", "three"]);
    static OPS: Ops = Ops::new(callback);
    let before = kernel.snapshot();
    for fault in [Fault::Write(1), Fault::AliasesFrom(0), Fault::Batch, Fault::Cpu(0)] {
        kernel.set_fault(Some(fault));
        let error = engine.register(&OPS, &Filter::ALL).unwrap_err();
        assert!(error.to_string().starts_with("The "), "{error}");
        kernel.repair();
        assert_eq!(kernel.snapshot(), before, "{fault:?}");
    }
    assert!(!kernel.take_events().is_empty());
    assert_eq!(engine.register(&OPS, &Filter::ALL), Ok(3));
    assert_eq!(engine.unregister(&OPS), Ok(3));
}

#[test]
fn threads_share_an_engine() {
    let (_, engine, [one, two]) = kernel_of(["one", "two"]);
    static OPS: [Ops; 2] = [const { Ops::new(callback) }; 2];
    thread::scope(|scope| {
        for (ops, function) in OPS.iter().zip([one, two]) {
            scope.spawn(move || {
                for _ in 0..3 {
                    assert_eq!(engine.register(ops, &Filter::new(&[Rule::address(function)])), Ok(1));
                    assert_eq!(engine.check_text().wrong, 0);
                    assert_eq!(engine.unregister(ops), Ok(1));
                }
            });
        }
    });
    assert_eq!(engine.check_text().disabled, 2);
}

#[test]
fn names_and_addresses_lead_to_each_other() {
    let (_, engine, [draw, sort]) = kernel_of(["draw", "sort"]);
    let symbols = engine.symbols().unwrap();
    let found: Vec<u64> = symbols.lookup_name("sort").map(|symbol| symbol.addr).collect();
    assert_eq!(found, [sort.get()]);
    assert_eq!(symbols.lookup_addr(draw.get() + 4).map(|location| location.symbol.name), Some("draw"));
    assert_eq!((symbols.len(), symbols.iter().count()), (2, 2));
    assert!(symbols.display(sort.get()).to_string().contains("sort"));
    let filter = [Rule::name("draw").negated(), Rule::address(sort)];
    assert!(Filter::new(&filter).selects(None, sort, None));
    assert!(!Filter::new(&filter).selects(Some("draw"), TextAddr::new(0), None));
}
