//! States against what compilers say of the same code in `.eh_frame` and `.debug_frame`, read by gimli.
//!
//! A row of theirs makes claims: the CFA is this register and so many bytes, the caller's x19 is there. Each claim must hold by
//! our state. Ours may know more: that a register which they say is on the stack still is in its register as well.

use std::collections::{BTreeMap, BTreeSet};

use fentry::insn::Change;
use gimli::{BaseAddresses, CfaRule, DebugFrame, EhFrame, LittleEndian, RegisterRule, UnwindContext, UnwindSection};
use object::{Object as _, ObjectSection as _};
use thiserror::Error;

use crate::cfi::{Cfa, Cfi, Fp, State};
use crate::flow::Flow;
use crate::flow::NoReturn;
use crate::image::{Image, ImageError};
use crate::program::{InsnId, Program};
use crate::value::CallerReg;

/// DWARF's numbers (AADWARF64 4.1).
const LR: gimli::Register = gimli::Register(30);
const RA_SIGN_STATE: gimli::Register = gimli::Register(34);

/// Why a file could not be compared.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    /// It is refused.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// What the compiler says of its frames can't be read.
    #[error("the file's frames can't be read: {0}")]
    Frames(#[from] gimli::Error),
}

/// What came of comparing an image.
#[derive(Debug, Default)]
pub struct Compared {
    /// Instructions that have a row of theirs and a state of ours.
    pub instructions: usize,
    /// Claims that they make of those.
    pub claims: usize,
    /// Instructions that have a row of theirs, and that ours did not reach.
    pub not_reached: usize,
    /// The claims that do not hold, and why they are not to be believed.
    pub explained: BTreeMap<Explanation, usize>,
    /// The other claims that do not hold, by the function's name.
    pub wrong: BTreeMap<String, Vec<String>>,
}

/// Why a claim of a compiler's is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Explanation {
    /// Their rows contradict each other: on the way here there is an instruction of which their claim is right, and that
    /// changes nothing of what is claimed; of the one behind it they claim something else. Or it adds to SP, and they claim the
    /// same distance from SP behind it. GCC does this in epilogues of frames that are larger than LDP reaches, where it says of
    /// all registers at once that they are restored; LLVM where a prologue is in two blocks, and where it has made one
    /// post-indexed load of a load and the end of the frame.
    Contradiction,
    /// The register is said to be on the stack, below SP, where an interrupt may write; and it is restored already. LLVM does
    /// this between the last load and AUTIASP.
    BelowSp,
    /// They describe only the complete frame, not how it is built and taken down: LLVM in functions that are to be small.
    OnlyWhole,
}

/// What a row says one thing about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Cfa,
    Register(CallerReg),
    Signature,
}

impl Claim {
    fn all() -> impl Iterator<Item = Self> {
        [Self::Cfa, Self::Signature].into_iter().chain(CallerReg::all().map(Self::Register))
    }

    /// Whether what a row says holds by our state.
    fn holds(self, state: &State, row: &Row) -> bool {
        match self {
            Self::Cfa => match *row.cfa() {
                CfaRule::RegisterAndOffset { register: gimli::Register(31), offset } => state.sp() == Some(offset),
                CfaRule::RegisterAndOffset { register: gimli::Register(29), offset } => state.fp() == Fp::Frame(offset),
                CfaRule::RegisterAndOffset { register, offset } => match state.cfa() {
                    Cfa::Other(reg, bytes) => (u16::from(reg.number()), bytes) == (register.0, offset),
                    _ => false,
                },
                CfaRule::Expression(_) => false,
            },
            Self::Register(reg) => {
                let saved = state.saved(reg);
                match row.register(gimli::Register(reg.dwarf())) {
                    // Nothing is said: it is as it was (AADWARF64 4.4).
                    RegisterRule::Undefined | RegisterRule::SameValue => saved.is_kept,
                    RegisterRule::Offset(at) => saved.slot == Some(at),
                    RegisterRule::Register(other) => saved.copy.is_some_and(|copy| u16::from(copy.number()) == other.0),
                    _ => false,
                }
            }
            Self::Signature => {
                let key = match row.register(LR) {
                    RegisterRule::Offset(_) => state.saved_lr_key(),
                    _ => state.lr_key(),
                };
                key.is_some() == is_signed(row)
            }
        }
    }

    /// Whether two of our states say the same about it.
    fn is_same(self, one: &State, other: &State) -> bool {
        match self {
            Self::Cfa => (one.sp(), one.fp()) == (other.sp(), other.fp()),
            Self::Register(reg) => one.saved(reg) == other.saved(reg),
            Self::Signature => (one.lr_key(), one.saved_lr_key()) == (other.lr_key(), other.saved_lr_key()),
        }
    }

    fn of_row(self, row: &Row) -> String {
        match self {
            Self::Cfa => format!("their CFA is {:?}", row.cfa()),
            Self::Register(reg) => format!("their {reg} is {:?}", row.register(gimli::Register(reg.dwarf()))),
            Self::Signature => format!("their return address's state is {:?}", row.register(RA_SIGN_STATE)),
        }
    }
}

/// Compares all that a file has.
///
/// # Errors
///
/// It can't be read, or its sections of frames can't.
pub fn compare(file: &[u8], no_return: &NoReturn) -> Result<Compared, ProofError> {
    let program = Program::new(Image::parse(file)?);
    let flow = Flow::follow(&program, no_return);
    let cfi = Cfi::of(&flow);
    let mut comparing = Comparing { flow: &flow, cfi: &cfi, compared: Compared::default() };
    let sections = Frames::of(file, &program);
    if let Some((bytes, bases)) = &sections.eh_frame {
        let mut section = EhFrame::new(bytes, LittleEndian);
        section.set_address_size(8);
        section.set_vendor(gimli::Vendor::AArch64);
        each_function(&section, bases, |rows| comparing.function(rows))?;
    }
    if let Some(bytes) = &sections.debug_frame {
        let mut section = DebugFrame::new(bytes, LittleEndian);
        section.set_address_size(8);
        section.set_vendor(gimli::Vendor::AArch64);
        each_function(&section, &BaseAddresses::default(), |rows| comparing.function(rows))?;
    }
    Ok(comparing.compared)
}

type Row = gimli::UnwindTableRow<usize>;

/// Whether two rows say the same of the CFA, by SP.
fn is_by_sp(one: &Row, other: &Row) -> bool {
    matches!(one.cfa(), CfaRule::RegisterAndOffset { register: gimli::Register(31), .. }) && one.cfa() == other.cfa()
}

/// Whether a row says that the return address is signed (AADWARF64 4.1, RA_SIGN_STATE).
fn is_signed(row: &Row) -> bool {
    matches!(row.register(RA_SIGN_STATE), RegisterRule::Constant(state) if state & 1 == 1)
}

struct Comparing<'a> {
    flow: &'a Flow<'a>,
    cfi: &'a Cfi,
    compared: Compared,
}

impl Comparing<'_> {
    /// Compares one description: the rows of a function or of a part of one.
    fn function(&mut self, rows: &[Row]) {
        let program = self.flow.program();
        let mut row_of: BTreeMap<InsnId, &Row> = BTreeMap::new();
        for row in rows {
            for address in (row.start_address()..row.end_address()).step_by(4) {
                row_of.extend(program.at(address.into()).map(|id| (id, row)));
            }
        }
        let mut wrong = Vec::new();
        for (&id, row) in &row_of {
            let Some(state) = self.cfi.state(id) else {
                self.compared.not_reached += 1;
                continue;
            };
            self.compared.instructions += 1;
            self.compared.claims += Claim::all().count();
            wrong.extend(Claim::all().filter(|claim| !claim.holds(state, row)).map(|claim| (id, claim)));
        }
        if wrong.is_empty() {
            return;
        }
        let before = self.before(&row_of);
        for (id, claim) in wrong {
            match self.explain(id, claim, rows, &row_of, &before) {
                Some(explanation) => *self.compared.explained.entry(explanation).or_default() += 1,
                None => {
                    let function = program.function_of(id).map(|function| program.name(program.parent(function)));
                    let (Some(state), Some(row)) = (self.cfi.state(id), row_of.get(&id)) else { continue };
                    let (place, insn, theirs) = (program.place(id), program.insn(id), claim.of_row(row));
                    let text = format!("{place} {insn}: {theirs}; ours: {state}");
                    self.compared.wrong.entry(function.unwrap_or("?").to_owned()).or_default().push(text);
                }
            }
        }
    }

    /// Whether an instruction adds to SP.
    fn moves_sp(&self, id: InsnId) -> bool {
        matches!(self.flow.program().insn(id).effects().sp, Change::By(bytes) if bytes != 0)
    }

    /// The instructions that can be before each of a function's.
    fn before(&self, row_of: &BTreeMap<InsnId, &Row>) -> BTreeMap<InsnId, Vec<InsnId>> {
        let mut before: BTreeMap<InsnId, Vec<InsnId>> = BTreeMap::new();
        for &from in row_of.keys().filter(|id| self.flow.is_reached(**id)) {
            for to in self.flow.onward(from).successors() {
                before.entry(to).or_default().push(from);
            }
        }
        before
    }

    fn explain(
        &self,
        id: InsnId,
        claim: Claim,
        rows: &[Row],
        row_of: &BTreeMap<InsnId, &Row>,
        before: &BTreeMap<InsnId, Vec<InsnId>>,
    ) -> Option<Explanation> {
        let (state, row) = (self.cfi.state(id)?, row_of.get(&id)?);
        let is_at_entry =
            |row: &Row| matches!(row.cfa(), CfaRule::RegisterAndOffset { register: gimli::Register(31), offset: 0 });
        if let Some((whole, before)) = rows.split_last()
            && before.iter().all(is_at_entry)
            && matches!(whole.cfa(), CfaRule::RegisterAndOffset { offset: 1.., .. })
        {
            return Some(Explanation::OnlyWhole);
        }
        let is_about = match claim {
            Claim::Cfa => None,
            Claim::Register(reg) => Some(reg),
            Claim::Signature if state.lr_key().is_some() == is_signed(row) => Some(CallerReg::LR),
            Claim::Signature => None,
        };
        if let Some(reg) = is_about
            && let RegisterRule::Offset(at) = row.register(gimli::Register(reg.dwarf()))
            && state.sp().is_some_and(|sp| at < -sp)
            && state.saved(reg).is_kept
        {
            return Some(Explanation::BelowSp);
        }
        let (mut seen, mut to_do) = (BTreeSet::from([id]), vec![id]);
        while let Some(to) = to_do.pop() {
            for from in before.get(&to).into_iter().flatten() {
                let (Some(at), Some(row)) = (self.cfi.state(*from), row_of.get(from)) else { continue };
                if !claim.holds(at, row) {
                    if seen.insert(*from) {
                        to_do.push(*from);
                    }
                } else if self.cfi.state(to).is_some_and(|state| claim.is_same(at, state))
                    || (claim == Claim::Cfa
                        && self.moves_sp(*from)
                        && row_of.get(&to).is_some_and(|to| is_by_sp(row, to)))
                {
                    return Some(Explanation::Contradiction);
                }
            }
        }
        None
    }
}

/// The sections of frames, relocated.
struct Frames {
    eh_frame: Option<(Vec<u8>, BaseAddresses)>,
    debug_frame: Option<Vec<u8>>,
}

impl Frames {
    fn of(file: &[u8], program: &Program<'_>) -> Self {
        let image = program.image();
        let eh_frame = image.section_named(".eh_frame").map(|section| {
            let mut bytes = section.bytes.to_vec();
            for relocation in image.relocations_in(section.range.start, section.range.end) {
                let at = (relocation.at - section.range.start) as usize;
                let wide = relocation.kind == object::elf::R_AARCH64_PREL64.0;
                let len = if wide { 8 } else { 4 };
                if let Some(value) = image.number_at(relocation.at, len) {
                    bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
                }
            }
            (bytes, BaseAddresses::default().set_eh_frame(section.range.start))
        });
        // It is not allocated, so the image does not have it; of objects it would have to be relocated.
        let debug_frame = (!image.is_relocatable())
            .then(|| object::File::parse(file).ok()?.section_by_name(".debug_frame")?.uncompressed_data().ok())
            .flatten()
            .map(|bytes| bytes.into_owned());
        Self { eh_frame, debug_frame }
    }
}

/// Calls `each` with the rows of each description.
fn each_function<'a, S>(section: &S, bases: &BaseAddresses, mut each: impl FnMut(&[Row])) -> Result<(), gimli::Error>
where
    S: UnwindSection<gimli::EndianSlice<'a, LittleEndian>>,
    S::Offset: gimli::UnwindOffset<usize>,
{
    let mut context = UnwindContext::new();
    let mut entries = section.entries(bases);
    while let Some(entry) = entries.next()? {
        let gimli::CieOrFde::Fde(partial) = entry else { continue };
        let fde = partial.parse(S::cie_from_offset)?;
        if fde.len() == 0 {
            continue;
        }
        let mut table = fde.rows(section, bases, &mut context)?;
        let mut rows = Vec::new();
        while let Some(row) = table.next_row()? {
            rows.push(row.clone());
        }
        each(&rows);
    }
    Ok(())
}
