//! What a context says of itself decides when memory may go away.
use fentry::context::ContextLevel;
use fentry::context::shadow::ShadowStack;
use fentry::context::unwind::Frames;
use fentry::TraceContext;

static CONTEXT: TraceContext = TraceContext::new();

fn lies(frames: Frames<'static>) {
    let outer = CONTEXT.enter(ContextLevel::Irq);
    CONTEXT.leave(outer);
    CONTEXT.reset();
    CONTEXT.set_shadow_stack(&ShadowStack::<1>::new());
    let _ = frames.with_returns(&CONTEXT);
}

fn main() {}
