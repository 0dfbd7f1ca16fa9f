//! From what a module mentions to the file that defines it.

use std::collections::BTreeSet;

use super::tree::{Kind, Mention, ROOT, Tree};

/// A file's use of a name that another file defines.
#[derive(Debug)]
pub(super) struct Arrow {
    pub(super) from: usize,
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) to: usize,
    pub(super) is_reexport: bool,
}

/// What a path leads to.
enum Found {
    Item {
        file: usize,
        name: String,
    },
    Module(usize),
    /// Not of this crate, or of no module: a local variable, a generic parameter.
    Outside,
}

/// Every arrow of the crate: one for each name that a file takes from another, at its first mention.
pub(super) fn arrows(tree: &Tree) -> Vec<Arrow> {
    let mut known = BTreeSet::new();
    let mut arrows = Vec::new();
    for (at, module) in tree.modules.iter().enumerate() {
        for mention in &module.mentions {
            let Some((name, to)) = target(tree, at, mention) else { continue };
            let is_reexport = mention.kind == Kind::Reexport;
            if to != module.file && known.insert((module.file, to, name.clone(), is_reexport)) {
                arrows.push(Arrow { from: module.file, line: mention.line, name, to, is_reexport });
            }
        }
    }
    arrows
}

/// The name that a mention takes, and the file that defines it.
fn target(tree: &Tree, at: usize, mention: &Mention) -> Option<(String, usize)> {
    match resolve(tree, at, &mention.path, &mut BTreeSet::new()) {
        Found::Item { file, name } => Some((name, file)),
        Found::Module(module) => {
            let name = match mention.kind {
                Kind::Glob => "*",
                Kind::Code | Kind::Reexport if mention.path.len() > 1 => mention.path.last()?,
                // The paths that go through the module make the arrows.
                Kind::Code | Kind::Reexport | Kind::Import | Kind::Macro => return None,
            };
            Some((name.to_owned(), tree.modules[module].file))
        }
        Found::Outside if mention.kind == Kind::Macro => macro_above(tree, at, &mention.path),
        Found::Outside => None,
    }
}

/// A macro that is seen without an import, because a module around this one defines it above its child.
fn macro_above(tree: &Tree, at: usize, path: &[String]) -> Option<(String, usize)> {
    let [name] = path else { return None };
    let mut around = std::iter::successors(tree.modules[at].parent, |&module| tree.modules[module].parent);
    let module = around.find(|&module| tree.modules[module].macros.contains(name))?;
    Some((name.clone(), tree.modules[module].file))
}

/// Follows a path from a module. `seen` has the names that are being followed, each with its module.
fn resolve(tree: &Tree, from: usize, path: &[String], seen: &mut BTreeSet<(usize, String)>) -> Found {
    let mut module = from;
    for (at, name) in path.iter().enumerate() {
        match name.as_str() {
            "crate" => module = ROOT,
            "self" => {}
            "super" => module = tree.modules[module].parent.unwrap_or(ROOT),
            _ => match look_up(tree, module, name, at + 1 == path.len(), seen) {
                Some(Found::Module(inner)) => module = inner,
                Some(found) => return found,
                // A macro or an `extern` block of that module makes the name.
                None if at > 0 => return Found::Item { file: tree.modules[module].file, name: name.clone() },
                None => return Found::Outside,
            },
        }
    }
    Found::Module(module)
}

/// Finds what a name means in a module, following what the module imports.
fn look_up(tree: &Tree, at: usize, name: &str, is_last: bool, seen: &mut BTreeSet<(usize, String)>) -> Option<Found> {
    let module = &tree.modules[at];
    let item = module.items.contains(name).then(|| Found::Item { file: module.file, name: name.to_owned() });
    let child = module.children.get(name).map(|&child| Found::Module(child));
    // Where both have this name, what stands before `::` is the module.
    if let Some(found) = if is_last { item.or(child) } else { child.or(item) } {
        return Some(found);
    }
    if !seen.insert((at, name.to_owned())) {
        return None;
    }
    if let Some(path) = module.imports.get(name) {
        return Some(resolve(tree, at, path, seen));
    }
    module.globs.iter().find_map(|path| match resolve(tree, at, path, seen) {
        Found::Module(module) => look_up(tree, module, name, is_last, seen),
        Found::Item { .. } | Found::Outside => None,
    })
}
