//! Loads one module on the fake machine, traces it, unloads it, and compares its text word for word.

use std::collections::BTreeSet;
use std::mem::discriminant;
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use fentry::callsite::{MOV_X9_LR, NOP, Refusal};
use fentry::fakes::{COMPILED, FakeText};
use fentry::module::{Erratum843419, Exports, Kernel, LoadError, Modules, Placement, RelocCause, Segment};
use fentry::{Engine, Filter, FtraceRegs, Ops, TextAddr};

use super::machine::{Contents, Host};
use super::object::Facts;

/// Where the made-up kernel is, and the first of the symbols that it is made to define.
pub(super) const KERNEL: u64 = 0xffff_8000_8000_0000;
const SYMBOLS: u64 = KERNEL + (1 << 20);
/// How far apart those are: any datum can be there.
const SYMBOL_BYTES: u64 = 64;

/// A distance from the kernel: by name, where modules are then, and whether the CPUs have the erratum.
#[derive(Debug)]
pub(super) struct Distance {
    pub(super) name: &'static str,
    base: u64,
    erratum: Erratum843419,
}

/// Within BL's reach; beyond it, within ADRP's; beyond both.
pub(super) const DISTANCES: [Distance; 3] = [
    Distance { name: "near", base: KERNEL + (48 << 20), erratum: Erratum843419::Absent },
    Distance { name: "200 MiB", base: KERNEL + (248 << 20), erratum: Erratum843419::Present },
    Distance { name: "6 GiB", base: KERNEL + (6 << 30), erratum: Erratum843419::Absent },
];

/// How loading at one distance went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    Traced {
        callsites: usize,
        /// Entries that the engine has refused, by reason.
        refused: Vec<String>,
    },
    /// By its kind, and in full.
    Refused { kind: String, error: String },
}

/// A machine with an engine that traces its modules.
pub(super) struct Bench {
    pub(super) host: &'static Host,
    engine: &'static Engine,
    ops: &'static Ops,
    /// The kernel's own callsites.
    own: usize,
}

extern "C" fn never_called(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}

/// Nothing of a module is executed here.
///
/// # Safety
///
/// None: nothing is called.
unsafe fn no_call(_: TextAddr) -> i32 {
    0
}

impl Bench {
    /// A machine that is never freed: an engine stays for ever.
    pub(super) fn new() -> Result<Self> {
        let mut text = FakeText::new(KERNEL);
        text.function("start", COMPILED);
        let kernel = text.build();
        let host: &'static Host = Box::leak(Box::new(Host::new(kernel)));
        let engine: &'static Engine = Box::leak(Box::new(Engine::with_machine(host, host)));
        // SAFETY: nothing executes a fake's text.
        let report = unsafe { engine.init(kernel.image()) }.context("the fake kernel's init fails")?;
        Ok(Self { host, engine, ops: Box::leak(Box::new(Ops::new(never_called))), own: report.counts.accepted })
    }

    /// Loads a module at a distance, traces it, and unloads it. `look` is shown the memory of the module once nothing of it
    /// is traced, with the callsites that the engine has made ready; init segments come last, as they were when they were
    /// freed.
    pub(super) fn run(
        &self,
        file: &[u8],
        facts: &Facts,
        distance: &Distance,
        look: impl FnOnce(&[Contents], &BTreeSet<u64>),
    ) -> Result<Placed> {
        let placed = self.load(file, facts, distance, look)?;
        let kept = self.host.lent_bytes();
        self.host.forget();
        ensure!(kept == 0, "{kept} bytes of the module are not given back");
        Ok(placed)
    }

    fn load(
        &self,
        file: &[u8],
        facts: &Facts,
        distance: &Distance,
        look: impl FnOnce(&[Contents], &BTreeSet<u64>),
    ) -> Result<Placed> {
        let kernel = Kernel {
            memory: self.host,
            platform: self.host,
            machine: self.host,
            regions: self.engine,
            erratum_843419: distance.erratum,
            call: no_call,
        };
        let mut modules = Modules::new(kernel, Exports::new(symbols(facts))?);
        // SAFETY: nothing of a module is executed here.
        let loaded = unsafe { modules.load("module", file, Placement::Near(TextAddr::new(distance.base))) };
        let id = match loaded {
            Ok(id) => id,
            Err(error) => return Ok(Placed::Refused { kind: kind_of(&error), error: error.to_string() }),
        };
        let module = modules.get(id).context("it was loaded")?;
        let veneers = module.stub_veneers();
        let (ready, refused) = self.callsites();
        let (callsites, entries) = (ready.len(), facts.entries);
        ensure!(
            callsites + refused.len() == entries,
            "it has {entries} entries: {callsites} are callsites and {} are refused",
            refused.len()
        );
        let told = module.callsites().len();
        let again = refused.iter().filter(|kind| **kind == kind_of_refusal(Refusal::Duplicate)).count();
        ensure!(
            told + again == entries,
            "of {entries} entries {again} are there again, and the loader tells of {told}"
        );

        let before = self.host.text();
        if callsites > 0 {
            let registered = self.engine.register(self.ops, &Filter::ALL).context("its callsites can't be enabled")?;
            ensure!(registered == self.own + callsites, "{registered} functions are registered of {callsites}");
            let in_room = |target: TextAddr| {
                self.host.kernel.stubs().room.contains(target) || veneers.is_some_and(|room| room.contains(target))
            };
            enabled(&before, &self.host.text(), &ready, in_room)?;
            self.engine.unregister(self.ops).context("its callsites can't be disabled")?;
            let veneers = veneers.map_or(0..0, |room| room.start.get()..room.end.get());
            returned(&before, &self.host.text(), &veneers)?;
        }
        look(&self.host.contents(), &ready);
        // SAFETY: nothing of a module is executed here.
        unsafe { modules.unload(id) }.context("it can't be unloaded")?;
        Ok(Placed::Traced { callsites, refused })
    }

    /// The first instruction of each of the module's callsites, and why its other entries are none.
    fn callsites(&self) -> (BTreeSet<u64>, Vec<String>) {
        let is_module_s = |at: TextAddr| at.get() >= DISTANCES[0].base;
        let mut ready = BTreeSet::new();
        self.engine.for_each_callsite(|status| {
            let at = status.callsite.mov_addr();
            if is_module_s(at) {
                ready.insert(at.get());
            }
        });
        let mut refused = Vec::new();
        self.engine.for_each_refusal(|(at, refusal)| {
            if is_module_s(at) {
                refused.push(kind_of_refusal(refusal));
            }
        });
        (ready, refused)
    }
}

/// The symbols that the kernel is made to define.
pub(super) fn symbols(facts: &Facts) -> impl Iterator<Item = (&str, u64)> {
    let addresses = (SYMBOLS..).step_by(SYMBOL_BYTES as usize);
    facts.undefined.iter().map(String::as_str).zip(addresses)
}

/// The words that differ in the same pieces of text: where, before and after.
fn differences<'a>(before: &'a [Contents], after: &'a [Contents]) -> impl Iterator<Item = (u64, u32, u32)> + 'a {
    before.iter().zip(after).flat_map(|(before, after)| {
        let word = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
        let words = before.bytes.as_chunks().0.iter().map(word).zip(after.bytes.as_chunks().0.iter().map(word));
        let places = (before.address..).step_by(4);
        words.zip(places).filter(|((old, new), _)| old != new).map(|((old, new), at)| (at, old, new))
    })
}

/// Sees that of all words just the second of each callsite has changed, from NOP to a BL into room for stubs or a veneer.
pub(super) fn enabled(
    before: &[Contents],
    after: &[Contents],
    ready: &BTreeSet<u64>,
    in_room: impl Fn(TextAddr) -> bool,
) -> Result<()> {
    let mut calls = 0;
    for (at, old, new) in differences(before, after) {
        if in_room(TextAddr::new(at)) {
            // A veneer that was written.
            continue;
        }
        ensure!(
            ready.contains(&at.wrapping_sub(4)),
            "the word at {at:#x}, of no callsite, was {old:#x} and is {new:#x}"
        );
        ensure!(old == NOP, "the callsite at {at:#x} had {old:#x}");
        // BL: its low 26 bits are the distance in instructions (Arm ARM C6.2, BL).
        let distance = i64::from((new << 6).cast_signed() >> 6) * 4;
        let target = (new >> 26 == 0b10_0101).then(|| TextAddr::new(at).offset(distance));
        ensure!(target.is_some_and(&in_room), "the callsite at {at:#x} has {new:#x}, no call of a stub");
        calls += 1;
    }
    ensure!(calls == ready.len(), "{calls} of {} callsites were enabled", ready.len());
    Ok(())
}

/// Sees that text is as it was, room for veneers left aside.
pub(super) fn returned(before: &[Contents], after: &[Contents], veneers: &Range<u64>) -> Result<()> {
    match differences(before, after).find(|(at, ..)| !veneers.contains(at)) {
        Some((at, old, new)) => {
            bail!("the word at {at:#x} was {old:#x} and is {new:#x} after everything was unregistered")
        }
        None => Ok(()),
    }
}

/// Whether `our` word is what the engine makes of `their` word at a callsite.
pub(super) fn is_made_ready(our: &[u8], their: &[u8]) -> bool {
    our == MOV_X9_LR.to_le_bytes() && their == NOP.to_le_bytes()
}

/// An error without what is one module's own, so that equal ones can be counted.
fn kind_of(error: &LoadError) -> String {
    match error {
        LoadError::Relocation { error, .. } => {
            let what = match error.cause {
                RelocCause::Overflow { .. } => "overflows",
                RelocCause::Misaligned { .. } => "is misaligned",
                RelocCause::OtherInstruction { .. } => "is at another instruction",
                _ => "can't be done",
            };
            format!("a relocation {} {what}", error.kind)
        }
        LoadError::UnknownRelocation { number, .. } => format!("a relocation of the unknown kind {number}"),
        LoadError::Section { cause, name, .. } => format!("a section ({name}): {cause}"),
        LoadError::Callsite { refusal, .. } => format!("an entry is no callsite: {}", kind_of_refusal(*refusal)),
        LoadError::Region(error) => format!("its text can't be traced: {}", error.cause),
        LoadError::Memory(error) => format!("no memory: {}", error.reason),
        LoadError::Malformed { what, .. } => format!("its {what} is not well-formed"),
        LoadError::WrongKind { field, .. } => format!("its {field} is another one"),
        LoadError::Unresolved(_) => "symbols that nobody defines".to_owned(),
        LoadError::PltFull { segment, .. } => format!("the veneers of the {segment} are used up"),
        other => other.to_string(),
    }
}

fn kind_of_refusal(refusal: Refusal) -> String {
    let any = Refusal::NotPatchable { found: [0; 2] };
    if discriminant(&refusal) == discriminant(&any) {
        "its instructions are not two NOPs".to_owned()
    } else {
        refusal.to_string()
    }
}

/// The segment of a piece, where the pieces are.
pub(super) fn segment(contents: &[Contents], segment: Segment) -> Option<&Contents> {
    contents.iter().find(|contents| contents.segment == segment)
}
