//! The naive specification: who is at which callsite, worked out one by one; and what a stub does, read off its words.

extern crate std;

use crate::address::TextAddr;
use crate::callsite::veneer::tests::far_target;
use crate::callsite::veneer::{Veneer, reaches};
use crate::callsite::{BTI_C, Callsite, MOV_X9_LR, NOP, State};
use crate::engine::RegisterError;
use crate::fakes::FakeKernel;
use crate::insn::{Branch, DataImm, Insn, Literal, Memory, Reg, System};
use crate::ops::{Action, Ops, OpsFlags};
use std::string::String;
use std::vec::Vec;

/// An ops, as the test knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) ops: &'static Ops,
    /// For a direct one, the trampoline that it has now.
    pub(super) trampoline: Option<TextAddr>,
}

impl Known {
    /// The trampoline that it was made with.
    pub(super) fn first_trampoline(self) -> Option<TextAddr> {
        if let Action::Direct(trampoline) = self.ops.action() { Some(trampoline) } else { None }
    }

    fn is_exclusive(self) -> bool {
        self.trampoline.is_some() || self.ops.flags().contains(OpsFlags::IPMODIFY)
    }
}

/// A rule as text: a name, the beginning of one and `*`, or an address; with `!` in front of any.
#[derive(Clone, Debug)]
pub(super) struct Rules(pub(super) Vec<String>);

fn matches(pattern: &str, site: &Site) -> bool {
    if let Some(digits) = pattern.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16) == Ok(site.callsite.function().get());
    }
    match pattern.strip_suffix('*') {
        Some(beginning) => site.name.starts_with(beginning),
        None => site.name == pattern,
    }
}

impl Rules {
    fn select(&self, site: &Site) -> bool {
        let (negative, positive): (Vec<&String>, Vec<&String>) = self.0.iter().partition(|rule| rule.starts_with('!'));
        let wanted = positive.is_empty() || positive.iter().any(|rule| matches(rule, site));
        wanted && !negative.iter().any(|rule| matches(&rule[1..], site))
    }

    /// The same for a site that is newer than the rules: what was at an address then is not what is there now.
    fn select_later(&self, site: &Site) -> bool {
        let is_address = |rule: &&String| rule.trim_start_matches('!').starts_with("0x");
        let selects = |rule: &String| !rule.starts_with('!');
        let left = Self(self.0.iter().filter(|rule| !is_address(rule)).cloned().collect());
        let nothing_left = self.0.iter().any(selects) && !left.0.iter().any(selects);
        !nothing_left && left.select(site)
    }
}

/// A callsite.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) name: String,
    pub(super) callsite: Callsite,
    /// The region: 0 is the image.
    pub(super) region: usize,
    /// Who is there, by number, in the order of their registration.
    pub(super) members: Vec<usize>,
}

/// One that is registered.
#[derive(Clone, Debug)]
pub(super) struct Registered {
    pub(super) number: usize,
    pub(super) rules: Rules,
    /// Unregistered, but the engine doesn't know yet whether nobody is inside any more.
    pub(super) is_leaving: bool,
}

/// What there should be.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) known: Vec<Known>,
    /// In the order of their registration.
    pub(super) registered: Vec<Registered>,
    pub(super) sites: Vec<Site>,
}

impl Spec {
    pub(super) fn find(&self, number: usize) -> Option<&Registered> {
        self.registered.iter().find(|registered| registered.number == number)
    }

    fn order(&self, number: usize) -> usize {
        self.registered.iter().position(|registered| registered.number == number).unwrap_or(usize::MAX)
    }

    /// Puts an ops at every site that the rules select, and nowhere else; how many those are.
    ///
    /// # Errors
    ///
    /// All that the engine may say instead.
    pub(super) fn place(&mut self, number: usize, rules: &Rules) -> Result<usize, Vec<RegisterError>> {
        let mut errors = Vec::new();
        for (place, rule) in rules.0.iter().enumerate() {
            let pattern = rule.trim_start_matches('!');
            if !self.sites.iter().any(|site| matches(pattern, site)) {
                let selects = pattern.len() == rule.len();
                errors.push(match selects {
                    true => RegisterError::NothingSelected { rule: place },
                    false => RegisterError::NothingTakenAway { rule: place },
                });
            }
        }
        let mut changed = self.clone();
        let mut count = 0;
        for site in &mut changed.sites {
            site.members.retain(|member| *member != number);
            if !rules.select(site) {
                continue;
            }
            count += 1;
            site.members.push(number);
            site.members.sort_by_key(|member| self.order(*member));
            if site.members.iter().filter(|member| self.known[**member].is_exclusive()).count() > 1 {
                let function = site.callsite.function();
                let name = (site.region == 0).then(|| &*site.name.clone().leak());
                errors.push(RegisterError::Conflict { function, name });
            }
        }
        if count == 0 && errors.is_empty() {
            errors.push(RegisterError::EmptySelection);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        *self = changed;
        Ok(count)
    }

    /// Takes an ops away everywhere; from how many sites.
    pub(super) fn clear(&mut self, number: usize) -> usize {
        let before = self.sites.iter().filter(|site| site.members.contains(&number)).count();
        self.sites.iter_mut().for_each(|site| site.members.retain(|member| *member != number));
        before
    }

    /// Adds a region's sites, with all that select them; `false`, and nothing, where two of those exclude each other.
    pub(super) fn add_region(&mut self, mut sites: Vec<Site>) -> bool {
        for site in &mut sites {
            let selecting = self.registered.iter().filter(|registered| !registered.is_leaving);
            let selecting = selecting.filter(|registered| registered.rules.select_later(site));
            site.members = selecting.map(|registered| registered.number).collect();
            if site.members.iter().filter(|member| self.known[**member].is_exclusive()).count() > 1 {
                return false;
            }
        }
        self.sites.extend(sites);
        true
    }

    /// Sees that the two instructions of each site are what its members ask for.
    pub(super) fn check(&self, kernel: &FakeKernel) {
        for site in &self.sites {
            let callsite = &site.callsite;
            let words = (kernel.word(callsite.mov_addr()), kernel.word(callsite.call_addr()));
            assert_eq!(words.0, MOV_X9_LR, "{}", site.name);
            if site.members.is_empty() {
                assert_eq!(words.1, NOP, "{}", site.name);
                continue;
            }
            let Some(State::Enabled(target)) = callsite.state_of(words.0, words.1) else {
                panic!("{} with {:?} has {:#010x}", site.name, site.members, words.1);
            };
            let members: Vec<Known> = site.members.iter().map(|member| self.known[*member]).collect();
            check_target(kernel, callsite.call_addr(), target, &members, &site.name);
        }
    }
}

/// Sees that what is called does what these ask for, and no more.
fn check_target(kernel: &FakeKernel, from: TextAddr, target: TextAddr, members: &[Known], name: &str) {
    let callbacks: Vec<&'static Ops> =
        members.iter().filter(|known| known.trampoline.is_none()).map(|known| known.ops).collect();
    let direct = members.iter().find_map(|known| known.trampoline);
    if let ([], Some(trampoline)) = (&callbacks[..], direct)
        && reaches(from, trampoline)
    {
        assert_eq!(target, trampoline, "{name}");
        return;
    }
    let room = kernel.stubs().room;
    let start = if room.contains(target) {
        target.offset(-4)
    } else {
        let words = [0, 4, 8, 12].map(|offset| kernel.word(target.offset(offset)));
        Veneer::from_words(words).target(target).unwrap_or_else(|| panic!("{name} calls {target}"))
    };
    assert!(room.contains(start), "{name}: {start}");
    let all_registers = callbacks.iter().any(|ops| ops.flags().contains(OpsFlags::SAVE_REGS));
    let does = match (&callbacks[..], direct) {
        ([], Some(trampoline)) => Does::Jump(trampoline),
        ([only], None) if !all_registers => Does::Call(list_of(only, direct)),
        _ => Does::Walk { all_registers, list: list(&callbacks, direct) },
    };
    assert_eq!(Does::read(kernel, start), does, "{name}, {start}");
}

/// What a stub does.
#[derive(Debug, PartialEq, Eq)]
enum Does {
    /// Goes on in a trampoline.
    Jump(TextAddr),
    /// Calls one callback. The list is for those that the guard keeps from it.
    Call(Vec<u64>),
    /// Has a list walked.
    Walk { all_registers: bool, list: Vec<u64> },
}

fn list_of(only: &'static Ops, direct: Option<TextAddr>) -> Vec<u64> {
    list(&[only], direct)
}

/// See [`entry`](crate::stub::entry#the-list).
fn list(callbacks: &[&'static Ops], direct: Option<TextAddr>) -> Vec<u64> {
    let safe = callbacks.iter().any(|ops| ops.flags().contains(OpsFlags::RECURSION_SAFE));
    let mut list = Vec::from([u64::from(safe)]);
    list.extend(callbacks.iter().map(|ops| core::ptr::from_ref(*ops).addr() as u64));
    list.extend([0, direct.map_or(0, TextAddr::get)]);
    list
}

impl Does {
    /// Reads the stub that begins here.
    fn read(kernel: &FakeKernel, start: TextAddr) -> Self {
        let word = |at: TextAddr| kernel.word(at);
        let decode = |at: TextAddr| Insn::decode(word(at));
        let stubs = kernel.stubs();
        assert_eq!(word(start), BTI_C);
        let first = start.offset(4);
        match decode(first) {
            Insn::Branch(Branch::B { offset }) => Self::Jump(TextAddr::new(offset.target(first.get()))),
            Insn::DataImm(DataImm::Adr { rd, offset }) => {
                let second = start.offset(8);
                let Insn::Branch(Branch::B { offset: walker }) = decode(second) else { panic!("{}", decode(second)) };
                let walker = TextAddr::new(walker.target(second.get()));
                let all_registers = rd == Reg::X17;
                let expected = if all_registers { stubs.regs_caller } else { stubs.caller };
                assert!(walker == expected.entry && (all_registers || rd == Reg::X11), "{rd:?} for {walker}");
                Self::Walk { all_registers, list: read_list(kernel, TextAddr::new(offset.target(first.get()))) }
            }
            Insn::System(System::Mrs { .. }) => Self::Call(read_call(kernel, start)),
            _ => {
                let target = far_target([4, 8, 12, 16].map(|offset| word(start.offset(offset))));
                Self::Jump(TextAddr::new(target.unwrap_or_else(|| panic!("{first}: {}", decode(first)))))
            }
        }
    }
}

fn long(kernel: &FakeKernel, at: TextAddr) -> u64 {
    u64::from(kernel.word(at)) | u64::from(kernel.word(at.offset(4))) << 32
}

fn read_list(kernel: &FakeKernel, start: TextAddr) -> Vec<u64> {
    let mut list = Vec::from([long(kernel, start)]);
    for number in 1.. {
        let entry = long(kernel, start.offset(number * 8));
        list.push(entry);
        if entry == 0 {
            list.push(long(kernel, start.offset(number * 8 + 8)));
            break;
        }
    }
    list
}

/// The list of a stub for one callback, once the stub has been seen to call just that.
fn read_call(kernel: &FakeKernel, start: TextAddr) -> Vec<u64> {
    let (mut lists, mut loads, mut leaves) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1.. {
        let at = start.offset(number * 4);
        match Insn::decode(kernel.word(at)) {
            Insn::DataImm(DataImm::Adr { rd: Reg::X11, offset }) => lists.push(TextAddr::new(offset.target(at.get()))),
            Insn::Memory(Memory::Literal { literal: Literal::LoadX, rt, offset }) => {
                loads.push((rt, TextAddr::new(offset.target(at.get()))));
            }
            Insn::Branch(Branch::B { offset }) => leaves.push(TextAddr::new(offset.target(at.get()))),
            _ => {}
        }
        if leaves.last() == Some(&kernel.stubs().skip) {
            break;
        }
    }
    let start = lists[0];
    let list = read_list(kernel, start);
    assert!(lists.iter().all(|list| *list == start));
    let [(Reg::X2, ops), (Reg::X16, callback)] = loads[..] else { panic!("{loads:?}") };
    assert_eq!(ops, start.offset(8));
    let ops: *const Ops = core::ptr::with_exposed_provenance(long(kernel, ops) as usize);
    // SAFETY: an ops of the test, which is never freed.
    let ops = unsafe { &*ops };
    assert_eq!(long(kernel, callback), (ops.callback as *const ()).addr() as u64);
    let is_safe = ops.flags().contains(OpsFlags::RECURSION_SAFE);
    assert_eq!(leaves.contains(&kernel.stubs().miss), !is_safe);
    list
}
