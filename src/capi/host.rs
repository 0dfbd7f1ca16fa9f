//! A host's side: there the functions exist, for tests and for their layouts, and an engine only where a test has made one.

use crate::engine::{Engine, Image};
use crate::text::Machine;

/// What a test runs the engine on.
struct Host {
    engine: Engine,
    image: fn() -> Image,
}

static HOST: spin::Once<Host> = spin::Once::new();

/// Makes the engine, on this machine and with this image; the first caller's stays.
#[cfg_attr(not(test), expect(dead_code, reason = "only tests have a machine"))]
pub(super) fn set_machine(machine: &'static dyn Machine, image: fn() -> Image) {
    HOST.call_once(|| Host { engine: Engine::with_machine(&super::platform::KERNEL, machine), image });
}

/// The engine, if a test has made one.
pub(super) fn raw_engine() -> Option<&'static Engine> {
    HOST.get().map(|host| &host.engine)
}

/// The image that the test has; only where there is an engine.
pub(super) fn image() -> Option<Image> {
    HOST.get().map(|host| (host.image)())
}
