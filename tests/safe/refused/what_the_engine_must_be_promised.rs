//! Each has a contract that only the kernel can keep.
use fentry::context::shadow::ShadowStack;
use fentry::context::unwind::Frames;
use fentry::{Engine, Image, Ops, TextAddr, TraceContext};

fn init(engine: &Engine, image: Image) {
    let _ = engine.init(image);
}

fn give(context: &TraceContext) {
    let stack = ShadowStack::<4>::new();
    context.set_shadow_stack(&stack);
}

fn swing(engine: &Engine, ops: &'static Ops) {
    let _ = engine.modify_direct(ops, TextAddr::new(0x1000));
}

fn walk() -> Option<TextAddr> {
    Frames::new(0x1000, 0x1000..0x2000).next()
}

fn main() {}
