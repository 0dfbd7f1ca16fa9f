//! What the engine shows: every callsite with its ops, every ops with its callsites, and whether the text is what the engine
//! believes (Linux's `enabled_functions`, and more).

use super::Engine;
use super::mask::Mask;
use super::members::Members;
#[cfg(feature = "module")]
use super::names::Origin;
use super::region::Region;
use super::registry::History;
use crate::address::TextAddr;
#[cfg(feature = "module")]
use crate::address::TextRange;
use crate::callsite::{Callsite, Refusal, State};
use crate::filter::{Filter, Rule};
use crate::ops::Ops;
#[cfg(feature = "module")]
use crate::symbols::Symbols;
use core::fmt;
#[cfg(test)]
extern crate std;

/// The result of comparing all callsites' text with what the engine believes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextCheck {
    /// Callsites whose text is MOV X9, LR and NOP.
    pub disabled: usize,
    /// Callsites whose text is MOV X9, LR and BL.
    pub enabled: usize,
    /// Callsites whose text is not what the engine believes.
    pub wrong: usize,
    /// Callsites that are quarantined, whatever their text is.
    pub quarantined: usize,
}

/// One callsite as it is now.
#[derive(Clone, Copy)]
pub struct Status<'a> {
    /// The callsite.
    pub callsite: Callsite,
    /// The state that its text is in, or its two words if they are no state of a callsite.
    pub state: Result<State, [u32; 2]>,
    /// The first of its function's names.
    pub name: Option<&'a str>,
    /// The module that the function is of; `None` for the kernel's own.
    pub module: Option<&'a str>,
    /// Whether it is quarantined, since its text was not what the engine had left there: see
    /// [`look_again`](Engine::look_again).
    pub is_quarantined: bool,
    /// Whether it calls something, or has ever done so: a call that is under way may have been intercepted.
    pub is_touched: bool,
    /// The set that it has, as the engine believes.
    set: Mask,
    members: &'a Members,
}

impl<'a> Status<'a> {
    /// Iterates over its ops, in the order in which they are called.
    pub fn ops(&self) -> impl Iterator<Item = &'a Ops> + use<'a> {
        self.members.in_order(self.set).map(|member| member.ops)
    }
}

impl fmt::Debug for Status<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { callsite, state, name, module, is_quarantined, is_touched, set, .. } = self;
        f.debug_struct("Status")
            .field("callsite", callsite)
            .field("state", state)
            .field("name", name)
            .field("module", module)
            .field("is_quarantined", is_quarantined)
            .field("is_touched", is_touched)
            .field("ops", &set.len())
            .finish()
    }
}

/// One ops that is registered.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields' names say it")]
pub struct OpsStatus<'a> {
    pub ops: &'a Ops,
    /// How many callsites have it.
    pub callsites: usize,
}

/// A module's text as it is now.
#[cfg(feature = "module")]
#[derive(Clone, Copy, Debug)]
pub struct ModuleStatus<'a> {
    /// The module's name.
    pub name: &'a str,
    /// The module's text, or its init text.
    pub text: TextRange,
    /// The functions in it, unless the loader gave none.
    pub symbols: Option<Symbols<'a>>,
}

/// What the engine holds, and what it has done since init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// The regions: the image, and the modules' texts.
    pub regions: usize,
    /// The callsites of all of them.
    pub callsites: usize,
    /// How many ops are registered.
    pub ops: usize,
    /// How many different sets of ops callsites have.
    pub sets: usize,
    /// How many bytes of the room for stubs are in use.
    pub stub_bytes: usize,
    /// How many callsites are quarantined.
    pub quarantined: usize,
    /// How many batches were carried out.
    pub batches: u64,
    /// How many instructions they changed.
    pub changes: u64,
    /// How many batches failed, whatever became of them.
    pub failures: u64,
}

impl Engine {
    /// Compares every callsite's text with what the engine believes.
    pub fn check_text(&self) -> TextCheck {
        let mut found = TextCheck::default();
        let registry = self.lock();
        for region in &registry.regions {
            for (record, callsite) in region.callsites(0..region.table.len()) {
                if record.is_quarantined() {
                    found.quarantined += 1;
                    continue;
                }
                match region.text_state(&callsite, registry.machine) {
                    Ok(state) if state != region.state(&registry.sets, record) => found.wrong += 1,
                    Ok(State::Disabled) => found.disabled += 1,
                    Ok(State::Enabled(_)) => found.enabled += 1,
                    Ok(State::Compiled) | Err(_) => found.wrong += 1,
                }
            }
        }
        found
    }

    /// Calls `show` with every callsite, in the order of their addresses.
    pub fn for_each_callsite(&self, show: impl FnMut(Status<'_>)) {
        self.for_each_selected(&Filter::ALL, show);
    }

    /// Calls `show` with every callsite whose function the filter selects, in the order of their addresses.
    pub fn for_each_selected(&self, filter: &Filter<'_>, mut show: impl FnMut(Status<'_>)) {
        let registry = self.lock();
        for region in &registry.regions {
            let (mut names, module) = (region.names(), region.origin.module());
            for (record, callsite) in region.callsites(0..region.table.len()) {
                let mut names = names.of(callsite.function());
                if !filter.rules().is_empty() && !filter.selects(names.clone(), callsite.function(), module) {
                    continue;
                }
                let (state, name) = (region.text_state(&callsite, registry.machine), names.next());
                let set = registry.sets.members(record.now());
                let (is_quarantined, is_touched) = (record.is_quarantined(), record.is_touched());
                let members = &registry.members;
                show(Status { callsite, state, name, module, is_quarantined, is_touched, set, members });
            }
        }
    }

    /// Returns whether the rule, positive or negative, matches a callsite.
    pub fn has_match(&self, rule: &Rule<'_>) -> bool {
        self.lock().regions.iter().any(|region| region.has(rule))
    }

    /// Calls `show` with every entry of the sections that is no callsite, and the reason.
    pub fn for_each_refusal(&self, mut show: impl FnMut((TextAddr, Refusal))) {
        let registry = self.lock();
        for region in &registry.regions {
            region.refused(registry.machine).for_each(&mut show);
        }
    }

    /// Calls `show` with every module's text, in the order of their addresses.
    #[cfg(feature = "module")]
    pub fn for_each_module(&self, mut show: impl FnMut(ModuleStatus<'_>)) {
        let registry = self.lock();
        for region in &registry.regions {
            if let Origin::Module { name, .. } = &region.origin {
                show(ModuleStatus { name, text: region.text, symbols: region.origin.symbols().copied() });
            }
        }
    }

    /// Calls `show` with every ops that is registered.
    pub fn for_each_ops(&self, mut show: impl FnMut(OpsStatus<'_>)) {
        let registry = self.lock();
        for (number, member) in registry.members.iter() {
            show(OpsStatus { ops: member.ops, callsites: registry.sets.callsites_with(number) });
        }
    }

    /// Every ops that is registered, to do something with it: no others than tests get an ops that is not theirs so.
    #[cfg(test)]
    pub(crate) fn all_ops(&self) -> std::vec::Vec<&'static Ops> {
        self.lock().members.iter().map(|(_, member)| member.ops).collect()
    }

    /// Returns what the engine holds, and what it has done since init.
    pub fn statistics(&self) -> Statistics {
        let registry = self.lock();
        let History { batches, changes, failures } = registry.history;
        Statistics {
            regions: registry.regions.len(),
            callsites: registry.regions.iter().map(|region| region.table.len()).sum(),
            ops: registry.members.iter().count(),
            sets: registry.sets.len(),
            stub_bytes: registry.sets.room.used_bytes(),
            quarantined: registry.regions.iter().map(Region::quarantined).sum(),
            batches,
            changes,
            failures,
        }
    }
}
