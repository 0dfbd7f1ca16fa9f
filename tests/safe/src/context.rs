use fentry::context::shadow::ShadowStack;
use fentry::{TextAddr, TextRange, TraceContext};

#[test]
fn a_fresh_context_is_inside_nothing() {
    static CONTEXT: TraceContext = TraceContext::new();
    let stub = TextRange::new(TextAddr::new(0x1000), TextAddr::new(0x1100));
    assert!(!CONTEXT.in_callback());
    assert!(CONTEXT.is_quiescent(TextAddr::new(0x1100), &[stub]));
    assert!(!CONTEXT.is_quiescent(TextAddr::new(0x10fc), &[stub]));
    let counts = [CONTEXT.misses(), CONTEXT.overflows(), CONTEXT.abandoned(), CONTEXT.depth() as u64];
    assert_eq!(counts, [0; 4]);
    assert!(format!("{CONTEXT:?} {:?}", ShadowStack::<2>::new()).contains("TraceContext"));
}
