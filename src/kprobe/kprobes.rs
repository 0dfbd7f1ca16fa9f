//! Probes come and go.

use super::detour::{self, Parts, SEVERAL, detour};
use super::error::KprobeError;
use super::instruction::{Refusal, Simulated, Way, check_exclusives, way};
use super::point::{AFTER, BEFORE, CODE_BYTES, Instruction, Point, brk, code_words};
use super::probe::{Kprobe, ServedBy, State};
use super::simulate::literal;
use crate::address::TextAddr;
use crate::engine::{Claim, Engine, NotClaimed, RegisterError, Surroundings};
use crate::filter::{Filter, Rule};
use crate::insn::BranchOffset;
use crate::text::PokeError;
use arrayvec::ArrayVec;
use core::fmt;

/// The probes of a kernel, at up to `POINTS` instructions beside functions' entries: in a `static`.
///
/// All methods but [`handle_brk`](Self::handle_brk), [`handle_fault`](Self::handle_fault) and [`original`](Self::original)
/// may be called where the [`Engine`]'s may.
pub struct Kprobes<const POINTS: usize> {
    pub(crate) engine: &'static Engine,
    pub(super) points: [Point; POINTS],
    claims: spin::Mutex<[Option<Claimed>; POINTS]>,
}

/// What the engine has given for a point.
struct Claimed {
    claim: Claim,
    /// What is in the text.
    form: Form,
}

/// What is in the text at a point.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Instruction,
    Breakpoint,
    Jump,
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
    /// At a function's entry, its landing pad or its callsite, the callsite serves it. Anywhere else a B or a BRK is put in the
    /// instruction's place while [all other CPUs are held](crate::Platform::hold_cpus). Several probes at one instruction are
    /// called in the order of their registration.
    ///
    /// # Errors
    ///
    /// [`KprobeError`]; nothing has changed, but as [`register_entry`](Self::register_entry) says.
    ///
    /// # Safety
    ///
    /// 1. At `at` there is an instruction, and not data that stands among a function's instructions.
    /// 2. Whoever executes it has a stack at SP, with room for a handler.
    pub unsafe fn register(&'static self, probe: &'static Kprobe, at: TextAddr) -> Result<ServedBy, KprobeError> {
        self.register_with(probe, |claims| self.put(probe, at, claims))
    }

    /// Registers a probe at the entry of the function that begins at `function`, whose callsite serves it.
    ///
    /// # Errors
    ///
    /// [`KprobeError`]; nothing has changed. [`KprobeError::Entry`] if that is no function with a callsite. Where a CPU was not seen
    /// quiescent after a failure, the probe is registered, and is to be removed.
    pub fn register_entry(&'static self, probe: &'static Kprobe, function: TextAddr) -> Result<ServedBy, KprobeError> {
        self.register_with(probe, |_| self.put_at_entry(probe, function))
    }

    fn register_with(
        &'static self,
        probe: &'static Kprobe,
        put: impl FnOnce(&mut Claims<'_, POINTS>) -> Result<ServedBy, KprobeError>,
    ) -> Result<ServedBy, KprobeError> {
        // Before the lock: another `Kprobes` has one of its own.
        if !probe.take(State::Free, State::Changing) {
            return Err(KprobeError::AlreadyRegistered);
        }
        let registered = put(&mut self.lock());
        // Where it could be put at a callsite in part only, it is there.
        if registered.is_err() && probe.state() == State::Changing {
            probe.set_state(State::Free);
        }
        registered
    }

    /// Registers a probe at `offset` bytes from the beginning of the function of this name, which the symbol table has.
    ///
    /// # Errors
    ///
    /// As for [`register`](Self::register).
    ///
    /// # Safety
    ///
    /// As for [`register`](Self::register).
    pub unsafe fn register_at(
        &'static self,
        probe: &'static Kprobe,
        function: &str,
        offset: u64,
    ) -> Result<ServedBy, KprobeError> {
        let function = self.engine.function_named(function).ok_or(KprobeError::NoSuchFunction)?;
        // SAFETY: 1. and 2. our caller's promises.
        unsafe { self.register(probe, function.offset(offset.cast_signed())) }
    }

    /// Removes a probe, and waits until no CPU is inside its handlers.
    ///
    /// # Errors
    ///
    /// [`KprobeError`]. With [`KprobeError::NotQuiescent`], and at a callsite with [`KprobeError::Entry`] of
    /// [`RegisterError::NotQuiescent`] or [`RegisterError::Quarantined`], it is to be removed again, as [`Engine::unregister`] has it;
    /// with any other nothing has changed.
    pub fn unregister(&'static self, probe: &'static Kprobe) -> Result<(), KprobeError> {
        let mut claims = self.lock();
        if probe.state() == State::AtCallsite {
            // Also where it is disabled: the engine may still have what could not be put back, or not be waited for.
            return match self.engine.unregister(&probe.ops) {
                Ok(_) | Err(RegisterError::NotRegistered) => {
                    probe.set_state(State::Free);
                    Ok(())
                }
                Err(error) => Err(KprobeError::Entry(error)),
            };
        }
        let number = self.number_of(probe);
        match (probe.state(), number) {
            (State::AtBreakpoint | State::AtJump, Some(number)) => {
                let point = &self.points[number];
                point.remove(probe);
                if let Err(error) = self.set_form(number, &mut claims) {
                    point.add(probe);
                    return Err(KprobeError::Text(error));
                }
                probe.set_state(State::Leaving);
            }
            // Its point may have gone with another probe.
            (State::Leaving, _) => {}
            _ => return Err(KprobeError::NotRegistered),
        }
        self.engine.await_quiescence().map_err(KprobeError::NotQuiescent)?;
        number.into_iter().for_each(|number| self.release_unused(number, &mut claims));
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

    /// The probes at an instruction that is no function's entry.
    pub fn probes_at(&self, at: TextAddr) -> impl Iterator<Item = &'static Kprobe> {
        let point = self.points.iter().find(|point| point.at() == Some(at));
        point.into_iter().flat_map(Point::probes)
    }

    /// The instructions beside functions' entries that have probes, or had them until a moment ago.
    pub fn instructions(&self) -> impl Iterator<Item = TextAddr> {
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

    fn put(
        &'static self,
        probe: &'static Kprobe,
        at: TextAddr,
        claims: &mut Claims<'_, POINTS>,
    ) -> Result<ServedBy, KprobeError> {
        if let Some(number) = self.points.iter().position(|point| point.at() == Some(at)) {
            return self.add(number, probe, claims);
        }
        let insn = match self.engine.examine(at, |text| instruction(at, text)) {
            Err(NotClaimed::Callsite { function }) => return self.put_at_entry(probe, function),
            Err(cause) => return Err(KprobeError::NotClaimed { at, cause }),
            Ok(insn) => insn.map_err(|cause| KprobeError::Refused { at, cause })?,
        };
        self.check_path(at)?;
        let free =
            self.points.iter().zip(claims.iter()).position(|(point, claim)| point.at().is_none() && claim.is_none());
        let number = free.ok_or(KprobeError::TooManyPoints { points: POINTS })?;
        let point = &self.points[number];
        let (claim, words, in_detour) = self.code(&insn, number as u16, point)?;
        // SAFETY: 1. it was just claimed.
        if let Err(error) = unsafe { self.engine.write_code(&claim, &words) } {
            // SAFETY: 1. it was never changed.
            unsafe { self.engine.release(claim) };
            return Err(KprobeError::Text(error));
        }
        point.set(claim.code(), &insn, in_detour);
        claims[number] = Some(Claimed { claim, form: Form::Instruction });
        let added = self.add(number, probe, claims);
        if added.is_err() {
            // Never reached, so nobody is there.
            self.release_unused(number, claims);
        }
        added
    }

    /// Claims an instruction, and makes the code that belongs to it: with a detour where there can be one and there is room.
    /// Where the instruction is in that detour, or 0.
    fn code(
        &self,
        insn: &Instruction,
        number: u16,
        point: &Point,
    ) -> Result<(Claim, ArrayVec<u32, { (CODE_BYTES + detour::BYTES) / 4 }>, usize), KprobeError> {
        let claim = |bytes| self.engine.claim(insn.at, bytes);
        let with_detour = detour::is_for_detour(insn).then(|| claim(CODE_BYTES + detour::BYTES).ok()).flatten();
        let has_room = with_detour.is_some();
        let claim = with_detour.map_or_else(|| claim(CODE_BYTES), Ok);
        let claim = claim.map_err(|cause| KprobeError::NotClaimed { at: insn.at, cause })?;
        let code = claim.code();
        let mut words: ArrayVec<u32, _> = code_words(insn, number, code).into_iter().collect();
        let begin = code.offset(CODE_BYTES as i64);
        let parts = self.engine.running().map(|running| Parts::of(point, running.context_base()));
        // The B to it, and all that it goes to, must be in reach.
        let reaches = |to: TextAddr| BranchOffset::between(insn.at.get(), to.get()).is_ok();
        let made = parts.filter(|_| has_room && reaches(begin)).and_then(|parts| detour(insn, begin, &parts).ok());
        let Some(made) = made else { return Ok((claim, words, 0)) };
        words.extend(made.words);
        Ok((claim, words, CODE_BYTES + made.instruction))
    }

    /// Adds a probe to a point, and has what serves it put there if it is not; returns how it is served.
    fn add(
        &self,
        number: usize,
        probe: &'static Kprobe,
        claims: &mut Claims<'_, POINTS>,
    ) -> Result<ServedBy, KprobeError> {
        let point = &self.points[number];
        let at = point.at().unwrap_or(TextAddr::new(0));
        if probe.has_after() && matches!(way(at, point.word()), Ok(Way::Leaving)) {
            return Err(KprobeError::NoAfter { at });
        }
        probe.set_at(at);
        point.add(probe);
        match self.set_form(number, claims) {
            Ok(Form::Jump) => Ok(ServedBy::Jump),
            Ok(Form::Breakpoint | Form::Instruction) => Ok(ServedBy::Breakpoint),
            Err(error) => {
                point.remove(probe);
                Err(KprobeError::Text(error))
            }
        }
    }

    fn put_at_entry(&self, probe: &'static Kprobe, function: TextAddr) -> Result<ServedBy, KprobeError> {
        probe.set_at(function);
        let attached = if probe.is_enabled() { self.attach(probe, function) } else { Ok(()) };
        let is_there = match attached {
            Ok(()) => true,
            // Some failures leave it there.
            Err(_) => !matches!(self.engine.unregister(&probe.ops), Ok(_) | Err(RegisterError::NotRegistered)),
        };
        if is_there {
            probe.set_state(State::AtCallsite);
        }
        attached.map(|()| ServedBy::Callsite).map_err(KprobeError::Entry)
    }

    fn attach(&self, probe: &'static Kprobe, function: TextAddr) -> Result<(), RegisterError> {
        // For the handler, which gets the address of what comes first in it.
        let _ = core::ptr::from_ref(probe).expose_provenance();
        self.engine.register_anew(&probe.ops, &Filter::new(&[Rule::address(function)])).map(drop)
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
            (State::AtCallsite, _) => self.engine.unregister_unwaited(&probe.ops).map_err(KprobeError::Entry),
            (State::AtBreakpoint | State::AtJump, _) => {
                let number = self.number_of(probe).ok_or(KprobeError::NotRegistered);
                number.and_then(|number| self.set_form(number, &mut claims).map(drop).map_err(KprobeError::Text))
            }
            // It will be so when it is registered.
            _ => Ok(()),
        };
        if switched.is_err() {
            probe.set_enabled(!is_enabled);
        }
        switched
    }

    /// Puts what serves a point's probes into the text, or the instruction where none wants to be called; returns which.
    fn set_form(&self, number: usize, claims: &mut Claims<'_, POINTS>) -> Result<Form, PokeError> {
        let point = &self.points[number];
        let Some(claimed) = &mut claims[number] else { return Ok(Form::Instruction) };
        let is_for_jump = point.probes().filter(|probe| probe.is_enabled()).all(Kprobe::is_for_jump);
        let wanted = match point.is_wanted() {
            false => Form::Instruction,
            true if is_for_jump && point.detour().is_some() => Form::Jump,
            true => Form::Breakpoint,
        };
        point.set_called(&SEVERAL);
        if claimed.form != wanted {
            let word = |form| match form {
                Form::Instruction => point.word(),
                Form::Breakpoint => brk(BEFORE + number as u16),
                Form::Jump => point.jump(),
            };
            // SAFETY: 1. one may be the instruction itself. Whoever executes the BRK comes to `handle_brk` (`Platform`, 11), which
            // finds the point, and goes on in its code, or behind the instruction; the B goes to that code. It was written, and
            // stays until every CPU was seen quiescent without either.
            unsafe { self.engine.change_claimed(&claimed.claim, word(claimed.form), word(wanted)) }?;
            claimed.form = wanted;
        }
        let state = if wanted == Form::Jump { State::AtJump } else { State::AtBreakpoint };
        point.probes().for_each(|probe| probe.set_state(state));
        Ok(wanted)
    }

    /// Gives a point back that has no probes. No CPU is in its handlers or in its code.
    fn release_unused(&self, number: usize, claims: &mut Claims<'_, POINTS>) {
        let point = &self.points[number];
        if point.probes().next().is_some()
            || claims[number].as_ref().is_some_and(|claimed| claimed.form != Form::Instruction)
        {
            return;
        }
        if let Some(Claimed { claim, .. }) = claims[number].take() {
            point.free();
            // SAFETY: 1. the instruction is there, and every CPU was seen quiescent, or nothing else ever was there.
            unsafe { self.engine.release(claim) };
        }
    }

    /// Checks that the platform brings BRK exceptions to the probes, by a way that `at` is not on.
    fn check_path(&self, at: TextAddr) -> Result<(), KprobeError> {
        let mut is_on_path = false;
        let has_path = self.engine.platform().for_each_brk_range(&mut |range| is_on_path |= range.contains(at));
        match (has_path, is_on_path) {
            (false, _) => Err(KprobeError::NoBreakpoints { at }),
            (true, true) => Err(KprobeError::Refused { at, cause: Refusal::ExceptionPath }),
            (true, false) => Ok(()),
        }
    }
}

impl<const POINTS: usize> fmt::Debug for Kprobes<POINTS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.instructions()).finish()
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
