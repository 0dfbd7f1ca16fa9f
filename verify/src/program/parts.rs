//! Joins what compilers have split off a function with the function.

use std::collections::{BTreeMap, BTreeSet};

use super::{Destination, FunctionId, InsnId, Program};
use fentry::insn::Flow;

/// What begins the part of a name that says that this is a piece of the function named before it.
const SUFFIXES: [&str; 4] = [".cold", ".part.", ".__part.", ".unlikely"];
/// How the names begin of what is taken out of functions, and which they do not name: by the machine outliner, and by linkers
/// that put an instruction elsewhere, and a jump to it in its place, for an erratum of Cortex-A53 (843419 and 835769; lld, GNU
/// ld).
const TAKEN_OUT: [&str; 4] = ["OUTLINED_FUNCTION_", "__CortexA53843419_", "e843419@", "__erratum_835769_veneer_"];

/// Who goes to a piece.
#[derive(Default)]
struct Referrers {
    is_called: bool,
    jump_from: BTreeSet<FunctionId>,
}

/// Makes the pieces that are jumped to, and never called, parts of the function that they were split off.
pub(super) fn join(program: &mut Program<'_>) {
    let pieces: BTreeMap<InsnId, FunctionId> = (0..program.functions.len())
        .map(|index| FunctionId(index as u32))
        .filter(|piece| is_piece(program, *piece))
        .map(|piece| (program.function(piece).entry(), piece))
        .collect();
    if pieces.is_empty() {
        return;
    }
    let mut jumped_to: Vec<_> =
        referrers(program, &pieces).into_iter().filter(|(_, referrers)| !referrers.is_called).collect();
    // A cold part has lost instructions as well, and is to have its own parent by then.
    jumped_to.sort_by_key(|(piece, _)| is_taken_out(program.name(*piece)));
    for (piece, referrers) in jumped_to {
        let Some(parent) = parent_of(program, piece, &referrers.jump_from) else { continue };
        if parent != piece && program.function(parent).parent == parent && program.function(piece).parts.is_empty() {
            program.functions[piece.index()].parent = parent;
            program.functions[parent.index()].parts.push(piece);
        }
    }
}

fn is_piece(program: &Program<'_>, function: FunctionId) -> bool {
    let name = program.name(function);
    is_taken_out(name) || split_from(name).is_some()
}

fn is_taken_out(name: &str) -> bool {
    TAKEN_OUT.iter().any(|begin| name.starts_with(begin))
}

/// The name of the function that a piece of this name was split off.
fn split_from(name: &str) -> Option<&str> {
    let ends = SUFFIXES.iter().filter_map(|suffix| {
        let at = name.find(suffix)?;
        let rest = &name[at + suffix.len()..];
        (suffix.ends_with('.') || rest.is_empty() || rest.starts_with('.')).then_some(at)
    });
    ends.min().filter(|at| *at > 0).map(|at| &name[..at])
}

/// Who jumps to the pieces' entries, and whether they are called.
fn referrers(program: &Program<'_>, pieces: &BTreeMap<InsnId, FunctionId>) -> BTreeMap<FunctionId, Referrers> {
    let mut found: BTreeMap<FunctionId, Referrers> = BTreeMap::new();
    for id in program.all() {
        // B, BL, B.cond, CBZ, TBZ: decoded only where the word can be one.
        if !matches!(program.word(id) >> 24, 0x14..=0x17 | 0x94..=0x97 | 0x54 | 0x34..=0x37 | 0xb4..=0xb7) {
            continue;
        }
        let Some(Destination::Insn(to)) = program.destination(id) else { continue };
        // A part may be entered behind its first instruction.
        let Some((_, piece)) =
            pieces.range(..=to).next_back().filter(|(_, piece)| program.function(**piece).contains(to))
        else {
            continue;
        };
        let referrers = found.entry(*piece).or_default();
        match (program.insn(id).effects().flow, program.function_of(id)) {
            (Flow::Call(_), _) => referrers.is_called = true,
            (_, Some(from)) if from != *piece => {
                referrers.jump_from.insert(from);
            }
            _ => {}
        }
    }
    found
}

/// The function that a piece belongs to: that of its name, if that jumps there; and for what was taken out, whose name says
/// nothing, the only one that does.
fn parent_of(program: &Program<'_>, piece: FunctionId, jump_from: &BTreeSet<FunctionId>) -> Option<FunctionId> {
    let up = |function: &FunctionId| program.function(*function).parent;
    let from: BTreeSet<FunctionId> = jump_from.iter().map(up).collect();
    let name = split_from(program.name(piece));
    match name {
        Some(name) => {
            let has_it = |function: &&FunctionId| {
                let symbols = program.function(**function).symbols.iter();
                symbols.map(|symbol| program.symbol(*symbol).name).any(|other| is_base(name, other))
            };
            from.iter().find(has_it).copied()
        }
        None if from.len() == 1 => from.first().copied(),
        None => None,
    }
}

/// Whether a piece split off `name` was split off the function `other`: ThinLTO may have renamed either (`.llvm.N`).
fn is_base(name: &str, other: &str) -> bool {
    let stem = |name: &str| name.split_once(".llvm.").map_or(name, |(stem, _)| stem).len();
    name == other || name[..stem(name)] == other[..stem(other)]
}
