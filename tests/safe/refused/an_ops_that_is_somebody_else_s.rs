//! Whose it is says where it is registered: an injection's would run in place of other functions.
use fentry::{Engine, Filter};

fn register_all_of_one_engine(engine: &Engine, other: &Engine) {
    engine.for_each_ops(|status| {
        let _ = other.register(status.ops, &Filter::ALL);
    });
}

fn main() {}
