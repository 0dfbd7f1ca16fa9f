//! What the files are about: the kernel's parts, and what lines have changed.

use super::at_function::{AtFunction, Registered, Slot};
use super::event::parts::EventsParts;
use super::event::reason::EventReason;
use super::failing::Failing;
use super::flight::Flight;
use super::line::Word;
use super::log::ErrorLog;
use super::names::Names;
use super::options::Options;
use super::reason::{Reason, Refusal};
use super::rules::{GRAPH_RULES_BYTES, MAX_COMMANDS, MAX_RULES, Rules};
use super::show::Shown;
use super::tracing::{Tracer, TracingParts};
use crate::engine::{Engine, RegisterError};
use crate::filter::{Filter, Rule};
use crate::ops::Ops;
use crate::tracer::ring::{Counts, Ring};
use crate::tracer::stack::DeepestStack;
use crate::tracer::under::{GraphOps, MAX_UNDER, Scope};
use arrayvec::{ArrayString, ArrayVec};

/// What the files are about.
#[derive(Debug)]
pub(super) struct State<const CPUS: usize> {
    pub(super) engine: &'static Engine,
    pub(super) tracing: TracingParts,
    pub(super) rings: [&'static Ring; CPUS],
    /// The second ones, which snapshots need.
    pub(super) spares: Option<[&'static Ring; CPUS]>,
    /// What the rings had lost and given before an instance was made of them, and the second ones.
    before: [[Counts; CPUS]; 2],
    /// The kernel's own.
    pub(super) tracers: &'static [Tracer],
    pub(super) task_name: fn(u32) -> Option<&'static str>,
    pub(super) goes_on: Option<fn() -> bool>,
    pub(super) events: Option<EventsParts>,
    pub(super) failing: Option<Failing>,
    pub(super) flight: Option<Flight<CPUS>>,
    pub(super) is_of_instance: bool,
    pub(super) ticks_per_second: u64,
    /// The tracer that is registered; none for `nop`.
    pub(super) current: Option<Current>,
    /// Whether the profiler is registered.
    pub(super) profiles: bool,
    /// What looks for the deepest stack, if the kernel has that, and what it has found.
    pub(super) deepest: Option<(&'static Ops, &'static DeepestStack)>,
    /// Whether it is registered.
    pub(super) traces_stack: bool,
    pub(super) chosen: Chosen,
    pub(super) commands: [Option<Registered>; MAX_COMMANDS],
    pub(super) options: Options,
    pub(super) log: ErrorLog,
}

/// The rules of the files that choose functions.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// `set_ftrace_filter`.
    pub(super) filter: Rules,
    /// `set_ftrace_notrace`.
    pub(super) notrace: Rules,
    /// `set_graph_function`.
    pub(super) under: Rules<GRAPH_RULES_BYTES>,
    /// `set_graph_notrace`.
    pub(super) not_under: Rules<GRAPH_RULES_BYTES>,
}

impl Chosen {
    pub(super) const fn new() -> Self {
        const { Self { filter: Rules::new(), notrace: Rules::new(), under: Rules::new(), not_under: Rules::new() } }
    }
}

/// A tracer by its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    pub(super) name: &'static str,
    ops: Registers,
}

/// What is registered for the functions that are chosen.
#[derive(Clone, Copy, Debug)]
enum Registers {
    Ops(&'static Ops),
    /// The flight recorder, whose stub looks at no switch: it is not registered while nothing is to be recorded.
    Recorder(&'static Ops),
    Graph(&'static GraphOps),
}

impl<const CPUS: usize> State<CPUS> {
    pub(super) const fn new(engine: &'static Engine, tracing: TracingParts, rings: [&'static Ring; CPUS]) -> Self {
        Self {
            engine,
            tracing,
            rings,
            spares: None,
            before: [const { [const { Counts::NONE }; CPUS] }; 2],
            tracers: &[],
            task_name: |_| None,
            goes_on: None,
            events: None,
            failing: None,
            flight: None,
            is_of_instance: false,
            ticks_per_second: 1,
            current: None,
            profiles: false,
            deepest: None,
            traces_stack: false,
            chosen: Chosen::new(),
            commands: [const { None }; MAX_COMMANDS],
            options: Options::DEFAULT,
            log: ErrorLog::new(),
        }
    }

    /// Takes back what lines have changed of an instance.
    ///
    /// # Errors
    ///
    /// The engine's own. Where that is [`RegisterError::NotQuiescent`] its tracers have stopped; with others, nothing has changed.
    pub(super) fn reset(&mut self) -> Result<(), Reason> {
        let commands = self.commands_now();
        self.set_commands([const { None }; MAX_COMMANDS])?;
        if let Some(tracer) = self.current {
            if let Err(error) = self.stop(&tracer) {
                let _ = self.set_commands(commands);
                return Err(Reason::Register(error));
            }
            self.current = None;
        }
        // Nobody records into the rings any more.
        self.engine.await_quiescence().map_err(|timeout| Reason::Register(RegisterError::NotQuiescent(timeout)))?;
        self.chosen = Chosen::new();
        self.options = Options::DEFAULT;
        self.tracing.switches.reset();
        Self::clear(&self.rings);
        self.spares.iter().for_each(|spares| Self::clear(spares));
        let counts = |rings: &[&'static Ring; CPUS]| rings.map(|ring| Counts { kept: 0, ..ring.counts() });
        self.before = [counts(&self.rings), self.spares.as_ref().map_or([Counts::NONE; CPUS], counts)];
        Ok(())
    }

    pub(super) fn names(&self) -> Names<'_> {
        Names(self.engine)
    }

    pub(super) fn shown(&self) -> Shown<'_> {
        let Self { task_name, ticks_per_second, options, events, .. } = *self;
        Shown { names: self.names(), task_name, ticks_per_second, options, events }
    }

    /// The events that lines define.
    pub(super) fn events(&self) -> Result<EventsParts, Reason> {
        self.events.ok_or(Reason::Event(EventReason::NoEvents))
    }

    /// All tracers but `nop`: those of [`Tracing`](super::Tracing), then the kernel's own.
    pub(super) fn all_tracers(&self) -> impl Iterator<Item = Current> + use<CPUS> {
        let graph = Current { name: "function_graph", ops: Registers::Graph(self.tracing.graph) };
        let function = Current { name: "function", ops: Registers::Ops(self.tracing.function) };
        let latency = Current { name: "latency", ops: Registers::Ops(self.tracing.latency) };
        let flight = self.flight.as_ref().map(|flight| ("flight_recorder", Registers::Recorder(flight.ops)));
        // As their own files have them be.
        let profile = (!self.is_of_instance).then_some(("profile", Registers::Ops(self.tracing.profiler)));
        let stack = self.deepest.map(|(ops, _)| ("stack", Registers::Ops(ops)));
        let there = [flight, profile, stack].into_iter().flatten().map(|(name, ops)| Current { name, ops });
        let own = self.tracers.iter().map(|own| Current { name: own.name, ops: Registers::Ops(own.ops) });
        [graph, function, latency].into_iter().chain(there).chain(own)
    }

    /// The current tracer's name.
    pub(super) fn current_name(&self) -> &'static str {
        self.current.map_or("nop", |tracer| tracer.name)
    }

    /// Whether the current tracer is this ops.
    pub(super) fn is_current(&self, ops: &'static Ops) -> bool {
        self.current.is_some_and(|tracer| matches!(tracer.ops, Registers::Ops(other) if core::ptr::eq(other, ops)))
    }

    /// The flight recorder, if it is the current tracer.
    pub(super) fn flight(&self) -> Option<&Flight<CPUS>> {
        let is_current = self.current.is_some_and(|tracer| matches!(tracer.ops, Registers::Recorder(_)));
        self.flight.as_ref().filter(|_| is_current)
    }

    /// Has the flight recorder record nothing while its calls are shown, which it would overwrite meanwhile.
    pub(super) fn show_paused(&self, show: impl FnOnce() -> Result<(), Reason>) -> Result<(), Reason> {
        let recorder = self.flight().filter(|_| self.tracing.switches.is_on());
        let Some(recorder) = recorder.map(|flight| Registers::Recorder(flight.ops)) else { return show() };
        self.unregister(recorder).map_err(Reason::Register)?;
        let shown = show();
        shown.and(self.register(recorder).map_err(Reason::Register))
    }

    /// Whether what this tracer registers is registered for another reason.
    pub(super) fn is_active(&self, tracer: &Current) -> bool {
        let Registers::Ops(ops) = tracer.ops else { return false };
        self.active().any(|active| matches!(active, Registers::Ops(other) if core::ptr::eq(other, ops)))
    }

    /// Has what is recorded be recorded, or not.
    pub(super) fn set_on(&mut self, on: bool) -> Result<(), RegisterError> {
        if let Some(Current { ops: recorder @ Registers::Recorder(_), .. }) = self.current {
            if on { self.register(recorder) } else { self.unregister(recorder) }?;
        }
        self.tracing.switches.set_on(on);
        Ok(())
    }

    /// The rings that are written to now.
    pub(super) fn live(&self) -> [&'static Ring; CPUS] {
        self.spares.filter(|_| self.tracing.switches.are_swapped()).unwrap_or(self.rings)
    }

    /// The rings that have the snapshot, if there is one.
    pub(super) fn snapshot(&self) -> Option<[&'static Ring; CPUS]> {
        let spares = self.spares.filter(|_| self.tracing.switches.has_snapshot())?;
        Some(if self.tracing.switches.are_swapped() { self.rings } else { spares })
    }

    /// These rings' records, read or not; of those that are kept, the ones of the present turn. What is lost or read is of all
    /// turns: a command that takes a snapshot can't note it.
    pub(super) fn counts(&self, rings: &[&'static Ring], is_snapshot: bool) -> Counts {
        let since = self.tracing.switches.began(is_snapshot);
        let counts = rings.iter().map(|ring| {
            let (counts, before) = (ring.counts(), self.before(ring));
            let counts = Counts {
                kept: counts.kept,
                read: counts.read.saturating_sub(before.read),
                refused: counts.refused.saturating_sub(before.refused),
                overwritten: counts.overwritten.saturating_sub(before.overwritten),
            };
            if since == 0 { counts } else { Counts { kept: ring.count_since(since), ..counts } }
        });
        counts.fold(Counts::default(), |all, one| Counts {
            kept: all.kept.saturating_add(one.kept),
            read: all.read.saturating_add(one.read),
            refused: all.refused.saturating_add(one.refused),
            overwritten: all.overwritten.saturating_add(one.overwritten),
        })
    }

    /// What one of the rings had before an instance was made of it.
    fn before(&self, ring: &'static Ring) -> Counts {
        let [first, second] = &self.before;
        let rings = self.rings.iter().zip(first).chain(self.spares.iter().flatten().zip(second));
        rings.into_iter().find(|(own, _)| core::ptr::eq(**own, ring)).map_or(Counts::NONE, |(_, before)| *before)
    }

    /// Empties rings.
    pub(super) fn clear(rings: &[&'static Ring]) {
        for ring in rings {
            let mut pass = ring.consume();
            while let Some(block) = pass.next_block() {
                block.consume();
            }
        }
    }

    /// What is registered for the functions that are chosen.
    fn active(&self) -> impl Iterator<Item = Registers> + use<CPUS> {
        let profiler = self.profiles.then_some(Registers::Ops(self.tracing.profiler));
        let stack = self.deepest.filter(|_| self.traces_stack).map(|(ops, _)| Registers::Ops(ops));
        self.current.map(|tracer| tracer.ops).into_iter().chain(profiler).chain(stack)
    }

    /// Starts a tracer for what is chosen.
    ///
    /// # Errors
    ///
    /// The engine's own; it is not registered then.
    pub(super) fn start(&self, tracer: &Current) -> Result<(), RegisterError> {
        match tracer.ops {
            Registers::Recorder(_) if !self.tracing.switches.is_on() => Ok(()),
            registers => self.register(registers),
        }
    }

    pub(super) fn start_profiler(&self) -> Result<(), RegisterError> {
        self.register(Registers::Ops(self.tracing.profiler))
    }

    fn register(&self, registers: Registers) -> Result<(), RegisterError> {
        match registers {
            Registers::Ops(ops) | Registers::Recorder(ops) => {
                self.engine.register_anew(ops, &Filter::new(&self.chosen.rules())).map(drop)
            }
            Registers::Graph(graph) => {
                // What an unregistration could not wait for.
                graph.stop(self.engine)?;
                let started = self.put(registers, &self.chosen);
                if started.is_err() {
                    let _ = graph.stop(self.engine);
                }
                started
            }
        }
    }

    /// Puts rules in force for what is registered.
    fn put(&self, registers: Registers, chosen: &Chosen) -> Result<(), RegisterError> {
        let rules = chosen.rules();
        let put = match registers {
            Registers::Ops(ops) => self.engine.set_filter(ops, &Filter::new(&rules)),
            Registers::Recorder(ops) => match self.engine.set_filter(ops, &Filter::new(&rules)) {
                // It gets them when it is.
                Err(RegisterError::NotRegistered) => Ok(0),
                put => put,
            },
            Registers::Graph(graph) => {
                let [under, not_under] = [&chosen.under, &chosen.not_under]
                    .map(|rules| rules.iter().take(MAX_UNDER).collect::<ArrayVec<Rule<'_>, MAX_UNDER>>());
                graph.set(self.engine, &Scope { filter: &rules, under: &under, not_under: &not_under })
            }
        };
        match put {
            // Then it is in force too.
            Ok(_) | Err(RegisterError::NotQuiescent(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Unregisters. It records nothing any more in any case: what could not be waited for, or be changed back, is made good when
    /// it is started again.
    fn unregister(&self, registers: Registers) -> Result<(), RegisterError> {
        let stopped = match registers {
            Registers::Ops(ops) | Registers::Recorder(ops) => self.engine.unregister(ops),
            Registers::Graph(graph) => graph.stop(self.engine),
        };
        match stopped {
            Ok(_)
            | Err(RegisterError::NotQuiescent(_) | RegisterError::Quarantined { .. } | RegisterError::NotRegistered) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn stop(&self, tracer: &Current) -> Result<(), RegisterError> {
        self.unregister(tracer.ops)
    }

    pub(super) fn stop_profiler(&self) -> Result<(), RegisterError> {
        self.unregister(Registers::Ops(self.tracing.profiler))
    }

    /// Has the deepest stack be looked for, or no longer.
    pub(super) fn trace_stack(&mut self, wanted: bool) -> Result<(), Reason> {
        let (ops, _) = self.deepest.ok_or(Reason::NoStacks)?;
        if wanted && self.is_current(ops) {
            return Err(Reason::IsCurrentTracer);
        }
        let ops = Registers::Ops(ops);
        let done = if wanted { self.register(ops) } else { self.unregister(ops) };
        done.map_err(Reason::Register)?;
        self.traces_stack = wanted;
        Ok(())
    }

    /// Puts other rules in force, for all that is registered or for none of it.
    ///
    /// # Errors
    ///
    /// Nothing has changed then, unless text can be changed for the first ops, not for the next one, and not be changed back.
    pub(super) fn set_rules(&mut self, chosen: Chosen) -> Result<(), Reason> {
        if !chosen.fits() {
            return Err(Reason::TooManyRules);
        }
        for (number, registers) in self.active().enumerate() {
            if let Err(error) = self.put(registers, &chosen) {
                // Of a graph, a part may be in force.
                for registers in self.active().take(number + 1) {
                    // As good as it gets: the first failure is the one that is told.
                    let _ = self.put(registers, &self.chosen);
                }
                return Err(Reason::Register(error));
            }
        }
        self.chosen = chosen;
        Ok(())
    }

    /// The commands at functions as they are after these are added and removed.
    pub(super) fn commands_with(
        &self,
        asked: &[AtFunction<'_>],
    ) -> Result<[Option<Registered>; MAX_COMMANDS], Refusal> {
        let mut commands = self.commands_now();
        for one in asked {
            let known = commands.iter_mut().find(|command| command.as_ref().is_some_and(|command| command.is(one)));
            match known {
                Some(known) if one.is_removed => *known = None,
                Some(Some(known)) => known.left = one.count,
                _ if one.is_removed => return Err(one.rule.refuse(Reason::NoSuchCommand)),
                _ => {
                    let rule = Rule::parse(one.rule.text()).map_err(|error| one.rule.refuse(Reason::Glob(error)))?;
                    self.check_rule(&one.rule, &rule)?;
                    let full = || one.rule.refuse(Reason::TooManyCommands);
                    let free = commands.iter_mut().find(|command| command.is_none()).ok_or_else(full)?;
                    let rule = ArrayString::from(one.rule.text()).map_err(|_| full())?;
                    *free = Some(Registered { rule, command: one.command, target: one.target, left: one.count });
                }
            }
        }
        Ok(commands)
    }

    /// The commands at functions, each with how often it will act yet.
    pub(super) fn commands_now(&self) -> [Option<Registered>; MAX_COMMANDS] {
        let mut commands = self.commands.clone();
        for (command, slot) in commands.iter_mut().zip(self.tracing.commands) {
            command.iter_mut().for_each(|command| command.left = slot.left.get());
        }
        commands
    }

    /// Registers these commands and no others; all, or it stays as it was.
    pub(super) fn set_commands(&mut self, wanted: [Option<Registered>; MAX_COMMANDS]) -> Result<(), Reason> {
        let before = self.commands_now();
        let slots = || self.tracing.commands.iter().zip(&before).zip(&wanted);
        for (number, ((slot, old), new)) in slots().enumerate() {
            if let Err(reason) = self.set_command(slot, old.as_ref(), new.as_ref()) {
                for ((slot, old), new) in slots().take(number) {
                    // As good as it gets: the first failure is the one that is told.
                    let _ = self.set_command(slot, new.as_ref(), old.as_ref());
                }
                return Err(reason);
            }
        }
        self.commands = wanted;
        Ok(())
    }

    /// Has a slot have another command, or the one that it had.
    fn set_command(
        &self,
        slot: &'static Slot,
        old: Option<&Registered>,
        new: Option<&Registered>,
    ) -> Result<(), Reason> {
        if let Some((_, new)) = old.zip(new).filter(|(old, new)| old.is_same(new)) {
            slot.left.set(new.left);
            return Ok(());
        }
        if let Some(old) = old {
            self.unregister(Registers::Ops(&slot.ops)).map_err(Reason::Register)?;
            self.forget_command(old);
        }
        let Some(new) = new else { return Ok(()) };
        self.put_command(slot, new).inspect_err(|_| {
            if let Some(old) = old {
                let _ = self.put_command(slot, old);
            }
        })
    }

    /// Has a slot that has no command have this one.
    fn put_command(&self, slot: &'static Slot, command: &Registered) -> Result<(), Reason> {
        let target = command.target.zip(self.events);
        if let Some((target, events)) = target {
            events.count_command(target, true).map_err(Reason::Event)?;
        }
        slot.prepare(command.command, target.and_then(|(target, events)| events.records(target)), command.left);
        // By the invariant of what is registered, it can be parsed.
        let rule: ArrayVec<Rule<'_>, 1> = Rule::parse(&command.rule).into_iter().collect();
        let registered = self.engine.register_anew(&slot.ops, &Filter::new(&rule));
        registered.map(drop).map_err(Reason::Register).inspect_err(|_| {
            // Some callsites may have it all the same.
            let _ = self.unregister(Registers::Ops(&slot.ops));
            self.forget_command(command);
        })
    }

    /// A command is gone, for the event that it has switched. Its probe goes with a later change if it can't now.
    fn forget_command(&self, command: &Registered) {
        if let Some((target, events)) = command.target.zip(self.events) {
            let _ = events.count_command(target, false);
        }
    }

    /// Looks that a rule matches something now, or can later, when a module is loaded.
    pub(super) fn check_rule(&self, word: &Word<'_>, rule: &Rule<'_>) -> Result<(), Refusal> {
        if rule.awaits_module() || self.engine.has_match(rule) {
            return Ok(());
        }
        let is_negative = word.text().starts_with('!');
        Err(word.refuse(if is_negative { Reason::NothingTakenAway } else { Reason::NothingSelected }))
    }
}

impl Chosen {
    /// The rules of `set_ftrace_filter`, less those of `set_ftrace_notrace`.
    fn rules(&self) -> ArrayVec<Rule<'_>, MAX_RULES> {
        // There was room for them when they were written.
        self.filter.without(&self.notrace).unwrap_or_default()
    }

    fn fits(&self) -> bool {
        self.filter.without(&self.notrace).is_ok()
            && [&self.under, &self.not_under].into_iter().all(|rules| rules.iter().count() <= MAX_UNDER)
    }
}
