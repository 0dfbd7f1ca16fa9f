use super::{BASE, callback};
use fentry::fakes::{COMPILED, FakeMemory, FakeText, MemoryFault};
use fentry::module::{Exports, ModuleMemory, Placement, Regions, Request, Segment};
use fentry::{Filter, Ops, Rule};

#[test]
fn the_text_of_a_module_comes_and_goes() {
    static OPS: Ops = Ops::new(callback);
    let mut text = FakeText::new(BASE);
    text.function("draw", COMPILED);
    let mut module = FakeText::new(BASE + (1 << 30));
    module.function("draw_more", COMPILED);
    text.module(module);
    let (kernel, engine, _) = safe_machine::engine_on(text);
    assert_eq!(engine.register(&OPS, &Filter::new(&[Rule::glob("draw*").unwrap()])), Ok(1));
    for _ in 0..3 {
        let token = safe_machine::add_module(engine, kernel).unwrap();
        assert_eq!(engine.check_text().enabled, 2);
        engine.remove(token).unwrap();
        assert_eq!(engine.check_text().enabled, 1);
    }
    assert_eq!(engine.unregister(&OPS), Ok(1));
}

#[test]
fn memory_is_lent_where_it_is_asked_for() {
    let memory = FakeMemory::new(BASE);
    let request = Request { segment: Segment::Text, bytes: 4096, placement: Placement::Anywhere };
    let first = memory.allocate(&request).unwrap();
    let second = memory.allocate(&request).unwrap();
    assert_eq!((first.address, second.address, memory.lent_bytes()), (BASE, BASE + 4096, 8192));
    assert_eq!(memory.segment_at(BASE), Some((Segment::Text, None)));
    assert_eq!(memory.read(BASE + 4, 4).map(|bytes| bytes.len()), Some(4));
    memory.set_fault(Some(MemoryFault::Allocate(0)));
    assert!(memory.allocate(&request).unwrap_err().to_string().starts_with("The kernel has no memory"));
}

#[test]
fn exports_are_found_by_name() {
    let exports = Exports::new([("printk", 0x1000), ("jiffies", 0x2000)]).unwrap();
    assert_eq!((exports.get("jiffies"), exports.get("nothing"), exports.len()), (Some(0x2000), None, 2));
}
