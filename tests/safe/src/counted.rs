use super::kernel_of;
use fentry::record::flight::FlightSlot;
use fentry::record::hits::CallsiteHits;
use fentry::{CpuArea, Filter, Ops, TextAddr, TextRange};
use std::sync::atomic::AtomicU64;
use std::thread;

#[test]
fn counters_are_registered_and_read() {
    static COUNTER: Ops = Ops::counter();
    let (_, engine, [draw, sort]) = kernel_of(["draw", "sort"]);
    let text = TextRange::new(TextAddr::new(super::BASE), sort.offset(64));
    let counters: Vec<AtomicU64> = (0..CallsiteHits::counters_for(text)).map(|_| AtomicU64::new(0)).collect();
    let hits = Box::leak(Box::new(CallsiteHits::new(text.start, Box::leak(counters.into_boxed_slice()))));
    let callsites = Box::leak(Box::new(Ops::callsite_counter(hits)));
    for ops in [&COUNTER, callsites] {
        assert_eq!(engine.register(ops, &Filter::ALL), Ok(2));
    }
    assert_eq!((engine.hits(&COUNTER), engine.function_hits(hits, draw)), (0, Some(0)));
    let mut functions = 0;
    engine.for_each_function_hit(hits, |function| functions += usize::from(!format!("{function:?}").is_empty()));
    assert!(functions <= 2);
    hits.reset();
    for ops in [&COUNTER, callsites] {
        assert_eq!(engine.unregister(ops), Ok(2));
    }
}

#[test]
fn an_area_takes_one_ring_whoever_gives_it() {
    static SLOTS: [[FlightSlot; 4]; 2] = [const { [const { FlightSlot::new() }; 4] }; 2];
    for _ in 0..if cfg!(miri) { 4 } else { 200 } {
        let area = CpuArea::new();
        let given = thread::scope(|scope| {
            let area = &area;
            let both = SLOTS.each_ref().map(|slots| scope.spawn(move || area.set_ring(slots).is_ok()));
            both.map(|thread| thread.join().unwrap())
        });
        assert!(given.contains(&true));
        assert!(area.set_ring(&SLOTS[0]).is_err());
        let mut recording = area.recording();
        assert!(recording.next().is_none());
        assert_eq!((recording.produced(), recording.lost(), recording.skip_unfinished()), (0, 0, false));
        assert!(format!("{area:?}").contains("CpuArea"));
    }
}

#[test]
fn a_ring_of_a_wrong_size_is_refused() {
    static SLOTS: [FlightSlot; 3] = [const { FlightSlot::new() }; 3];
    let area = CpuArea::default();
    assert!(area.set_ring(&SLOTS).is_err());
    assert!(area.set_ring(&[]).is_err());
    assert!(area.recording().next().is_none());
}
