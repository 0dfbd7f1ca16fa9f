//! Stack and frames: what an unwinder relies on at each instruction, and a caller when its callee comes back.
//!
//! Judged are the functions whose symbol says that they are one. What assembly has under a bare label (vectors, entry code, the
//! start of a kernel) keeps other rules.

use std::collections::HashSet;

use fentry::insn::{Change, Effects, Exception, Insn, MemoryUse, Reg, Signature, System, Width};
use fentry::insn::{DataRegister, Key};

use crate::cfi::{Cfi, Fp, State};
use crate::flow::{Callee, Exit, Flow, Graph, Onward};
use crate::program::{FunctionId, InsnId, Program};
use crate::report::{At, Finding, Rule, Step};
use crate::value::CallerReg;

/// What SP is a multiple of where AAPCS64 6.4.5.1 says so.
const ALIGNED: i64 = 16;

pub(super) fn check(flow: &Flow<'_>, cfi: &Cfi) -> Vec<Finding> {
    let program = flow.program();
    let mut findings = Vec::new();
    for function in program.functions().filter(|function| program.function(*function).is_typed()) {
        let mut checking =
            Checking { program, flow, function, graph: None, said: HashSet::new(), findings: Vec::new() };
        for id in program.of_function(function).filter(|id| flow.is_reached(*id)) {
            if let Some(state) = cfi.state(id) {
                checking.check(id, state);
            }
        }
        checking.unreachable();
        findings.append(&mut checking.findings);
    }
    findings.extend(not_followed(flow));
    findings.extend(conflicts(flow, cfi));
    findings
}

/// Whether an instruction is in a function that is judged.
fn is_judged(program: &Program<'_>, id: InsnId) -> bool {
    let function = program.function_of(id).map(|function| program.parent(function));
    function.is_some_and(|function| program.function(function).is_typed())
}

fn not_followed(flow: &Flow<'_>) -> impl Iterator<Item = Finding> {
    let judged = flow.not_followed().iter().filter(|not| is_judged(flow.program(), not.at));
    judged.map(|not| Finding::new(Rule::NotFollowed, At::Insn(not.at), not.why))
}

fn conflicts(flow: &Flow<'_>, cfi: &Cfi) -> Vec<Finding> {
    let program = flow.program();
    let mut said = HashSet::new();
    let judged = cfi.conflicts().iter().filter(|conflict| is_judged(program, conflict.to));
    judged
        .filter(|conflict| said.insert(conflict.to))
        .map(|conflict| {
            let meet = cfi.conflicts().iter().filter(|other| other.to == conflict.to);
            let path = meet.map(|other| {
                let lost: Vec<String> = other.lost.iter().map(ToString::to_string).collect();
                Step::new(other.from, format!("on the path from here {}", lost.join(", ")))
            });
            let what = "paths with different frames meet, and no unwinder can know which of them it was";
            Finding::new(Rule::StatesDiffer, At::Insn(conflict.to), what).by(path.collect())
        })
        .collect()
}

/// One function that is being checked.
struct Checking<'a> {
    program: &'a Program<'a>,
    flow: &'a Flow<'a>,
    function: FunctionId,
    graph: Option<Graph>,
    /// Rules that are told of once a function.
    said: HashSet<Rule>,
    findings: Vec<Finding>,
}

impl Checking<'_> {
    fn find(&mut self, rule: Rule, at: InsnId, what: impl std::fmt::Display) {
        let graph = self.graph.get_or_insert_with(|| self.flow.graph(self.function));
        let path = graph.path_to(at).into_iter().filter(|step| *step != at).enumerate();
        let path =
            path.map(|(index, step)| Step::new(step, if index == 0 { "the function's entry" } else { "goes on here" }));
        self.findings.push(Finding::new(rule, At::Insn(at), what).by(path.collect()));
    }

    /// The same for what goes on being broken behind the place.
    fn find_once(&mut self, rule: Rule, at: InsnId, what: impl std::fmt::Display) {
        if self.said.insert(rule) {
            self.find(rule, at, what);
        }
    }

    fn check(&mut self, id: InsnId, state: &State) {
        let effects = self.program.insn(id).effects();
        let onward = self.flow.onward_by(id, &effects);
        self.record(id, state, &effects);
        if let Some(callee) = onward.call {
            self.call(id, state, callee);
        }
        for exit in onward.exits.into_iter().flatten() {
            self.exit(id, state, &effects, exit, &onward);
        }
    }

    fn record(&mut self, id: InsnId, state: &State, effects: &Effects) {
        match (state.fp(), state.sp()) {
            // The start of a CPU or task, which nobody has called.
            (Fp::End, _) if self.flow.never_returns(self.function) => {}
            (Fp::End | Fp::Other, _) => {
                self.find_once(Rule::FramePointer, id, "x29 is neither the caller's nor points into the own frame");
            }
            (Fp::Frame(at), Some(sp)) if sp < at => {
                let what = format!("the frame record at CFA - {at} is below SP, which is CFA - {sp}");
                self.find_once(Rule::RecordBroken, id, what);
            }
            (Fp::Frame(at), _) if !state.has_record() => {
                let what = format!("x29 points at CFA - {at}, and there is no frame record");
                self.find_once(Rule::RecordBroken, id, what);
            }
            _ => {}
        }
        let behind = match effects.sp {
            Change::Kept => state.sp(),
            Change::By(bytes) => state.sp().and_then(|sp| sp.checked_sub(bytes)),
            Change::From(..) | Change::Unknown => None,
        };
        if stores_record(effects) && behind.is_some_and(|sp| sp % ALIGNED != 0) {
            self.find(Rule::SpMisaligned, id, "SP is not a multiple of 16 where the frame record is stored");
        }
    }

    fn call(&mut self, id: InsnId, state: &State, callee: Callee<'_>) {
        if state.sp().is_some_and(|sp| sp % ALIGNED != 0) {
            self.find(Rule::SpMisaligned, id, "SP is not a multiple of 16 at a call");
        }
        if !state.has_record() {
            self.find(Rule::CallWithoutRecord, id, "no frame record is set up at this call");
        }
        self.inside(id, callee);
    }

    /// Jumps and calls into the middle of another function. Where it begins behind a landing pad is its entry as well.
    fn inside(&mut self, id: InsnId, callee: Callee<'_>) {
        let Callee::Inside(to) = callee else { return };
        if is_judged(self.program, to) && !self.program.is_same_function(id, to) && !self.program.is_first(to) {
            let what = format!("it goes into the middle of another function, to {}", self.program.place(to));
            self.find(Rule::JumpInside, id, what);
        }
    }

    fn exit(&mut self, id: InsnId, state: &State, effects: &Effects, exit: Exit<'_>, onward: &Onward<'_>) {
        match exit {
            Exit::Return(reg) => self.returns(id, state, effects, reg),
            Exit::Sibling(callee) => self.sibling(id, state, callee),
            // A compiler that has put nothing behind a call knows that it does not come back.
            Exit::FallsOff(_) if onward.call.is_some() => {}
            Exit::FallsOff(None) => self.find(Rule::FallsOff, id, "control runs off the function's end"),
            Exit::FallsOff(Some(next)) => {
                let what = format!("control runs off the function's end, into {}", self.program.place(next));
                self.find(Rule::FallsOff, id, what);
            }
            Exit::ExceptionReturn | Exit::Trap | Exit::NoReturn | Exit::NotFollowed(_) => {}
        }
    }

    fn returns(&mut self, id: InsnId, state: &State, effects: &Effects, reg: Reg) {
        if reg != Reg::LR {
            self.find(Rule::ReturnRegister, id, format!("it returns by {}", reg.name(Width::X)));
        }
        if let Some(what) = unbalanced(state) {
            self.find(Rule::StackUnbalanced, id, what);
        }
        let checked = match effects.signature {
            Signature::Authenticated(key, _) => Some(key),
            Signature::Kept | Signature::Signed(..) | Signature::Stripped => None,
        };
        let mut lost = lost(state, checked, reg == Reg::LR);
        lost.extend(pushed(state));
        if !lost.is_empty() {
            self.find(Rule::RegisterLost, id, lost.join(", "));
        }
    }

    fn sibling(&mut self, id: InsnId, state: &State, callee: Callee<'_>) {
        self.inside(id, callee);
        // What does not come back needs nothing to come back with.
        if matches!(callee, Callee::Function(callee) if self.flow.never_returns(callee)) {
            return;
        }
        let differs: Vec<String> =
            unbalanced(state).into_iter().chain(lost(state, None, true)).chain(pushed(state)).collect();
        if !differs.is_empty() {
            self.find(Rule::SiblingStack, id, format!("it jumps out of the function, and {}", differs.join(", ")));
        }
    }

    /// Instructions that no path leads to, even if every call came back.
    fn unreachable(&mut self) {
        let Self { program, flow, function, .. } = *self;
        let is_left = |id: &InsnId| !flow.is_reached(*id) && !is_padding(program, *id);
        if !program.of_function(function).any(|id| is_left(&id)) || !flow.is_followed(function) {
            return;
        }
        let mut reached = HashSet::new();
        let mut to_do = vec![program.function(function).entry()];
        while let Some(id) = to_do.pop() {
            if !reached.insert(id) {
                continue;
            }
            let onward = flow.onward(id);
            to_do.extend(onward.successors());
            // The compiler may not know what is known here: that the call does not come back.
            let behind = program.next_in_section(id).filter(|_| onward.call.is_some());
            to_do.extend(behind.filter(|behind| program.is_same_function(id, *behind)));
        }
        let mut is_told = false;
        for id in program.of_function(function) {
            if reached.contains(&id) {
                is_told = false;
            } else if !is_told && !is_padding(program, id) {
                is_told = true;
                self.findings.push(Finding::new(Rule::Unreachable, At::Insn(id), "no path leads here"));
            }
        }
    }
}

/// Whether x29 and LR are stored side by side.
fn stores_record(effects: &Effects) -> bool {
    let is_both = effects.moved.is_some_and(|moved| {
        moved.first == DataRegister::General(Reg::FP) && moved.second == Some(DataRegister::General(Reg::LR))
    });
    is_both && matches!(effects.memory, MemoryUse::Store(_))
}

fn is_padding(program: &Program<'_>, id: InsnId) -> bool {
    match program.insn(id) {
        insn if insn == Insn::NOP => true,
        Insn::System(System::Udf { .. } | System::Exception { kind: Exception::Brk, .. }) => true,
        _ => false,
    }
}

/// Why SP is not what it was at the entry.
fn unbalanced(state: &State) -> Option<String> {
    match state.sp() {
        Some(0) => None,
        Some(bytes @ 1..) => Some(format!("SP is {bytes} bytes lower than at the entry")),
        Some(bytes) => Some(format!("SP is {} bytes higher than at the entry", bytes.unsigned_abs())),
        None => Some("it is not known that SP is what it was at the entry".to_owned()),
    }
}

/// Why the shadow call stack is not what it was at the entry.
fn pushed(state: &State) -> Option<String> {
    let depth = state.shadow_depth().filter(|depth| *depth != 0)?;
    Some(format!("x18, the shadow call stack's top, is not what it was at the entry: {depth:+} bytes"))
}

/// The registers that are not what they were at the entry. `checked` is the key that LR's signature is checked with on the
/// way out.
fn lost(state: &State, checked: Option<Key>, by_lr: bool) -> Vec<String> {
    let changed = CallerReg::all().filter(|reg| !state.saved(*reg).is_kept && (by_lr || *reg != CallerReg::LR));
    let mut lost: Vec<String> = changed.map(|reg| format!("the caller's {reg} is {}", state.saved(reg))).collect();
    if by_lr && state.saved(CallerReg::LR).is_kept && state.lr_key() != checked {
        lost.push(match state.lr_key() {
            Some(key) => format!("the return address is still signed with key {key:?}"),
            None => "the return address that is checked is not signed".to_owned(),
        });
    }
    lost
}
