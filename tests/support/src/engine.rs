//! The engine of this kernel, made ready the first time that it is asked for.

use crate::platform::PLATFORM;
use fentry::engine::InitReport;
use fentry::{Engine, Image};
use spin::Once;

static ENGINE: Engine = Engine::new(&PLATFORM);
static REPORT: Once<InitReport> = Once::new();

/// The engine, and what its init reported.
///
/// The first call is made before any other CPU is started and before interrupts are enabled.
///
/// # Panics
///
/// If init fails.
pub fn engine() -> (&'static Engine, InitReport) {
    let report = REPORT.call_once(|| {
        // SAFETY: `linker.ld` puts the symbols around what their names say; this kernel is linked where it runs; `Once`
        // lets this happen once.
        let image = unsafe { Image::linked() };
        // SAFETY: one CPU, no interrupts yet, as this function's doc asks.
        match unsafe { ENGINE.init(image) } {
            Ok(report) => report,
            Err(error) => panic!("{error}"),
        }
    });
    (&ENGINE, *report)
}
