//! The sets of ops that callsites have, each with its stub.
//!
//! A callsite's record holds the number of its set. Registering an ops turns set S into S with that ops, for each
//! selected callsite; what S becomes is worked out once, whatever the number of callsites. A set that no callsite has any
//! more keeps its stub until no CPU can be inside it: [`Sets::reclaim`] is called after quiescence.

use super::mask::Mask;
use super::members::Members;
use crate::address::TextAddr;
use crate::callsite::table::SetId;
use crate::callsite::veneer::reaches;
use crate::insn::EncodeError;
use crate::ops::{Action, Ops};
use crate::stub::{
    Code, CodeMemory, FramelessPart, LANDING_PAD_BYTES, SliceVec, StubBlock, StubEnv, StubPlan, StubRoom,
    TrampolinePlan,
};
use crate::text::{PokeError, TextPoke};
use core::mem::MaybeUninit;

/// The most sets that callsites can have between them at a time, with the empty one: as many as a record has numbers for.
pub(super) const MAX_SETS: usize = SetId::COUNT;

/// A set of ops.
#[derive(Clone, Copy)]
pub(super) struct Set {
    /// # Invariants
    ///
    /// Empty for [`SetId::NONE`], and where there is no set.
    members: Mask,
    /// How many callsites have it.
    callsites: u32,
    stub: Option<Stub>,
    /// What it becomes, and by which change; see [`Sets::changed`].
    becomes: (u32, SetId),
}

impl Set {
    pub(super) const NOTHING: Self = Self { members: Mask::EMPTY, callsites: 0, stub: None, becomes: (0, SetId::NONE) };

    /// Makes it one of these members, without a stub. Field by field, which the whole of it at once is not: that is a `memcpy`.
    #[inline]
    fn renew(&mut self, members: Mask) {
        self.members = members;
        self.callsites = 0;
        self.stub = None;
        self.becomes = (0, SetId::NONE);
    }
}

/// Where a set's callsites go.
#[derive(Clone, Copy)]
struct Stub {
    block: StubBlock,
    entry: TextAddr,
    /// The trampoline, if a direct ops is the only member.
    direct: Option<TextAddr>,
}

/// How a set is changed.
#[derive(Clone, Copy)]
pub(super) enum Membership {
    With(usize),
    Without(usize),
    /// Sets without the first stay as they are.
    Replaced {
        number: usize,
        successor: usize,
    },
    None,
}

impl Membership {
    /// What becomes of a set with these members.
    fn of(self, members: Mask) -> Mask {
        match self {
            Self::With(number) => members.with(number),
            Self::Without(number) => members.without(number),
            Self::Replaced { number, successor } if members.has(number) => members.without(number).with(successor),
            Self::Replaced { .. } => members,
            Self::None => Mask::EMPTY,
        }
    }
}

/// There is no such set: two of its members exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conflict;

/// What generates code for an address.
pub(super) type GenerateCode<'a> = dyn Fn(&mut Code, TextAddr) -> Result<(), EncodeError> + 'a;

/// Why a set has no stub.
pub(super) enum StubError {
    Room,
    Reach(EncodeError),
    Text(PokeError),
    TooLong { bytes: usize },
}

/// All sets.
pub(super) struct Sets {
    /// By their numbers, up to the highest that one has; [`SetId::NONE`]'s is the first.
    sets: SliceVec<Set>,
    /// The change that is being planned.
    change: u32,
    /// For how many that are planned there is no place: such a plan can't be carried out.
    missing: usize,
    pub(super) room: StubRoom,
    draft: Draft,
}

impl Sets {
    /// Of `sets`, there is the empty one only.
    pub(super) const fn new(sets: SliceVec<Set>, room: StubRoom, draft: Draft) -> Self {
        Self { sets, change: 0, missing: 0, room, draft }
    }

    /// Without memory for any but the empty one.
    pub(super) const fn without_memory() -> Self {
        Self::new(SliceVec::new(&mut []), StubRoom::new(&mut []), Draft::without_memory())
    }

    /// All but the empty one.
    fn used(&self) -> &[Set] {
        self.sets.get(1..).unwrap_or_default()
    }

    /// Begins a change: what [`changed`](Self::changed) has worked out before is forgotten.
    pub(super) fn begin_change(&mut self) {
        self.change = self.change.wrapping_add(1);
    }

    /// Returns what `from` becomes by the change that was begun.
    #[inline]
    pub(super) fn changed(&mut self, from: SetId, how: Membership, members: &Members) -> Result<SetId, Conflict> {
        match self.sets.get(from.number()).map(|set| set.becomes) {
            Some((change, becomes)) if change == self.change => Ok(becomes),
            _ => self.work_out(from, how, members),
        }
    }

    fn work_out(&mut self, from: SetId, how: Membership, members: &Members) -> Result<SetId, Conflict> {
        let wanted = how.of(self.members(from));
        let becomes = if wanted.is_empty() {
            SetId::NONE
        } else {
            // Where there is no place, it goes on, to count all that would be needed.
            self.find_or_add(wanted, members)?.unwrap_or_else(|| {
                self.missing += 1;
                from
            })
        };
        if let Some(set) = self.sets.get_mut(from.number()) {
            set.becomes = (self.change, becomes);
        }
        Ok(becomes)
    }

    fn find_or_add(&mut self, wanted: Mask, members: &Members) -> Result<Option<SetId>, Conflict> {
        let mut free = None;
        for (number, set) in self.sets.iter().enumerate().skip(1) {
            if set.members == wanted {
                return Ok(Some(SetId::of(number)));
            }
            if free.is_none() && set.members.is_empty() {
                free = Some(number);
            }
        }
        if members.exclude_each_other(&wanted) {
            return Err(Conflict);
        }
        let number = free.unwrap_or(self.sets.len());
        if number == self.sets.len() && !self.sets.push(Set::NOTHING) {
            return Ok(None);
        }
        let Some(set) = self.sets.get_mut(number) else { return Ok(None) };
        set.renew(wanted);
        Ok(Some(SetId::of(number)))
    }

    /// How many there would have to be, with the empty one, for what is planned; if there are fewer.
    #[inline]
    pub(super) fn needed(&self) -> Option<usize> {
        if self.missing > 0 { Some(1 + self.len() + self.missing) } else { None }
    }

    /// The members of a set.
    pub(super) fn members(&self, target: SetId) -> Mask {
        self.sets.get(target.number()).map_or(Mask::EMPTY, |set| set.members)
    }

    /// Whether a set has the ops of this number.
    #[inline]
    pub(super) fn has(&self, set: SetId, number: usize) -> bool {
        self.sets.get(set.number()).is_some_and(|set| set.members.has(number))
    }

    /// Makes a stub for every set that has none and that a callsite shall have, as `is_planned` says; the others, which a
    /// plan only passed through, are dropped. Returns whether that succeeded; else [`take_failure`](Self::take_failure) has why
    /// not.
    pub(super) fn make_stubs(
        &mut self,
        members: &Members,
        env: &StubEnv,
        poke: TextPoke<'_>,
        is_planned: impl Fn(SetId) -> bool,
    ) -> bool {
        let mut passed_through = false;
        for (number, set) in self.sets.iter_mut().enumerate().skip(1) {
            if set.members.is_empty() || set.stub.is_some() {
                continue;
            }
            if is_planned(SetId::of(number)) {
                if !self.draft.make(&mut self.room, set, members, env, poke) {
                    return false;
                }
            } else {
                passed_through = true;
            }
        }
        if passed_through {
            self.forget_unmade();
        }
        true
    }

    /// Returns how many bytes what is generated for the room would have, at its start.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]: something is out of reach from there.
    pub(super) fn generated_bytes(&mut self, generate: &GenerateCode<'_>) -> Result<usize, EncodeError> {
        let Self { room, draft: Draft { code, .. }, .. } = self;
        generate(code, room.text().start)?;
        Ok(size_of_val(code.words()))
    }

    /// Makes a generated function from `at` to `end` at most. Returns whether that succeeded, as
    /// [`make_stubs`](Self::make_stubs) does.
    ///
    /// # Safety
    ///
    /// 1. `at` begins a part of the room up to `end`, at a multiple of 16 bytes, that nobody else has, and that nobody
    ///    executes.
    pub(super) unsafe fn make_generated(
        &mut self,
        generate: &GenerateCode<'_>,
        [at, end]: [TextAddr; 2],
        poke: TextPoke<'_>,
    ) -> bool {
        let Draft { code, failure, .. } = &mut self.draft;
        *failure = generate(code, at).err().map(StubError::Reach);
        // SAFETY: 1. our caller's promise.
        unsafe { self.draft.write((end.get().saturating_sub(at.get()) / 4) as usize, at, poke) };
        self.draft.failure.is_none()
    }

    /// Why the last stub could not be made.
    pub(super) fn take_failure(&mut self) -> StubError {
        self.draft.failure.take().unwrap_or(StubError::Room)
    }

    /// Drops the sets that only a discarded plan has thought of: no callsite has ever had them.
    pub(super) fn forget_unmade(&mut self) {
        self.drop_if(|set| set.stub.is_none());
    }

    /// Drops the sets that no callsite has. No CPU can be inside their stubs any more, or on the way there.
    pub(super) fn reclaim(&mut self) {
        self.drop_if(|set| set.callsites == 0);
    }

    fn drop_if(&mut self, condition: impl Fn(&Set) -> bool) {
        let mut end = 1;
        for (number, set) in self.sets.iter_mut().enumerate().skip(1) {
            if !set.members.is_empty() && condition(set) {
                if let Some(stub) = set.stub {
                    self.room.give_back(stub.block);
                }
                set.renew(Mask::EMPTY);
            }
            if !set.members.is_empty() {
                end = number + 1;
            }
        }
        self.sets.truncate(end);
        self.missing = 0;
        // What a set becomes may be one that is gone.
        self.begin_change();
    }

    /// Notes that this many callsites went from one set to another.
    pub(super) fn count(&mut self, from: SetId, to: SetId, callsites: u32) {
        if let Some(set) = self.sets.get_mut(from.number()) {
            set.callsites = set.callsites.saturating_sub(callsites);
        }
        if let Some(set) = self.sets.get_mut(to.number()) {
            set.callsites += callsites;
        }
    }

    /// Where the callsites of a set go.
    #[inline]
    pub(super) fn destination(&self, target: SetId) -> Destination {
        match self.sets.get(target.number()).and_then(|set| set.stub) {
            None => Destination::Nowhere,
            Some(Stub { entry, direct: None, .. }) => Destination::Stub(entry),
            Some(Stub { entry, direct: Some(trampoline), .. }) => Destination::Direct { trampoline, entry },
        }
    }

    /// Whether there is a set that has the ops of this number.
    pub(super) fn some_has(&self, number: usize) -> bool {
        self.used().iter().any(|set| set.members.has(number))
    }

    /// How many callsites have the ops of this number.
    pub(super) fn callsites_with(&self, number: usize) -> usize {
        let with = self.used().iter().filter(|set| set.members.has(number));
        with.map(|set| set.callsites as usize).sum()
    }

    /// Whether a callsite has the ops of this number.
    pub(super) fn some_callsite_has(&self, number: usize) -> bool {
        self.callsites_with(number) > 0
    }

    /// Whether there is a set that no callsite has.
    pub(super) fn has_unused(&self) -> bool {
        self.used().iter().any(|set| !set.members.is_empty() && set.callsites == 0)
    }

    /// How many sets there are besides the empty one.
    pub(super) fn len(&self) -> usize {
        self.used().iter().filter(|set| !set.members.is_empty()).count()
    }
}

/// Where callsites go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// They call nothing.
    Nowhere,
    /// A stub, or a veneer to it.
    Stub(TextAddr),
    /// A trampoline where BL reaches it, else the stub that jumps to it.
    Direct { trampoline: TextAddr, entry: TextAddr },
}

impl Destination {
    /// The address that the callsite whose second instruction is at `at` calls.
    #[inline]
    pub(super) fn from(self, at: TextAddr) -> Option<TextAddr> {
        match self {
            Self::Nowhere => None,
            Self::Stub(entry) => Some(entry),
            Self::Direct { trampoline, entry } => Some(if reaches(at, trampoline) { trampoline } else { entry }),
        }
    }

    /// Whether it is the same place for all callsites.
    pub(super) const fn is_one(self) -> bool {
        !matches!(self, Self::Direct { .. })
    }
}

/// What a stub of so many members is made in. Too large for a kernel's stack.
pub(super) struct DraftMemory<const OPS: usize> {
    parts: [MaybeUninit<FramelessPart>; OPS],
    callbacks: [MaybeUninit<&'static Ops>; OPS],
    code: CodeMemory<OPS>,
}

impl<const OPS: usize> DraftMemory<OPS> {
    pub(super) const UNINIT: Self =
        Self { parts: [MaybeUninit::uninit(); OPS], callbacks: [MaybeUninit::uninit(); OPS], code: CodeMemory::UNINIT };
}

/// The stub that is being made.
pub(super) struct Draft {
    parts: SliceVec<FramelessPart>,
    callbacks: SliceVec<&'static Ops>,
    code: Code,
    /// Why it could not be made.
    failure: Option<StubError>,
}

impl Draft {
    const fn without_memory() -> Self {
        Self {
            parts: SliceVec::new(&mut []),
            callbacks: SliceVec::new(&mut []),
            code: Code::without_memory(),
            failure: None,
        }
    }

    pub(super) const fn new<const OPS: usize>(memory: &'static mut DraftMemory<OPS>) -> Self {
        let DraftMemory { parts, callbacks, code } = memory;
        Self { parts: SliceVec::new(parts), callbacks: SliceVec::new(callbacks), code: code.code(), failure: None }
    }

    /// Makes the stub of a set; returns whether that succeeded. In steps, so that what one has on the stack is not there under
    /// the next.
    #[inline]
    fn make(
        &mut self,
        room: &mut StubRoom,
        set: &mut Set,
        members: &Members,
        env: &StubEnv,
        poke: TextPoke<'_>,
    ) -> bool {
        let direct = self.collect(set.members, members, env);
        self.failure = None;
        let Some(block) = room.take(self.bytes(direct)) else { return false };
        let at = room.start(block);
        self.generate(direct, at, env);
        self.end();
        // SAFETY: 1. just taken, so it begins at a multiple of the room's unit, and nobody executes it: what had it before was
        // given back after quiescence, and no callsite goes there before this has returned.
        unsafe { self.write(StubRoom::words(block), at, poke) };
        if self.failure.is_some() {
            room.give_back(block);
            return false;
        }
        let direct = direct.filter(|_| self.parts.is_empty() && self.callbacks.is_empty());
        // A BL goes behind the landing pad of what is generated.
        let is_generated = direct.is_some_and(|trampoline| room.text().contains(trampoline));
        let direct = direct.map(|at| if is_generated { TrampolinePlan::entry(at) } else { at });
        set.stub = Some(Stub { block, entry: at.offset(LANDING_PAD_BYTES), direct });
        true
    }

    /// The most bytes that the stub takes.
    #[inline(never)]
    fn bytes(&self, direct: Option<TextAddr>) -> usize {
        StubPlan { parts: &self.parts, callbacks: &self.callbacks, direct }.bytes()
    }

    /// Collects what the stub of a set does; returns the trampoline that it goes to, if it does.
    #[inline(never)]
    fn collect(&mut self, set: Mask, members: &Members, env: &StubEnv) -> Option<TextAddr> {
        let Self { parts, callbacks, .. } = self;
        parts.clear();
        callbacks.clear();
        let (mut direct, mut recorded, mut hooks_returns, mut is_whole) = (None, None, false, true);
        for member in members.in_order(set) {
            match (member.action, env.cpu) {
                (Action::Callback | Action::Inject, _) => is_whole &= callbacks.push(member.ops),
                (Action::Direct(trampoline), _) => direct = Some(trampoline),
                (Action::Count, cpu) => {
                    is_whole &= parts.push(match cpu.zip(member.counter) {
                        Some((base, counter)) => FramelessPart::CountOnCpu { base, counter },
                        None => FramelessPart::Count(&member.ops.hits),
                    });
                }
                (Action::CountCallsites(hits), _) => is_whole &= parts.push(FramelessPart::CountCallsite(hits)),
                (Action::Return, _) => hooks_returns = true,
                (Action::Record { arguments }, _) => recorded = recorded.max(Some(arguments)),
            }
        }
        if hooks_returns {
            // Last, so that the others see where the function really returns.
            for hook in members.in_order(set).filter(|member| matches!(member.action, Action::Return)) {
                is_whole &= callbacks.push(hook.ops);
            }
        }
        // Last, so that its time is near the call's.
        if let Some((arguments, base)) = recorded.zip(env.cpu) {
            is_whole &= parts.push(FramelessPart::Record { base, arguments });
        }
        debug_assert!(is_whole, "there is a place for as many as there can be members");
        direct
    }

    /// Generates the stub for what was collected, to stand at `at`.
    #[inline(never)]
    fn generate(&mut self, direct: Option<TextAddr>, at: TextAddr, env: &StubEnv) {
        let Self { parts, callbacks, code, .. } = self;
        StubPlan { parts, callbacks, direct }.code(code, at, env);
    }

    #[inline(never)]
    fn end(&mut self) {
        self.failure = self.code.end().err().map(StubError::Reach);
    }

    /// Writes what was generated to the block of so many words at `at`.
    ///
    /// # Safety
    ///
    /// 1. It is an aligned part of the room that nobody else has, and that nobody executes.
    #[inline(never)]
    unsafe fn write(&mut self, words: usize, at: TextAddr, poke: TextPoke<'_>) {
        let Self { code, failure, .. } = self;
        if failure.is_some() {
            return;
        }
        let mut done = Ok(());
        if !code.fits(words) {
            *failure = Some(StubError::TooLong { bytes: 4 * words });
            return;
        }
        // SAFETY: 1. aligned, by our caller's promise; the words fit it, and the room is mapped (`Image::new`, 5). 2. Nobody
        // executes it, by the same promise, and nobody but the engine uses the room (`Image::new`, 5).
        unsafe { poke.write_code(at, code.words(), &mut done) };
        if let Err(error) = done {
            *failure = Some(StubError::Text(error));
        }
    }
}
