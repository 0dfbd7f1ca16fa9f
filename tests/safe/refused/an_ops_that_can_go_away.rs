//! A CPU may be on its way into the callback at any moment.
use fentry::{Engine, Filter, FtraceRegs, Ops, TextAddr};

extern "C" fn callback(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}

fn trace(engine: &Engine) {
    let ops = Ops::new(callback);
    let _ = engine.register(&ops, &Filter::ALL);
}

fn main() {}
