//! The engine under the bench, and the functions that it traces.

use crate::counted::counted;
use alloc::vec::Vec;
use core::ops::Range;
use fentry::engine::InitReport;
use fentry::symbols::{Function, Symbol, encode};
use fentry::{Engine, Image, Symbols, TextAddr};
use generated::{COUNT, SPACING};
use spin::Once;
use support::PLATFORM;

pub(crate) static ENGINE: Engine = Engine::new(&PLATFORM);
static INIT: Once<Init> = Once::new();

/// How the engine was made ready.
#[derive(Clone, Copy)]
pub(crate) struct Init {
    pub(crate) report: InitReport,
    pub(crate) instructions: u32,
    /// The length of the callsite section.
    pub(crate) section_bytes: usize,
    /// The length of the symbol table.
    pub(crate) names_bytes: usize,
    /// What a call of the first function cost before.
    pub(crate) compiled_call: u32,
}

/// The engine, made ready the first time.
pub(crate) fn engine() -> &'static Engine {
    init();
    &ENGINE
}

/// Makes the engine ready the first time, and says how that went.
pub(crate) fn init() -> Init {
    *INIT.call_once(|| {
        let names = generated_names();
        let symbols = Symbols::parse(names).expect("the table was just made");
        let call = || counted(|| function(0)()).1;
        // Once before, so that what is only done the first time is done.
        call();
        let compiled_call = call();
        // What hardware does is what is counted; two situations say what is done for an emulator on top.
        support::platform::set_may_be_emulated(false);
        // SAFETY: the script puts its symbols around what their names say, this kernel is linked where it runs, and
        // `Once` lets this happen once.
        let image = unsafe { Image::linked() }.with_symbols(symbols);
        // SAFETY: one CPU, and no timer is set that would interrupt it.
        let (report, instructions) = counted(|| unsafe { ENGINE.init(image) });
        let report = report.expect("the image has callsites");
        assert_eq!(report.counts.accepted, COUNT, "{report:?}");
        assert_eq!(report.symbols, COUNT);
        Init { report, instructions, section_bytes: section().len(), names_bytes: names.len(), compiled_call }
    })
}

/// The kernel's symbol table less all but the generated functions, so that there are as many names as callsites.
fn generated_names() -> &'static [u8] {
    // SAFETY: the script puts its symbols around the table, which is read-only data.
    let all = unsafe { Symbols::linked() }.expect("this kernel is linked with its symbols");
    let generated = address(0).get()..address(COUNT).get();
    let functions: Vec<Function> = all
        .iter()
        .filter(|symbol| generated.contains(&symbol.addr) && symbol.name.starts_with("generated::"))
        .map(|Symbol { name, addr, size, convention }| Function { name: name.into(), addr, size, convention })
        .collect();
    encode(&functions, 0).expect("the functions are near each other").leak()
}

/// The callsite section.
fn section() -> Range<usize> {
    unsafe extern "C" {
        static __fentry_callsites_start: u8;
        static __fentry_callsites_stop: u8;
    }
    (&raw const __fentry_callsites_start).addr()..(&raw const __fentry_callsites_stop).addr()
}

/// The address of the function with this number.
pub(crate) fn address(number: usize) -> TextAddr {
    let first: extern "C" fn() = generated::generated_functions;
    TextAddr::new((first as *const ()).addr() as u64 + number as u64 * SPACING)
}

/// The function with this number.
pub(crate) fn function(number: usize) -> extern "C" fn() {
    assert!(number < COUNT);
    let code = core::ptr::with_exposed_provenance::<()>(address(number).get() as usize);
    // SAFETY: a function of this type starts at each multiple of the spacing.
    unsafe { core::mem::transmute::<*const (), extern "C" fn()>(code) }
}
