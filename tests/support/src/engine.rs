//! The engine of this kernel, made ready the first time that it is asked for.

use crate::interrupts::Masked;
use crate::platform::PLATFORM;
use crate::smp;
use fentry::engine::InitReport;
use fentry::kprobe::Kprobes;
use fentry::{Engine, Image};
use spin::Once;

static ENGINE: Engine = Engine::new(&PLATFORM);
/// The probes at instructions of this kernel.
pub static KPROBES: Kprobes<512> = Kprobes::new(&ENGINE);
static REPORT: Once<InitReport> = Once::new();

/// The engine, and what its init reported.
///
/// # Panics
///
/// Init fails, or the first call comes when other CPUs run already.
pub fn engine() -> (&'static Engine, InitReport) {
    engine_on(|image| image)
}

/// The engine of a kernel that knows more of its image than the linker script does, and what its init reported.
///
/// # Panics
///
/// As [`engine`].
pub fn engine_on(adapt: impl FnOnce(Image) -> Image) -> (&'static Engine, InitReport) {
    let report = REPORT.call_once(|| {
        let _masked = Masked::new();
        assert_eq!(smp::online().count(), 1, "the engine is made ready before the other CPUs start");
        // SAFETY: `linker.ld` puts the symbols around what their names say; this kernel is linked where it runs; `Once`
        // lets this happen once.
        let image = unsafe { Image::linked() };
        // SAFETY: one CPU, and interrupts are masked.
        match unsafe { ENGINE.init(adapt(image)) } {
            Ok(report) => report,
            Err(error) => panic!("{error}"),
        }
    });
    (&ENGINE, *report)
}
