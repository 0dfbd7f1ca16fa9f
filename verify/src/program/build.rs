//! Divides text into functions.

use fentry::insn::{Exception, Hint, Insn, System};
use object::elf;

use super::{Function, FunctionId, InsnId, Marks, Oddity, Program, SymbolId, Text, parts};
use crate::image::{Image, Relocation, SymbolKind};

/// How far before a function's entry its prefix NOPs are looked for.
const MAX_PREFIX: u8 = 16;

impl<'data> Program<'data> {
    /// Divides an image into functions and instructions.
    pub fn new(image: Image<'data>) -> Self {
        build(image)
    }
}

fn build(image: Image<'_>) -> Program<'_> {
    let texts = texts_of(&image);
    let words = texts.last().map_or(0, |text| text.first + text.words);
    let marks = vec![Marks::default(); words as usize];
    let (functions, owners, oddities) = (Vec::new(), Vec::new(), Vec::new());
    let mut program = Program { image, texts, marks, functions, owners, oddities, has_hashes: false };
    mark_data(&mut program);
    mark_relocations(&mut program);
    find_functions(&mut program);
    program.owners = owners_of(&program);
    parts::join(&mut program);
    find_prefixes(&mut program);
    if has_hashes(&program) {
        program.has_hashes = true;
        find_hashes(&mut program);
    }
    program
}

fn texts_of<'data>(image: &Image<'data>) -> Vec<Text<'data>> {
    let mut first = 0_u32;
    let executable = image.sections().iter().filter(|section| section.is_executable);
    executable
        .map_while(|section| {
            let words = u32::try_from((section.range.end - section.range.start) / 4).ok()?;
            let text = Text {
                name: section.name,
                index: section.index,
                start: section.range.start,
                first,
                words: if section.bytes.is_empty() { 0 } else { words },
                bytes: section.bytes,
            };
            first = first.checked_add(text.words)?;
            Some(text)
        })
        .collect()
}

/// Marks what stands behind a `$d` as data, up to the next `$x`.
fn mark_data(program: &mut Program<'_>) {
    let Program { image, texts, marks, .. } = program;
    let is_mapping = |kind| matches!(kind, SymbolKind::MappingCode | SymbolKind::MappingData);
    let mut mapping = image.symbols().iter().filter(|symbol| is_mapping(symbol.kind)).peekable();
    for text in texts {
        let end = text.start + 4 * u64::from(text.words);
        let mut data_from = None;
        let mut mark = |from: Option<u64>, to: u64| {
            let Some(from) = from else { return };
            let index = |address: u64| text.first as usize + ((address - text.start).div_ceil(4)) as usize;
            let range = index(from)..index(to.min(end)).min(text.first as usize + text.words as usize);
            marks.get_mut(range).unwrap_or_default().iter_mut().for_each(|word| word.0 |= Marks::DATA);
        };
        while let Some(symbol) = mapping.next_if(|symbol| symbol.address < end) {
            if symbol.address < text.start || symbol.section != text.index {
                continue;
            }
            match symbol.kind {
                SymbolKind::MappingData => {
                    data_from.get_or_insert(symbol.address);
                }
                _ => mark(data_from.take(), symbol.address),
            }
        }
        mark(data_from, end);
    }
}

fn mark_relocations(program: &mut Program<'_>) {
    for index in 0..program.image.relocations().len() {
        let at = program.image.relocations()[index].at;
        if let Some(id) = program.word_at(at) {
            program.marks[id.index()].0 |= Marks::RELOCATED;
        }
    }
}

/// A symbol that may begin a function.
struct Candidate {
    id: InsnId,
    size: u64,
    symbol: SymbolId,
    is_typed: bool,
    rank: (bool, bool),
}

/// Functions are where symbols of functions are. Where none is, a global label begins one, as assembly often has it.
fn find_functions(program: &mut Program<'_>) {
    let mut candidates = candidates(program);
    // The name of several is a typed, global one that is not reserved.
    candidates.sort_by_key(|candidate| (candidate.id, candidate.rank));
    let mut at = 0;
    let mut typed_end = 0;
    while let Some(first) = candidates.get(at) {
        let id = first.id;
        let same = candidates[at..].iter().take_while(|candidate| candidate.id == id).count();
        let group = &candidates[at..at + same];
        at += same;
        let is_typed = group.iter().any(|candidate| candidate.is_typed);
        // A label inside a function is a label.
        if !is_typed && id.0 < typed_end {
            continue;
        }
        let size = group.iter().map(|candidate| candidate.size).max().unwrap_or(0);
        let section = program.section_range(program.section_of(id));
        let next = candidates[at..].iter().map(|candidate| candidate.id.0).find(|next| *next > id.0);
        let end = match size {
            0 => next.unwrap_or(section.end).min(section.end),
            _ => id.0.saturating_add(u32::try_from(size.div_ceil(4)).unwrap_or(u32::MAX)).min(section.end),
        };
        if is_typed && size > 0 {
            typed_end = typed_end.max(end);
        }
        let function = FunctionId(program.functions.len() as u32);
        let sized = group.iter().filter(|candidate| candidate.size > 0);
        if sized.clone().any(|candidate| candidate.size != size) {
            program.oddities.push(Oddity::Sizes { function });
        }
        if let Some(last) = program.functions.last_mut()
            && last.range.end > id.0
        {
            last.range.end = id.0;
            let first = FunctionId(function.0 - 1);
            program.oddities.push(Oddity::Overlap { first, second: function });
        }
        program.functions.push(Function {
            range: id.0..end,
            symbols: group.iter().map(|candidate| candidate.symbol).collect(),
            parent: function,
            parts: Vec::new(),
            prefix: 0,
            hash: None,
            is_typed,
            is_sized: size > 0,
        });
    }
}

/// The function or part that each word is in.
fn owners_of(program: &Program<'_>) -> Vec<Option<FunctionId>> {
    let mut owners = vec![None; program.words()];
    for (index, function) in program.functions.iter().enumerate() {
        let range = function.range.start as usize..function.range.end as usize;
        owners.get_mut(range).unwrap_or_default().fill(Some(FunctionId(index as u32)));
    }
    owners
}

fn candidates(program: &Program<'_>) -> Vec<Candidate> {
    let symbols = program.image.symbols().iter().enumerate();
    symbols
        .filter_map(|(index, symbol)| {
            let is_typed = match symbol.kind {
                SymbolKind::Function => true,
                SymbolKind::Label if symbol.is_global => false,
                _ => return None,
            };
            let id = program.word_at(symbol.address)?;
            let is_in_its_section = program.texts[program.section_of(id).0 as usize].index == symbol.section;
            let is_code = is_in_its_section && (is_typed || !program.is_data(id));
            let rank = (!is_typed, !symbol.is_global);
            is_code.then_some(Candidate { id, size: symbol.size, symbol: SymbolId(index as u32), is_typed, rank })
        })
        .collect()
}

/// Finds the NOPs before each function.
fn find_prefixes(program: &mut Program<'_>) {
    for index in 0..program.functions.len() {
        if is_parent(program, index) {
            let entry = program.functions[index].range.start;
            let prefix = (floor(program, index)..entry).rev().take(MAX_PREFIX.into());
            program.functions[index].prefix = prefix.take_while(|at| is_nop(program, *at)).count() as u8;
        }
    }
}

/// Whether functions have hashes of their types: some caller compares one, or all that can be patched have a word before their
/// prefix NOPs. A module may have only what others call.
fn has_hashes(program: &Program<'_>) -> bool {
    // Objects list the checks in a section.
    if program.image.section_named(".kcfi_traps").is_some() || program.hash_checks().next().is_some() {
        return true;
    }
    let is_patchable = |index: &usize| {
        let function = &program.functions[*index];
        let nops = program.after_landing(function.parent).0;
        function.prefix == 2 && is_parent(program, *index) && is_nop(program, nops) && is_nop(program, nops + 1)
    };
    let mut patchable = (0..program.functions.len()).filter(is_patchable);
    let has = |index| hash(program, index).is_some_and(|(_, word)| !is_trap(word));
    // That one function has such a word may be by chance.
    let first = patchable.next().is_some_and(has);
    first && patchable.next().is_some_and(has) && patchable.all(has)
}

/// Finds the hash before each function's prefix NOPs. It is no instruction.
fn find_hashes(program: &mut Program<'_>) {
    for index in 0..program.functions.len() {
        if let Some((at, word)) = hash(program, index).filter(|_| is_parent(program, index)) {
            program.functions[index].hash = Some(word);
            program.marks[at as usize].0 |= Marks::DATA;
        }
    }
}

/// The word before a function's prefix NOPs, if it is of no other function. Padding is zero.
fn hash(program: &Program<'_>, index: usize) -> Option<(u32, u32)> {
    let function = &program.functions[index];
    let at = function.range.start.checked_sub(u32::from(function.prefix) + 1)?;
    let word = program.word(InsnId(at));
    (floor(program, index) <= at && word != 0).then_some((at, word))
}

fn is_parent(program: &Program<'_>, index: usize) -> bool {
    program.functions[index].parent.index() == index
}

fn is_nop(program: &Program<'_>, at: u32) -> bool {
    program.word(InsnId(at)) == Insn::hint(Hint::NOP).encode()
}

/// What LLD pads text with.
fn is_trap(word: u32) -> bool {
    matches!(Insn::decode(word), Insn::System(System::Exception { kind: Exception::Brk, .. }))
}

/// The first of the words before a function that belong to no other one.
fn floor(program: &Program<'_>, index: usize) -> u32 {
    let entry = program.functions[index].range.start;
    let section = program.section_range(program.section_of(InsnId(entry))).start;
    let before = index.checked_sub(1).map_or(0, |before| program.functions[before].range.end);
    section.max(before).min(entry)
}

impl Relocation<'_> {
    /// Whether it fills in where a branch goes (AAELF64 5.7.8).
    pub(crate) fn is_of_branch(&self) -> bool {
        matches!(
            elf::RelocationType(self.kind),
            elf::R_AARCH64_CALL26 | elf::R_AARCH64_JUMP26 | elf::R_AARCH64_CONDBR19 | elf::R_AARCH64_TSTBR14
        )
    }
}
