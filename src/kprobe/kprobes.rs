//! Probes come and go.

use super::error::KprobeError;
use super::instruction::{Refusal, Simulated, Way, check_exclusives, way};
use super::point::{AFTER, BEFORE, CODE_BYTES, Instruction, Point, brk, code_words};
use super::probe::{Kprobe, ServedBy, State};
use super::simulate::literal;
use crate::address::TextAddr;
use crate::engine::{Claim, Engine, NotClaimed, RegisterError, Surroundings};
use crate::filter::{Filter, Rule};
use crate::text::PokeError;
use core::fmt;

/// The probes of a kernel, at up to `POINTS` instructions beside functions' entries: in a `static`.
///
/// All methods but [`handle_brk`](Self::handle_brk), [`handle_fault`](Self::handle_fault) and [`original`](Self::original)
/// may be called where the [`Engine`]'s may.
pub struct Kprobes<const POINTS: usize> {
    pub(super) engine: &'static Engine,
    pub(super) points: [Point; POINTS],
    claims: spin::Mutex<[Option<Claimed>; POINTS]>,
}

/// What the engine has given for a point.
struct Claimed {
    claim: Claim,
    /// Whether the breakpoint is in the text.
    has_breakpoint: bool,
}

type Claims<'a, const POINTS: usize> = spin::MutexGuard<'a, [Option<Claimed>; POINTS]>;

impl<const POINTS: usize> Kprobes<POINTS> {
    /// Makes those of this engine; none yet.
    pub const fn new(engine: &'static Engine) -> Self {
        const { assert!(POINTS <= (AFTER - BEFORE) as usize, "there are 4096 comments of BRK for them") };
        Self { engine, points: [const { Point::new() }; POINTS], claims: spin::Mutex::new([const { None }; POINTS]) }
    }

    /// Registers a probe at the instruction at `at`; returns how it is served.
    ///
    /// At a function's entry, its landing pad or its callsite, the callsite serves it. Anywhere else a BRK is put in the
    /// instruction's place while [all other CPUs are held](crate::Platform::hold_cpus). Several probes at one instruction are
    /// called in the order of their registration.
    ///
    /// # Errors
    ///
    /// [`KprobeError`]; nothing has changed.
    pub fn register(&'static self, probe: &'static Kprobe, at: TextAddr) -> Result<ServedBy, KprobeError> {
        if !probe.take(State::Free, State::Changing) {
            return Err(KprobeError::AlreadyRegistered);
        }
        let registered = self.put(probe, at);
        probe.set_state(match registered {
            Ok(ServedBy::Callsite) => State::AtCallsite,
            Ok(ServedBy::Breakpoint) => State::AtBreakpoint,
            Err(_) => State::Free,
        });
        registered
    }

    /// Registers a probe at `offset` bytes from the beginning of the function of this name, which the symbol table has.
    ///
    /// # Errors
    ///
    /// As for [`register`](Self::register).
    pub fn register_at(
        &'static self,
        probe: &'static Kprobe,
        function: &str,
        offset: u64,
    ) -> Result<ServedBy, KprobeError> {
        let function = self.engine.function_named(function).ok_or(KprobeError::NoSuchFunction)?;
        self.register(probe, function.offset(offset.cast_signed()))
    }

    /// Removes a probe, and waits until no CPU is inside its handlers.
    ///
    /// # Errors
    ///
    /// [`KprobeError`]. With [`KprobeError::NotQuiescent`] it is called no more, and is to be removed again; with any other
    /// nothing has changed.
    pub fn unregister(&'static self, probe: &'static Kprobe) -> Result<(), KprobeError> {
        if probe.take(State::AtCallsite, State::Changing) {
            let removed = if probe.is_enabled() { self.engine.unregister(&probe.ops).map(drop) } else { Ok(()) };
            probe.set_state(if removed.is_ok() { State::Free } else { State::AtCallsite });
            return removed.map_err(KprobeError::Entry);
        }
        let mut claims = self.lock();
        let number = self.number_of(probe).ok_or(KprobeError::NotRegistered)?;
        let point = &self.points[number];
        if probe.take(State::AtBreakpoint, State::Changing) {
            point.remove(probe);
            if let Err(error) = self.set_breakpoint(number, &mut claims) {
                point.add(probe);
                probe.set_state(State::AtBreakpoint);
                return Err(KprobeError::Text(error));
            }
        } else if !probe.take(State::Leaving, State::Changing) {
            return Err(KprobeError::NotRegistered);
        }
        if let Err(timeout) = self.engine.await_quiescence() {
            probe.set_state(State::Leaving);
            return Err(KprobeError::NotQuiescent(timeout));
        }
        self.release_unused(number, &mut claims);
        probe.set_state(State::Free);
        Ok(())
    }

    /// Has a registered probe called, as it is at first.
    ///
    /// # Errors
    ///
    /// [`KprobeError`]; nothing has changed.
    pub fn enable(&'static self, probe: &'static Kprobe) -> Result<(), KprobeError> {
        self.switch(probe, true)
    }

    /// Has a registered probe called no more, until it is [enabled](Self::enable): it costs nothing then, if no other one is at
    /// its instruction. A CPU may still be inside its handlers.
    ///
    /// # Errors
    ///
    /// [`KprobeError`]; nothing has changed.
    pub fn disable(&'static self, probe: &'static Kprobe) -> Result<(), KprobeError> {
        self.switch(probe, false)
    }

    /// How the probes at an instruction are served: by a breakpoint, or not at all.
    pub fn probes_at(&self, at: TextAddr) -> impl Iterator<Item = &'static Kprobe> {
        let point = self.points.iter().find(|point| point.at() == Some(at));
        point.into_iter().flat_map(Point::probes)
    }

    /// The instructions that have breakpoints, or had them until a moment ago.
    pub fn breakpoints(&self) -> impl Iterator<Item = TextAddr> {
        self.points.iter().filter_map(Point::at)
    }

    fn lock(&self) -> Claims<'_, POINTS> {
        loop {
            if let Some(claims) = self.claims.try_lock() {
                return claims;
            }
            self.engine.relax();
        }
    }

    /// The point that a probe is at, or was.
    fn number_of(&self, probe: &Kprobe) -> Option<usize> {
        let at = probe.was_at()?;
        self.points.iter().position(|point| point.at() == Some(at))
    }

    fn put(&'static self, probe: &'static Kprobe, at: TextAddr) -> Result<ServedBy, KprobeError> {
        let mut claims = self.lock();
        if let Some(number) = self.points.iter().position(|point| point.at() == Some(at)) {
            self.add(number, probe, &mut claims)?;
            return Ok(ServedBy::Breakpoint);
        }
        let insn = match self.engine.examine(at, |text| instruction(at, text)) {
            Err(NotClaimed::Callsite { function }) => {
                drop(claims);
                return self.put_at_entry(probe, function);
            }
            Err(cause) => return Err(KprobeError::NotClaimed { at, cause }),
            Ok(insn) => insn.and_then(|insn| self.check_path(insn)),
        };
        let insn = insn.map_err(|cause| KprobeError::Refused { at, cause })?;
        let Some(insn) = insn else { return Err(KprobeError::NoBreakpoints { at }) };
        let free =
            self.points.iter().zip(claims.iter()).position(|(point, claim)| point.at().is_none() && claim.is_none());
        let number = free.ok_or(KprobeError::TooManyPoints { points: POINTS })?;
        let claim = self.engine.claim(at, CODE_BYTES).map_err(|cause| KprobeError::NotClaimed { at, cause })?;
        let words = code_words(&insn, number as u16, claim.code());
        // SAFETY: 1. it was just claimed.
        if let Err(error) = unsafe { self.engine.write_code(&claim, &words) } {
            // SAFETY: 1. it was never changed.
            unsafe { self.engine.release(claim) };
            return Err(KprobeError::Text(error));
        }
        self.points[number].set(claim.code(), &insn);
        claims[number] = Some(Claimed { claim, has_breakpoint: false });
        let added = self.add(number, probe, &mut claims);
        if added.is_err() {
            // Never reached, so nobody is there.
            self.release_unused(number, &mut claims);
        }
        added.map(|()| ServedBy::Breakpoint)
    }

    /// Adds a probe to a point, and has the breakpoint put there if it is not.
    fn add(&self, number: usize, probe: &'static Kprobe, claims: &mut Claims<'_, POINTS>) -> Result<(), KprobeError> {
        let point = &self.points[number];
        let at = point.at().unwrap_or(TextAddr::new(0));
        if probe.has_after() && matches!(way(at, point.word()), Ok(Way::Leaving)) {
            return Err(KprobeError::NoAfter { at });
        }
        probe.set_at(at);
        point.add(probe);
        self.set_breakpoint(number, claims).map_err(|error| {
            point.remove(probe);
            KprobeError::Text(error)
        })
    }

    fn put_at_entry(&self, probe: &'static Kprobe, function: TextAddr) -> Result<ServedBy, KprobeError> {
        probe.set_at(function);
        if probe.is_enabled() {
            self.attach(probe, function).map_err(KprobeError::Entry)?;
        }
        Ok(ServedBy::Callsite)
    }

    fn attach(&self, probe: &'static Kprobe, function: TextAddr) -> Result<(), RegisterError> {
        // For the callback, which gets the address of what comes first in it.
        let _ = core::ptr::from_ref(probe).expose_provenance();
        self.engine.register(&probe.ops, &Filter::new(&[Rule::address(function)])).map(drop)
    }

    fn switch(&'static self, probe: &'static Kprobe, is_enabled: bool) -> Result<(), KprobeError> {
        let mut claims = self.lock();
        if probe.is_enabled() == is_enabled {
            return Ok(());
        }
        probe.set_enabled(is_enabled);
        let switched = match (probe.state(), probe.at()) {
            (State::AtCallsite, Some(function)) if is_enabled => {
                self.attach(probe, function).map_err(KprobeError::Entry)
            }
            (State::AtCallsite, _) => self.engine.unregister(&probe.ops).map(drop).map_err(KprobeError::Entry),
            (State::AtBreakpoint, _) => {
                let number = self.number_of(probe).ok_or(KprobeError::NotRegistered);
                number.and_then(|number| self.set_breakpoint(number, &mut claims).map_err(KprobeError::Text))
            }
            // It will be so when it is registered.
            _ => Ok(()),
        };
        if switched.is_err() {
            probe.set_enabled(!is_enabled);
        }
        switched
    }

    /// Puts the breakpoint where a probe wants to be called, and takes it out where none does.
    fn set_breakpoint(&self, number: usize, claims: &mut Claims<'_, POINTS>) -> Result<(), PokeError> {
        let point = &self.points[number];
        let Some(claimed) = &mut claims[number] else { return Ok(()) };
        let is_wanted = point.is_wanted();
        if claimed.has_breakpoint != is_wanted {
            let (insn, breakpoint) = (point.word(), brk(BEFORE + number as u16));
            let (old, new) = if is_wanted { (insn, breakpoint) } else { (breakpoint, insn) };
            // SAFETY: 1. one is the instruction itself. Whoever executes the BRK comes to `handle_brk` (`Platform`, 11), which
            // finds the point, and goes on in its code, which was written, or behind the instruction.
            unsafe { self.engine.change_claimed(&claimed.claim, old, new) }?;
            claimed.has_breakpoint = is_wanted;
        }
        Ok(())
    }

    /// Gives a point back that has no probes. No CPU is in its handlers or in its code.
    fn release_unused(&self, number: usize, claims: &mut Claims<'_, POINTS>) {
        let point = &self.points[number];
        if point.probes().next().is_some() || claims[number].as_ref().is_some_and(|claimed| claimed.has_breakpoint) {
            return;
        }
        if let Some(Claimed { claim, .. }) = claims[number].take() {
            point.free();
            // SAFETY: 1. the instruction is there, and every CPU was seen quiescent, or the breakpoint never was there.
            unsafe { self.engine.release(claim) };
        }
    }

    /// `None` where the platform brings no exceptions to the probes.
    fn check_path(&self, insn: Instruction) -> Result<Option<Instruction>, Refusal> {
        let mut is_on_path = false;
        let has_path = self.engine.platform().for_each_brk_range(&mut |range| is_on_path |= range.contains(insn.at));
        match (has_path, is_on_path) {
            (false, _) => Ok(None),
            (true, true) => Err(Refusal::ExceptionPath),
            (true, false) => Ok(Some(insn)),
        }
    }
}

impl<const POINTS: usize> fmt::Debug for Kprobes<POINTS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.breakpoints()).finish()
    }
}

/// The instruction at `at`, if it can have a breakpoint.
fn instruction(at: TextAddr, text: &Surroundings<'_>) -> Result<Instruction, Refusal> {
    let word = text.word(at).ok_or(Refusal::Unknown { word: 0 })?;
    let way = way(at, word)?;
    check_exclusives(at, text)?;
    let literal = match way {
        Way::Simulated(Simulated::Literal { literal: kind, bytes, .. }) => {
            let from = at.offset(bytes);
            let outside = Refusal::LiteralOutsideText { from };
            let low = text.word(from).ok_or(outside)?;
            let high = if kind.bytes() == 8 { text.word(from.offset(4)).ok_or(outside)? } else { 0 };
            literal(kind, [low, high])
        }
        _ => 0,
    };
    Ok(Instruction { at, word, way, literal })
}
