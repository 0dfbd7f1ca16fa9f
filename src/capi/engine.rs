//! Init, and what concerns the engine as a whole.

use super::console::told;
use super::context::fentry_trace_context;
use super::error::fentry_error;
use super::platform::{FENTRY_MAX_LEFT_OUT, KERNEL, fentry_platform, fentry_range};
use super::{console, engine, from_c};
use crate::address::{TextAddr, TextRange};
use crate::engine::{Engine, Image, InitReport, LeftOut};
use arrayvec::{ArrayString, ArrayVec};
use core::ffi::{c_char, c_void};

/// What init found.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct fentry_report {
    /// Functions that can be traced.
    pub accepted: u64,
    /// Of these, how many begin with a landing pad.
    pub with_landing_pad: u64,
    /// Of these, how many were compiled with -fpatchable-function-entry=4,2.
    pub with_literal: u64,
    /// Entries of the callsite section in text that is never traced.
    pub excluded: u64,
    /// Functions that the platform leaves out.
    pub left_out: u64,
    /// Parts of the platform's `leave_out` that mean no function with a callsite; the console has them.
    pub unmatched: u64,
    /// Entries that are no callsites; fentry_for_each_refusal() names them.
    pub refused: u64,
    /// Names in the symbol table; 0: there is none, and rules by name select nothing.
    pub symbols: u64,
}

impl From<InitReport> for fentry_report {
    fn from(report: InitReport) -> Self {
        let counts = report.counts;
        Self {
            accepted: counts.accepted as u64,
            with_landing_pad: counts.with_landing_pad as u64,
            with_literal: counts.with_literal as u64,
            excluded: counts.excluded as u64,
            left_out: counts.left_out as u64,
            unmatched: report.unmatched as u64,
            refused: counts.refused as u64,
            symbols: report.symbols as u64,
        }
    }
}

/// Initialises the library, once, on the boot CPU: makes every callsite of the image ready, and prepares the stubs to find the
/// trace contexts. Writes what it found to `report`, if that is not NULL. After an error it can be called again.
///
/// Errors: NULL_POINTER, WRONG_SIZE (no FENTRY_PLATFORM_INIT), WRONG_VERSION, FLOAT_ABI, BRANCH_TARGETS, INCOMPLETE, BAD_VALUE,
/// TOO_MANY_RULES and BAD_RULE (of what is left out), ALREADY_INITIALISED, CALLSITES (the section is empty, not writable, not
/// relocated yet, or needs `layout` or a symbol table), SYMBOLS,
/// CONTEXT_OFFSET, CPU_AREA_OFFSET, TEXT (a page has no alias).
///
/// # Safety
///
/// 1. `platform` is NULL or a platform that stays for ever, whose functions do what they should; `report` is NULL or a place
///    for a report.
/// 2. Until this returns, no other CPU runs the image's text, and neither does an interrupt handler.
/// 3. The image was linked with the linker fragment, whose sections are mapped as it says: the callsites writable, text and the
///    room for stubs executable. A position-independent kernel has relocated itself.
/// 4. From now on a function may find x9 changed at its entry, and x10 to x17, q16 to q31 and the flags while it is traced: none
///    is called by another convention than the AAPCS64's base standard (preserve_most, vector PCS; nested functions of GCC
///    with x18).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_init(platform: *const fentry_platform, report: *mut fentry_report) -> fentry_error {
    // SAFETY: 1. Our caller's first promise.
    match unsafe { init(platform) } {
        Ok(found) => {
            // SAFETY: 1. Our caller's first promise.
            unsafe { from_c::write_if_wanted(report, found.into()) };
            fentry_error::None
        }
        Err(error) => error,
    }
}

/// # Safety
///
/// 1. As for [`fentry_init`].
unsafe fn init(platform: *const fentry_platform) -> Result<InitReport, fentry_error> {
    // SAFETY: 1. our caller's promise 1.
    let platform = unsafe { fentry_platform::check(platform) }?;
    KERNEL.take(platform)?;
    console::take_log();
    // SAFETY: 1. our caller's promises; it was checked, and is `KERNEL`'s.
    let result = unsafe { init_engine(platform) };
    match result {
        Ok(_) => KERNEL.keep(),
        Err(_) => KERNEL.give_up(),
    }
    result
}

/// What the init that is under way leaves out.
static LEFT_OUT: spin::Mutex<ArrayVec<LeftOut, FENTRY_MAX_LEFT_OUT>> = spin::Mutex::new(ArrayVec::new_const());

/// # Safety
///
/// 1. As for [`fentry_init`]; the platform was checked, and is `KERNEL`'s.
unsafe fn init_engine(platform: &'static fentry_platform) -> Result<InitReport, fentry_error> {
    // SAFETY: 1. our caller's promise.
    let image = unsafe { linked_image() };
    let (engine, image) = super::raw_engine().zip(image).ok_or(fentry_error::NotInitialised)?;
    let image = match platform.layout()? {
        Some(layout) => image.with_layout(layout),
        None => image,
    };
    let mut left_out = LEFT_OUT.lock();
    left_out.clear();
    // There is room for as many as there can be.
    // SAFETY: 1. our caller's promise.
    unsafe { platform.for_each_left_out(|part| drop(left_out.try_push(part))) }?;
    // SAFETY: in a static, which the guard keeps as it is until init is over; the engine does not keep it for longer.
    let left_out = unsafe { core::slice::from_raw_parts(left_out.as_ptr(), left_out.len()) };
    let image = image.leave_out(left_out);
    // SAFETY: 1. and 2. our caller's promises 2 and 4. 3. The engine is a static.
    unsafe { engine.init(image) }.map_err(told)
}

/// # Safety
///
/// 1. As for [`fentry_init`], 3.
#[cfg(target_os = "none")]
unsafe fn linked_image() -> Option<Image> {
    // SAFETY: 1. and 2. our caller's promise. 3. There is one engine, and `KERNEL` is taken once, but for inits that fail.
    Some(unsafe { Image::linked() })
}

#[cfg(not(target_os = "none"))]
unsafe fn linked_image() -> Option<Image> {
    super::host::image()
}

/// Returns whether a thread of this context that is interrupted at `pc` (ELR_EL1) is quiescent: inside no callback, and not on
/// its way to one. Waits for nothing, so it may be called in interrupt handlers. True before init, and for NULL.
///
/// # Safety
///
/// `trace` is NULL or a context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_is_quiescent(trace: *const fentry_trace_context, pc: u64) -> bool {
    // SAFETY: 1. Our caller's promise.
    let context = unsafe { fentry_trace_context::of(trace) };
    match (engine(), context) {
        (Ok(engine), Ok(context)) => engine.is_quiescent(context, TextAddr::new(pc)),
        _ => true,
    }
}

/// Writes how many callsites' text is as the engine believes.
///
/// Errors: NOT_INITIALISED, NULL_POINTER.
///
/// # Safety
///
/// `check` is NULL, or a place for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_check_text(check: *mut fentry_text_check) -> fentry_error {
    let found = match engine().map(Engine::check_text) {
        Ok(found) => found,
        Err(error) => return error,
    };
    let found = fentry_text_check {
        disabled: found.disabled as u64,
        enabled: found.enabled as u64,
        wrong: found.wrong as u64,
        quarantined: found.quarantined as u64,
    };
    // SAFETY: 1. Our caller's promise.
    unsafe { from_c::write(check, found) }
}

/// All callsites' text, compared with what the engine believes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct fentry_text_check {
    /// Callsites that call nothing.
    pub disabled: u64,
    /// Callsites that call a stub.
    pub enabled: u64,
    /// Callsites whose text is not what the engine believes.
    pub wrong: u64,
    /// Callsites that are left alone, since somebody else has written their text.
    pub quarantined: u64,
}

/// What is told of an entry of the callsite section that is no callsite: where it is, and why, in `length` bytes of text.
pub type fentry_show_refusal =
    Option<unsafe extern "C" fn(entry: u64, why: *const c_char, length: usize, context: *mut c_void)>;

/// Calls `show` with every entry of the callsite section that is no callsite, and with `context`. `show` may not call fentry.
///
/// Errors: NOT_INITIALISED, NULL_POINTER.
///
/// # Safety
///
/// `show` is NULL or such a function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_for_each_refusal(show: fentry_show_refusal, context: *mut c_void) -> fentry_error {
    let engine = match engine() {
        Ok(engine) => engine,
        Err(error) => return error,
    };
    let Some(show) = show else { return fentry_error::NullPointer };
    engine.for_each_refusal(|(at, why)| {
        let mut text = ArrayString::<160>::new();
        // What is longer is cut off.
        let _ = core::fmt::write(&mut text, format_args!("{why}"));
        // SAFETY: the kernel's own function, called as the header says.
        unsafe { show(at.get(), text.as_ptr().cast(), text.len(), context) };
    });
    fentry_error::None
}

/// Gives a part of the text back, as a kernel does with its init text when it has started: its callsites lose their ops and are
/// forgotten, and the engine neither reads nor writes there any more. Writes their number to `functions`, if that is not NULL.
///
/// Errors: NOT_INITIALISED, NULL_POINTER, and those of fentry_unregister(): the text must stay. After NOT_QUIESCENT the callsites
/// have lost their ops already.
///
/// # Safety
///
/// `range` is NULL or a range, and `functions` is NULL or a place for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_forget(range: *const fentry_range, functions: *mut usize) -> fentry_error {
    // SAFETY: our caller's promise.
    let Some(range) = (unsafe { range.as_ref() }) else { return fentry_error::NullPointer };
    let range = TextRange::new(TextAddr::new(range.start), TextAddr::new(range.end));
    let done = engine().and_then(|engine| engine.forget(range).map_err(told));
    // SAFETY: 1. Our caller's promise.
    fentry_error::from_result(done.map(|found| unsafe { from_c::write_if_wanted(functions, found) }))
}

/// Looks again at the callsites whose text somebody else has written, a debugger for example, and that were left alone for that;
/// returns how many are as the engine had left them, and in use again. 0 before init.
#[unsafe(no_mangle)]
pub extern "C" fn fentry_look_again() -> usize {
    engine().map_or(0, Engine::look_again)
}
