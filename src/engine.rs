//! Which callsite calls what: registration, planning, and the record of what was done.
//!
//! Floor 4. An [`Engine`] takes the kernel's [`Image`] once, at boot, and from then on turns an ops and a filter into the
//! smallest batch of changes that makes the text do what was asked, has [`text`](crate::text) carry it out as a whole, and
//! keeps its table true.
//!
//! ```text
//!   register(ops, filter):   select  ->  plan (what each must call)  ->  batch (what differs)  ->  text  ->  commit
//!                                                                            any failure: withdraw, text as before
//! ```

use crate::address::{TextAddr, TextRange};
use crate::callsite::{Callsite, Change, LiveWord, Refusal, State, StateError};
use crate::entry::Stubs;
use crate::filter::{Filter, Pattern, Rule, Sign};
use crate::insn;
use crate::ops::{Ops, OpsFlags};
use crate::platform::Platform;
use crate::symbols::Symbols;
use crate::table::{Census, Encoding, Record, Table, TableError, Target};
use crate::text::{Machine, PokeError, TextPoke};
use core::fmt;
use core::ops::Range;
use core::sync::atomic::Ordering;

/// A kernel's text and what is known about it.
#[derive(Debug)]
pub struct Image {
    /// The text that may hold callsites.
    pub text: TextRange,
    /// The part of it that is never traced: the engine's own.
    pub excluded: TextRange,
    /// Where the callsite section starts.
    section: *mut u64,
    /// Its length in bytes.
    section_bytes: usize,
    /// How its entries give an address.
    pub encoding: Encoding,
    /// The entry stubs.
    stubs: Stubs,
    /// The kernel's symbols, for filters by name.
    pub symbols: Option<Symbols<'static>>,
}

impl Image {
    /// An image from its parts; [`linked`](Self::linked) does it for a kernel that uses the linker fragment.
    ///
    /// # Safety
    ///
    /// - The section's bytes are readable, writable, and from now on the engine's alone.
    /// - `text` is mapped and readable, and stays so.
    pub const unsafe fn new(text: TextRange, section: *mut u64, section_bytes: usize, stubs: Stubs) -> Self {
        let (excluded, encoding) = (TextRange::EMPTY, Encoding::Absolute);
        Self { text, excluded, section, section_bytes, encoding, stubs, symbols: None }
    }

    /// The image that the linker script (`linker.ld`, or a kernel's own with `fentry.ld`) describes, with its symbols if it
    /// has some.
    ///
    /// # Safety
    ///
    /// - The symbols that the script defines stand around what their names say: text is mapped readable, the callsite
    ///   section readable and writable.
    /// - A position-independent kernel has relocated itself.
    /// - Called once: the section becomes the engine's.
    #[cfg(target_os = "none")]
    pub unsafe fn linked() -> Self {
        unsafe extern "C" {
            static __fentry_image_start: u8;
            static __fentry_image_stop: u8;
            static __fentry_text_start: u8;
            static __fentry_text_stop: u8;
            static mut __fentry_callsites_start: u64;
            static __fentry_callsites_stop: u8;
        }
        let range = |start: *const u8, stop: *const u8| {
            TextRange::new(TextAddr::new(start.addr() as u64), TextAddr::new(stop.addr() as u64))
        };
        let section = &raw mut __fentry_callsites_start;
        let section_bytes = (&raw const __fentry_callsites_stop).addr() - section.addr();
        let text = range(&raw const __fentry_image_start, &raw const __fentry_image_stop);
        // SAFETY: our caller's first and third promises.
        let image = unsafe { Self::new(text, section, section_bytes, Stubs::linked()) };
        let excluded = range(&raw const __fentry_text_start, &raw const __fentry_text_stop);
        // SAFETY: our caller's first promise; the script puts them into read-only data.
        let symbols = unsafe { Symbols::linked() };
        Self { excluded, symbols: symbols.ok(), ..image }
    }
}

/// What init found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitReport {
    /// The entries of the section, by what became of them.
    pub census: Census,
    /// How many symbols the image has; 0 means that filters by name select nothing.
    pub symbols: usize,
}

/// Why init failed. Text is as before; the same image can be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitError {
    /// There is an image already.
    AlreadyDone,
    /// The callsite section can't be used at all.
    Table(TableError),
    /// The platform's context base has an offset that the stubs can't hold.
    ContextOffset(insn::EncodeError),
    /// Text could not be written.
    Text(PokeError),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyDone => f.write_str("The engine has its image already"),
            Self::Table(error) => error.fmt(f),
            Self::ContextOffset(error) => write!(f, "The trace context's offset does not fit the entry stubs: {error}"),
            Self::Text(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for InitError {}

/// Why a registration was not done, or not undone. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// Init has not been done.
    NotInitialised,
    /// This ops is registered already.
    AlreadyRegistered,
    /// This ops is not registered.
    NotRegistered,
    /// Another ops is registered.
    Busy,
    /// The filter's rule of this number selects no callsite: an unknown name, or a function that can't be traced.
    NothingSelected {
        /// The rule's place in the filter, from 0.
        rule: usize,
    },
    /// The filter as a whole selects no callsite.
    EmptySelection,
    /// A callsite is not in the state that the change starts from, or can't reach what it shall call.
    Callsite(StateError),
    /// Text could not be changed.
    Text {
        /// What happened.
        error: PokeError,
        /// The function that the callsite belongs to.
        function: Option<&'static str>,
    },
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInitialised => f.write_str("The engine has not been initialised"),
            Self::AlreadyRegistered => f.write_str("The ops is registered already"),
            Self::NotRegistered => f.write_str("The ops is not registered"),
            Self::Busy => f.write_str("The engine has another ops registered"),
            Self::NothingSelected { rule } => write!(f, "The filter's rule {rule} selects no traceable function"),
            Self::EmptySelection => f.write_str("The filter selects no traceable function"),
            Self::Callsite(error) => error.fmt(f),
            Self::Text { error, function: Some(name) } => write!(f, "{error} (in {name})"),
            Self::Text { error, function: None } => error.fmt(f),
        }
    }
}

impl core::error::Error for RegisterError {}

/// What a look at all callsites' text found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Callsites whose text is MOV X9, LR and NOP.
    pub disabled: usize,
    /// Callsites whose text is MOV X9, LR and BL.
    pub enabled: usize,
    /// Callsites whose text is not what the engine believes.
    pub wrong: usize,
}

/// One callsite as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where it is.
    pub callsite: Callsite,
    /// What its text says, or the two words that are no state of a callsite.
    pub state: Result<State, [u32; 2]>,
    /// Its function's name.
    pub name: Option<&'static str>,
}

/// The engine: one for a kernel, in a `static`.
///
/// All methods may be called with interrupts on or off, from any CPU, but neither from a callback nor from an interrupt
/// handler: they wait for each other.
pub struct Engine {
    platform: &'static dyn Platform,
    machine: &'static dyn Machine,
    state: spin::Mutex<Option<Registry>>,
}

/// What is known once there is an image.
struct Registry {
    text: TextRange,
    excluded: TextRange,
    table: Table,
    stubs: Stubs,
    symbols: Option<Symbols<'static>>,
    registered: Option<&'static Ops>,
}

// SAFETY: the pointers inside are to the section, which `Image::new`'s caller gave to the engine alone, and to statics.
unsafe impl Send for Registry {}

impl Engine {
    /// An engine on this kernel's own CPU.
    #[cfg(target_os = "none")]
    pub const fn new(platform: &'static dyn Platform) -> Self {
        Self::with_machine(platform, &crate::text::Hardware)
    }

    /// An engine on any machine; on [`fakes`](crate::fakes) for example.
    pub const fn with_machine(platform: &'static dyn Platform, machine: &'static dyn Machine) -> Self {
        Self { platform, machine, state: spin::Mutex::new(None) }
    }

    /// Makes every callsite of the image ready, and the stubs to find the platform's trace contexts.
    ///
    /// # Errors
    ///
    /// [`InitError`]. Entries that are no callsites are no error: the report counts them, and
    /// [`for_each_refusal`](Self::for_each_refusal) names them.
    ///
    /// # Safety
    ///
    /// Until this returns, no other CPU runs the image's text, and neither an interrupt handler does: MOV X9, LR is not an
    /// instruction that may be written under a CPU that executes it.
    pub unsafe fn init(&self, image: Image) -> Result<InitReport, InitError> {
        let mut state = self.lock();
        if state.is_some() {
            return Err(InitError::AlreadyDone);
        }
        let (registry, census) = Registry::build(image, self.machine)?;
        // SAFETY: our caller promises that nothing runs the text.
        match unsafe { registry.make_ready(self.platform, self.machine) } {
            Ok(()) => {}
            Err(error) => {
                registry.table.dissolve();
                return Err(error);
            }
        }
        let symbols = registry.symbols.map_or(0, |symbols| symbols.len());
        *state = Some(registry);
        log::debug!("fentry: {} callsites, {} refused, {symbols} symbols", census.accepted, census.refused);
        Ok(InitReport { census, symbols })
    }

    /// Calls `ops`' callback at each entry of the functions that `filter` selects; returns how many those are.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]; nothing has changed then.
    pub fn register(&self, ops: &'static Ops, filter: &Filter<'_>) -> Result<usize, RegisterError> {
        let mut state = self.lock();
        let registry = state.as_mut().ok_or(RegisterError::NotInitialised)?;
        match registry.registered {
            Some(other) if core::ptr::eq(other, ops) => return Err(RegisterError::AlreadyRegistered),
            Some(_) => return Err(RegisterError::Busy),
            None => {}
        }
        let full = ops.flags().contains(OpsFlags::SAVE_REGS);
        let target = if full { Target::REGS_CALLER } else { Target::CALLER };
        let plan = registry.plan(filter, target)?;

        registry.stubs.current.store(core::ptr::from_ref(ops).cast_mut(), Ordering::Release);
        // A CPU that fetches the new BL must load this ops: no fetch is ordered behind a store without a barrier.
        self.machine.complete();
        let done = registry.carry_out(&plan, self.poke());
        match done {
            Ok(()) => registry.registered = Some(ops),
            Err(_) => registry.stubs.current.store(core::ptr::null_mut(), Ordering::Release),
        }
        done.map(|()| plan.count)
    }

    /// Stops calling `ops`' callback. A CPU that was on its way into the callback may still run it once more.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]; nothing has changed then.
    pub fn unregister(&self, ops: &'static Ops) -> Result<usize, RegisterError> {
        let mut state = self.lock();
        let registry = state.as_mut().ok_or(RegisterError::NotInitialised)?;
        if !registry.registered.is_some_and(|registered| core::ptr::eq(registered, ops)) {
            return Err(RegisterError::NotRegistered);
        }
        let plan = registry.plan_removal();
        registry.carry_out(&plan, self.poke())?;
        registry.stubs.current.store(core::ptr::null_mut(), Ordering::Release);
        registry.registered = None;
        Ok(plan.count)
    }

    /// Compares every callsite's text with what the engine believes.
    pub fn survey(&self) -> Survey {
        let mut survey = Survey::default();
        let state = self.lock();
        let Some(registry) = state.as_ref() else { return survey };
        for (record, callsite) in registry.callsites(0..registry.table.len()) {
            let believed = registry.state(record.now());
            match registry.text_state(&callsite, self.machine) {
                Ok(state) if state != believed => survey.wrong += 1,
                Ok(State::Disabled) => survey.disabled += 1,
                Ok(State::Enabled(_)) => survey.enabled += 1,
                Ok(State::Compiled) | Err(_) => survey.wrong += 1,
            }
        }
        survey
    }

    /// Shows every callsite, in the order of their addresses.
    pub fn for_each_callsite(&self, mut show: impl FnMut(Status)) {
        let state = self.lock();
        let Some(registry) = state.as_ref() else { return };
        for (_, callsite) in registry.callsites(0..registry.table.len()) {
            let state = registry.text_state(&callsite, self.machine);
            show(Status { callsite, state, name: registry.name(callsite.function()) });
        }
    }

    /// Shows every entry of the section that is no callsite, and why.
    pub fn for_each_refusal(&self, show: impl FnMut((TextAddr, Refusal))) {
        let state = self.lock();
        let Some(registry) = state.as_ref() else { return };
        registry.table.refused(registry.excluded, |at| registry.read(self.machine, at)).for_each(show);
    }

    /// The kernel's symbols, as init was given them.
    pub fn symbols(&self) -> Option<Symbols<'static>> {
        self.lock().as_ref().and_then(|registry| registry.symbols)
    }

    fn poke(&self) -> TextPoke<'static> {
        TextPoke::new(self.platform, self.machine)
    }

    fn lock(&self) -> spin::MutexGuard<'_, Option<Registry>> {
        loop {
            if let Some(guard) = self.state.try_lock() {
                return guard;
            }
            self.platform.relax();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// Planned changes: the records from the first to the last one that differs, and how many do.
struct Plan {
    span: Range<usize>,
    count: usize,
}

impl Plan {
    const EMPTY: Self = Self { span: 0..0, count: 0 };

    fn add(&mut self, index: usize) {
        self.span =
            if self.count == 0 { index..index + 1 } else { self.span.start.min(index)..self.span.end.max(index + 1) };
        self.count += 1;
    }
}

impl Registry {
    fn build(image: Image, machine: &dyn Machine) -> Result<(Self, Census), InitError> {
        let Image { text, excluded, section, section_bytes, encoding, stubs, symbols } = image;
        if !section.is_aligned() || !section_bytes.is_multiple_of(size_of::<u64>()) {
            let error = TableError::Truncated { start: section.addr() as u64, bytes: section_bytes };
            return Err(InitError::Table(error));
        }
        if section.is_null() {
            return Err(InitError::Table(TableError::Empty));
        }
        // SAFETY: `Image::new`'s caller gave the section to the engine; alignment was looked at.
        let slots = unsafe { core::slice::from_raw_parts_mut(section, section_bytes / size_of::<u64>()) };
        let read = |at| {
            // SAFETY: the table asks for aligned addresses inside `text` only, which `Image::new`'s caller promises to be
            // mapped.
            unsafe { machine.load(at) }
        };
        let (table, census) = Table::build(text, excluded, slots, encoding, read).map_err(InitError::Table)?;
        Ok((Self { text, excluded, table, stubs, symbols, registered: None }, census))
    }

    /// Writes the stubs' two instructions each, and MOV X9, LR at every callsite.
    ///
    /// # Safety
    ///
    /// Nothing runs the image's text meanwhile.
    unsafe fn make_ready(&self, platform: &dyn Platform, machine: &dyn Machine) -> Result<(), InitError> {
        let poke = TextPoke::new(platform, machine);
        let base = platform.context_base();
        for stub in [self.stubs.caller, self.stubs.regs_caller] {
            let changes = stub.changes(base).map_err(InitError::ContextOffset)?;
            // SAFETY: the stub's labels are instructions of ours, and no callsite calls them yet.
            unsafe { poke.apply_quiet(|| changes.into_iter()) }.map_err(InitError::Text)?;
        }
        let to_ready = || {
            let all = self.callsites(0..self.table.len());
            all.filter_map(|(_, callsite)| callsite.init(State::Compiled).ok())
        };
        // SAFETY: callsites lie inside the text; our caller promises that nothing runs it.
        unsafe { poke.apply_quiet(to_ready) }.map_err(InitError::Text)
    }

    /// Plans `target` for every callsite that the filter selects.
    fn plan(&mut self, filter: &Filter<'_>, target: Target) -> Result<Plan, RegisterError> {
        let mut plan = Plan::EMPTY;
        let planned = self.select(filter, |table, index| {
            if table.get(index).is_some_and(|record| record.next() != target) {
                table.update(index, |record| record.plan(target));
                plan.add(index);
            }
        });
        let checked = match planned {
            Ok(()) if plan.count == 0 => Err(RegisterError::EmptySelection),
            Ok(()) => self.check(&plan).map_err(RegisterError::Callsite),
            Err(error) => Err(error),
        };
        match checked {
            Ok(()) => Ok(plan),
            Err(error) => {
                self.withdraw(&plan);
                Err(error)
            }
        }
    }

    /// Plans nothing for every callsite that calls something.
    fn plan_removal(&mut self) -> Plan {
        let mut plan = Plan::EMPTY;
        for index in 0..self.table.len() {
            if self.table.get(index).is_some_and(|record| record.now() != Target::NONE) {
                self.table.update(index, |record| record.plan(Target::NONE));
                plan.add(index);
            }
        }
        plan
    }

    /// Calls `choose` with every callsite that the filter selects, some perhaps twice.
    fn select(&mut self, filter: &Filter<'_>, mut choose: impl FnMut(&mut Table, usize)) -> Result<(), RegisterError> {
        let positive = |rule: &Rule<'_>| rule.sign == Sign::Select;
        if !filter.rules().iter().any(positive) {
            for index in 0..self.table.len() {
                if self.selects(index, |name, function| filter.selects(name, function)) {
                    choose(&mut self.table, index);
                }
            }
            return Ok(());
        }
        for (number, rule) in filter.rules().iter().enumerate().filter(|(_, rule)| positive(rule)) {
            let mut matched = false;
            for index in self.candidates(rule) {
                if self.selects(index, |name, function| rule.matches(name, function)) {
                    matched = true;
                    if !self.selects(index, |name, function| filter.takes_away(name, function)) {
                        choose(&mut self.table, index);
                    }
                }
            }
            if !matched {
                return Err(RegisterError::NothingSelected { rule: number });
            }
        }
        Ok(())
    }

    /// The callsites that a rule can match: all for a glob, the few that have the name or the address else.
    fn candidates(&self, rule: &Rule<'_>) -> Range<usize> {
        let at = |addr| self.table.find(addr).map_or(0..0, |index| index..index + 1);
        match rule.pattern {
            Pattern::Glob(_) => 0..self.table.len(),
            Pattern::Address(addr) => at(addr),
            Pattern::Name(name) => {
                let found = self.symbols.into_iter().flat_map(|symbols| symbols.lookup_name(name));
                // Instances of one generic function share a name; they need not be neighbours.
                found.map(|symbol| at(TextAddr::new(symbol.addr))).filter(|range| !range.is_empty()).fold(
                    0..0,
                    |all, one| {
                        if all.is_empty() { one } else { all.start.min(one.start)..all.end.max(one.end) }
                    },
                )
            }
        }
    }

    /// Whether `matches` holds for the callsite at `index`.
    fn selects(&self, index: usize, matches: impl FnOnce(Option<&str>, TextAddr) -> bool) -> bool {
        let Some(callsite) = self.table.callsite(index) else { return false };
        matches(self.name(callsite.function()), callsite.function())
    }

    /// Whether every planned change can be made.
    fn check(&self, plan: &Plan) -> Result<(), StateError> {
        let differing = |record: &Record| record.now() != record.next();
        self.callsites(plan.span.clone())
            .filter(|(record, _)| differing(record))
            .try_for_each(|(record, callsite)| self.change(&callsite, record).map(drop))
    }

    /// Has the plan's changes made, and commits or withdraws it.
    fn carry_out(&mut self, plan: &Plan, poke: TextPoke<'_>) -> Result<(), RegisterError> {
        let changes = || {
            let differing = self.callsites(plan.span.clone()).filter(|(record, _)| record.now() != record.next());
            // `check` has seen that each can be made.
            differing.filter_map(|(record, callsite)| self.change(&callsite, record).ok())
        };
        // SAFETY: callsites lie inside the text, which `Image::new`'s caller promises to be mapped.
        let result = unsafe { poke.apply_live(changes) };
        match result {
            Ok(()) => {
                for index in plan.span.clone() {
                    self.table.update(index, Record::commit);
                }
                Ok(())
            }
            Err(error) => {
                self.withdraw(plan);
                Err(RegisterError::Text { error, function: self.name(error.at) })
            }
        }
    }

    fn withdraw(&mut self, plan: &Plan) {
        for index in plan.span.clone() {
            self.table.update(index, Record::withdraw);
        }
    }

    /// The change that takes a callsite from what it calls to what it shall call.
    fn change(&self, callsite: &Callsite, record: Record) -> Result<Change<LiveWord>, StateError> {
        let now = self.state(record.now());
        match (self.target(record.next()), now) {
            (None, _) => callsite.disable(now),
            (Some(target), State::Enabled(_)) => callsite.retarget(now, target),
            (Some(target), _) => callsite.enable(now, target),
        }
    }

    /// The state that a callsite with this target is in.
    fn state(&self, target: Target) -> State {
        self.target(target).map_or(State::Disabled, State::Enabled)
    }

    /// The address that a target stands for.
    fn target(&self, target: Target) -> Option<TextAddr> {
        match target {
            Target::CALLER => Some(self.stubs.caller.entry),
            Target::REGS_CALLER => Some(self.stubs.regs_caller.entry),
            _ => None,
        }
    }

    /// The records of these indices with their callsites.
    fn callsites(&self, span: Range<usize>) -> impl Iterator<Item = (Record, Callsite)> {
        span.filter_map(|index| {
            let record = self.table.get(index)?;
            Some((record, record.callsite(self.text.start)))
        })
    }

    /// What a callsite's text says.
    fn text_state(&self, callsite: &Callsite, machine: &dyn Machine) -> Result<State, [u32; 2]> {
        let words = [self.read(machine, callsite.mov_addr()), self.read(machine, callsite.call_addr())];
        callsite.state_of(words[0], words[1]).ok_or(words)
    }

    /// The instruction at an aligned address inside the text.
    fn read(&self, machine: &dyn Machine, at: TextAddr) -> u32 {
        debug_assert!(self.text.contains(at) && at.is_aligned());
        // SAFETY: inside the text, which `Image::new`'s caller promises to be mapped, and aligned: callsites were decoded
        // from there.
        unsafe { machine.load(at) }
    }

    fn name(&self, addr: TextAddr) -> Option<&'static str> {
        self.symbols.and_then(|symbols| symbols.lookup_addr(addr.get())).map(|found| found.symbol.name)
    }
}
