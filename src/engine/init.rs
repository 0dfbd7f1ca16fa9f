//! Init: the callsites of the kernel's image become a table and are made ready, once, before anything is traced.

use super::error::InitError;
use super::image::Image;
use super::left_out::LeftOut;
use super::memory::Memory;
use super::region::Region;
use super::registry::Registry;
use super::stub_text::StubText;
use super::{Engine, Running};
use crate::callsite::WordChange;
use crate::callsite::table::InitCounts;
use crate::insn::{EncodeError, UImm};
use crate::platform::ContextBase;
use crate::record::CpuArea;
use crate::stub::StubEnv;
use crate::stub::entry::Stubs;
#[cfg(target_os = "none")]
use crate::text::Machine as _;
use crate::text::{Batch, TextWord};
use core::ops::ControlFlow;

/// What init found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitReport {
    /// The entries of the section, by what became of them.
    pub counts: InitCounts,
    /// How many symbols the image has; 0 means that filters by name select nothing.
    pub symbols: usize,
    /// How many of the parts of [`Image::leave_out`] mean no function that has a callsite: a name that is written in another
    /// way, or has changed; all names where there are no symbols. [`LeftOut::functions`] has the number for each.
    pub unmatched: usize,
}

impl Engine {
    /// Makes every callsite of the image ready, and prepares the stubs to find the platform's trace contexts.
    ///
    /// Takes up to 3 KiB of [stack](Self#stack).
    ///
    /// # Errors
    ///
    /// [`InitError`]. Entries that are no callsites are no error: the report counts them, and
    /// [`for_each_refusal`](Self::for_each_refusal) names them.
    ///
    /// # Safety
    ///
    /// 1. Until this returns, no other CPU runs the image's text, and neither does an interrupt handler: MOV X9, LR is not
    ///    an instruction that may be written under a CPU that executes it.
    /// 2. A function with a callsite in the image may find x9 changed at its entry from now on, and x10 to x17, q16 to q31
    ///    and the flags while it is traced: nobody calls one by another convention than the AAPCS64's base standard, and
    ///    none takes a value in x18 that a callback may change ([`guide`](crate::guide) names those that do, and the way
    ///    out).
    /// 3. Once it has succeeded, the engine stays for as long as a CPU can execute the image's text.
    pub unsafe fn init(&self, image: Image) -> Result<InitReport, InitError> {
        let mut registry = self.lock();
        if registry.stub_env.is_some() {
            return Err(InitError::AlreadyDone);
        }
        if let Some(error) = image.damage {
            return Err(InitError::Symbols(error));
        }
        registry.take_memory(self.memory, &self.stub_text)?;
        let counts = registry.add_image(&image)?;
        // SAFETY: 1. our caller's first promise.
        if let Err(error) = unsafe { registry.make_ready(image.stubs) } {
            registry.remove_image();
            return Err(error);
        }
        crate::stub::exit::set_platform(self.platform);
        if let Some(env) = &registry.stub_env {
            self.running.call_once(|| Running::new(env.context, registry.machine));
        }
        registry.sets.room.set(image.stubs.room);
        let room = registry.sets.room.text();
        for range in image.stubs.text.into_iter().chain([room]) {
            registry.add_stub_range(range, &self.stub_text);
        }
        drop(registry);
        let symbols = image.symbols.map_or(0, |names| self.symbols.call_once(|| names).len());
        let unmatched = image.left_out.iter().filter(|left_out| left_out.functions() == 0).count();
        let report = InitReport { counts, symbols, unmatched };
        log(&report, image.left_out);
        Ok(report)
    }
}

impl Registry {
    /// Adds the image's region. (In steps that return, as all of init: what one has on the stack is not there under the next.)
    #[inline(never)]
    fn add_image(&mut self, image: &Image) -> Result<InitCounts, InitError> {
        let (table, mut counts) = Region::table_of(image, self.machine).map_err(InitError::Table)?;
        let is_added = self.regions.push(Region::of_image(image, table));
        debug_assert!(is_added, "there is a place for the image");
        let Some(region) = self.regions.first_mut() else { return Ok(counts) };
        let left_out = if image.left_out.is_empty() { Ok(()) } else { region.leave_out(image.left_out, &mut counts) };
        let result = match left_out {
            Ok(()) if counts.accepted == 0 => Err(region.nothing_accepted(&counts, self.machine)),
            result => result,
        };
        if result.is_err() {
            self.remove_image();
        }
        result.map(|()| counts)
    }

    /// Takes the memory for tables, unless an init that has failed did so: what is taken stays this engine's.
    #[inline(never)]
    fn take_memory(&mut self, memory: &'static dyn Memory, shown: &StubText) -> Result<(), InitError> {
        if !self.has_memory {
            memory.give_to(self, shown)?;
            self.has_memory = true;
        }
        Ok(())
    }

    /// Removes the image's region again: its section is as it was, but for the order.
    #[cold]
    #[inline(never)]
    fn remove_image(&mut self) {
        while let Some(region) = self.regions.pop() {
            let _ = region.table.dissolve();
        }
    }

    /// Writes what init writes, and notes what stubs are made with.
    ///
    /// # Safety
    ///
    /// 1. Nobody executes the image's text meanwhile.
    #[inline(never)]
    unsafe fn make_ready(&mut self, stubs: Stubs) -> Result<(), InitError> {
        let env = stub_env(stubs, self)?;
        let Some(image) = self.regions.first() else { return Ok(()) };
        let batch = Readying::new(image, &env)?;
        // SAFETY: 1. our caller's promise; and no callsite calls the stubs yet.
        unsafe { self.poke().apply_quiet(&batch) }.map_err(InitError::Text)?;
        self.stub_env = Some(env);
        Ok(())
    }
}

#[inline(never)]
fn log(InitReport { counts, symbols, .. }: &InitReport, left_out: &[LeftOut]) {
    log::debug!("fentry: {} callsites, {} refused, {symbols} symbols", counts.accepted, counts.refused);
    for left_out in left_out.iter().filter(|left_out| left_out.functions() == 0) {
        log::warn!("fentry: no function with a callsite is left out by {left_out}");
    }
}

/// What the platform and the machine say that stubs can use.
fn stub_env(stubs: Stubs, Registry { platform, machine, .. }: &Registry) -> Result<StubEnv, InitError> {
    let cpu = platform.cpu_base();
    cpu.map(check_cpu_area).transpose().map_err(InitError::CpuAreaOffset)?;
    Ok(StubEnv { stubs, context: platform.context_base(), cpu, atomics: machine.has_atomics() })
}

/// Checks that one ADD reaches all of the area.
fn check_cpu_area(base: ContextBase) -> Result<(), EncodeError> {
    if !base.offset.is_multiple_of(8) {
        return Err(EncodeError::Misaligned { field: "offset", value: base.offset.into(), multiple_of: 8 });
    }
    UImm::<12>::new(u32::from(base.offset) + u32::from(CpuArea::LAST)).map(drop)
}

/// What init writes: the stubs' two instructions each, and MOV X9, LR at every callsite of the image.
struct Readying<'a> {
    stubs: [[WordChange<u32>; 2]; 3],
    image: &'a Region,
}

impl<'a> Readying<'a> {
    fn new(image: &'a Region, StubEnv { stubs, context, .. }: &StubEnv) -> Result<Self, InitError> {
        let caller = stubs.caller.changes(*context).map_err(InitError::ContextOffset)?;
        let regs_caller = stubs.regs_caller.changes(*context).map_err(InitError::ContextOffset)?;
        let returning = stubs.returning.changes(*context).map_err(InitError::ContextOffset)?;
        Ok(Self { stubs: [caller, regs_caller, returning], image })
    }
}

impl Batch<u32> for Readying<'_> {
    #[inline]
    fn for_each_change<B>(&self, mut each: impl FnMut(WordChange<u32, TextWord>) -> ControlFlow<B>) -> ControlFlow<B> {
        let stubs = self.stubs.as_flattened().iter().map(|WordChange { at, old, new }| {
            // SAFETY: 1. and 2. the stubs' labels are of instructions in mapped text (`Image::new`, 3).
            WordChange { at: unsafe { TextWord::new(*at) }, old: *old, new: *new }
        });
        // One place that calls `each`, so that all of it is compiled into the loop.
        for change in stubs.chain(self.image.to_ready()) {
            each(change)?;
        }
        ControlFlow::Continue(())
    }
}
