//! What the files are about: the kernel's parts, and what lines have changed.

use super::event::parts::EventsParts;
use super::event::reason::EventReason;
use super::failing::Failing;
use super::line::Word;
use super::log::ErrorLog;
use super::names::Names;
use super::reason::{Reason, Refusal};
use super::rules::{MAX_RULES, Rules};
use super::show::Shown;
use super::tracing::{Tracer, TracingParts};
use crate::engine::{Engine, RegisterError};
use crate::filter::{Filter, Rule};
use crate::ops::Ops;
use crate::tracer::ring::{Counts, Ring};
use arrayvec::ArrayVec;

/// What the files are about.
#[derive(Debug)]
pub(super) struct State<const CPUS: usize> {
    pub(super) engine: &'static Engine,
    pub(super) tracing: TracingParts,
    pub(super) rings: [&'static Ring; CPUS],
    /// The kernel's own.
    pub(super) tracers: &'static [Tracer],
    pub(super) task_name: fn(u32) -> Option<&'static str>,
    pub(super) goes_on: Option<fn() -> bool>,
    pub(super) events: Option<EventsParts>,
    pub(super) failing: Option<Failing>,
    pub(super) ticks_per_second: u64,
    /// The tracer that is registered; none for `nop`.
    pub(super) current: Option<Tracer>,
    /// Whether the profiler is registered.
    pub(super) profiles: bool,
    pub(super) filter: Rules,
    pub(super) notrace: Rules,
    pub(super) log: ErrorLog,
}

impl<const CPUS: usize> State<CPUS> {
    pub(super) fn names(&self) -> Names<'_> {
        Names(self.engine)
    }

    pub(super) fn shown(&self) -> Shown<'_> {
        let Self { task_name, ticks_per_second, events, .. } = *self;
        Shown { names: self.names(), task_name, ticks_per_second, events }
    }

    /// The events that lines define.
    pub(super) fn events(&self) -> Result<EventsParts, Reason> {
        self.events.ok_or(Reason::Event(EventReason::NoEvents))
    }

    /// All tracers but `nop`: those of [`Tracing`](super::Tracing), then the kernel's own.
    pub(super) fn all_tracers(&self) -> impl Iterator<Item = Tracer> + use<CPUS> {
        let graph = Tracer { name: "function_graph", ops: self.tracing.graph };
        let function = Tracer { name: "function", ops: self.tracing.function };
        [graph, function].into_iter().chain(self.tracers.iter().copied())
    }

    /// The current tracer's name.
    pub(super) fn current_name(&self) -> &'static str {
        self.current.map_or("nop", |tracer| tracer.name)
    }

    /// All rings' records, read or not.
    pub(super) fn counts(&self) -> Counts {
        self.rings.iter().map(|ring| ring.counts()).fold(Counts::default(), |all, one| Counts {
            kept: all.kept.saturating_add(one.kept),
            read: all.read.saturating_add(one.read),
            refused: all.refused.saturating_add(one.refused),
            overwritten: all.overwritten.saturating_add(one.overwritten),
        })
    }

    /// Empties the rings.
    pub(super) fn clear(&self) {
        for ring in self.rings {
            let mut pass = ring.consume();
            while let Some(block) = pass.next_block() {
                block.consume();
            }
        }
    }

    /// What is registered with the filter.
    fn active(&self) -> impl Iterator<Item = &'static Ops> + use<CPUS> {
        let profiler = self.profiles.then_some(self.tracing.profiler);
        self.current.map(|tracer| tracer.ops).into_iter().chain(profiler)
    }

    fn rules(&self) -> ArrayVec<Rule<'_>, MAX_RULES> {
        // There was room for them when they were written.
        self.filter.without(&self.notrace).unwrap_or_default()
    }

    /// Registers an ops for what the filter selects.
    ///
    /// # Errors
    ///
    /// The engine's own; it is not registered then.
    pub(super) fn start(&self, ops: &'static Ops) -> Result<(), RegisterError> {
        let rules = self.rules();
        let filter = Filter::new(&rules);
        let mut started = self.engine.register(ops, &filter);
        // What an unregistration could not wait for, or a registration not put back.
        if started == Err(RegisterError::AlreadyRegistered) {
            self.engine.unregister(ops)?;
            started = self.engine.register(ops, &filter);
        }
        if started.is_err() {
            // Callsites that were changed and could not be changed back may call it.
            let _ = self.engine.unregister(ops);
        }
        started.map(drop)
    }

    /// Unregisters an ops. It records nothing any more in any case: what could not be waited for, or be changed back, is made
    /// good when it is started again.
    pub(super) fn stop(&self, ops: &'static Ops) -> Result<(), RegisterError> {
        match self.engine.unregister(ops) {
            Ok(_)
            | Err(RegisterError::NotQuiescent(_) | RegisterError::Quarantined { .. } | RegisterError::NotRegistered) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Puts other rules in force, for all that is registered or for none of it.
    ///
    /// # Errors
    ///
    /// Nothing has changed then, unless text can be changed for the first ops, not for the next one, and not be changed back.
    pub(super) fn set_rules(&mut self, filter: Rules, notrace: Rules) -> Result<(), Reason> {
        let rules = filter.without(&notrace).map_err(|_| Reason::TooManyRules)?;
        let wanted = Filter::new(&rules);
        let before = self.rules();
        for (number, ops) in self.active().enumerate() {
            match self.engine.set_filter(ops, &wanted) {
                // Then it is in force too.
                Ok(_) | Err(RegisterError::NotQuiescent(_)) => {}
                Err(error) => {
                    for ops in self.active().take(number) {
                        // As good as it gets: the first failure is the one that is told.
                        let _ = self.engine.set_filter(ops, &Filter::new(&before));
                    }
                    return Err(Reason::Register(error));
                }
            }
        }
        drop((rules, before));
        (self.filter, self.notrace) = (filter, notrace);
        Ok(())
    }

    /// Looks that a rule matches something now, or can later, when a module is loaded.
    pub(super) fn check_rule(&self, word: &Word<'_>, rule: &Rule<'_>) -> Result<(), Refusal> {
        if rule.awaits_module() || self.engine.has_match(rule) {
            return Ok(());
        }
        let names_a_command = word.text().split(':').skip(1).any(|part| FUNCTION_COMMANDS.contains(&part));
        let is_negative = word.text().starts_with('!');
        Err(word.refuse(match (names_a_command, is_negative) {
            (true, _) => Reason::FunctionCommand,
            (false, true) => Reason::NothingTakenAway,
            (false, false) => Reason::NothingSelected,
        }))
    }
}

/// What Linux can do at a function.
const FUNCTION_COMMANDS: [&str; 8] =
    ["traceon", "traceoff", "snapshot", "stacktrace", "dump", "cpudump", "enable_event", "disable_event"];
