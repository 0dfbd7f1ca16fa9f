//! Holds the crate's imports to the plan of its first page: a room uses only rooms below its own, and no files of the
//! crate form a circle.
//!
//! [`plan`] reads the order of the rooms from `src/lib.rs`; [`tree`] reads what each module declares and mentions;
//! [`resolve`] follows each mention to the file that defines it, which makes the arrows; [`circles`] finds the circles.
//! Tests may import anything: what is under `#[cfg(test)]` is not read.

mod circles;
mod plan;
mod resolve;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use plan::Plan;
use resolve::Arrow;
use tree::{ROOT, Tree};

/// The crate's files: their text by their paths from the repository's root, with `/` between the parts.
type Sources = BTreeMap<String, String>;

/// The crate's first page, and the file of its root module.
const FIRST_PAGE: &str = "src/lib.rs";

/// What the check has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What breaks the plan, a message each.
    Broken(Vec<String>),
    /// The plan holds; how much there is of what.
    Holds(String),
}

/// Checks the crate at `root`.
pub(crate) fn check(root: &Path) -> Result<Verdict> {
    let mut sources = Sources::new();
    read_folder(root, "src", &mut sources)?;
    judge(&sources)
}

fn read_folder(root: &Path, folder: &str, sources: &mut Sources) -> Result<()> {
    for entry in fs::read_dir(root.join(folder)).with_context(|| format!("cannot read {folder}"))? {
        let entry = entry?;
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            read_folder(root, &path, sources)?;
        } else if path.ends_with(".rs") {
            let text = fs::read_to_string(entry.path()).with_context(|| format!("cannot read {path}"))?;
            sources.insert(path, text);
        }
    }
    Ok(())
}

fn judge(sources: &Sources) -> Result<Verdict> {
    let tree = Tree::read(sources)?;
    let Some(plan) = Plan::read(&tree.first_page) else {
        return Ok(Verdict::Broken(vec![format!("{FIRST_PAGE} has no list of rooms")]));
    };
    let mut arrows = resolve::arrows(&tree);
    let mut wrong = unlisted(&tree, &plan);
    wrong.extend(arrows.iter().filter_map(|arrow| upward(&tree, &plan, arrow)));
    arrows.retain(|arrow| !arrow.is_reexport);
    wrong.extend(circles::all(&tree, &arrows));
    if !wrong.is_empty() {
        return Ok(Verdict::Broken(wrong));
    }
    let between_files: BTreeSet<_> = arrows.iter().map(|arrow| (arrow.from, arrow.to)).collect();
    let room = |file: usize| room_of(&tree.files[file]);
    let between_rooms: BTreeSet<_> = between_files.iter().map(|&(from, to)| (room(from), room(to))).collect();
    let between_rooms = between_rooms.iter().filter(|(from, to)| from != to).count();
    let (rooms, files) = (plan.rooms.len(), tree.files.len());
    Ok(Verdict::Holds(format!(
        "{rooms} rooms, {files} files, {} arrows between files, {between_rooms} between rooms",
        between_files.len()
    )))
}

/// The name of the room that a file is in; `None` for the first page, which stands above all rooms.
fn room_of(file: &str) -> Option<&str> {
    let path = file.strip_prefix("src/").unwrap_or(file);
    let first = path.split_once('/').map_or(path, |(folder, _)| folder);
    (file != FIRST_PAGE).then(|| first.strip_suffix(".rs").unwrap_or(first))
}

/// Where the list of rooms and the modules that the first page declares differ. Pages without code need no room.
fn unlisted(tree: &Tree, plan: &Plan) -> Vec<String> {
    let mut wrong = plan.repeated();
    let declared: BTreeMap<&str, usize> =
        tree.modules[ROOT].children.iter().map(|(name, module)| (name.as_str(), *module)).collect();
    for room in &plan.rooms {
        let place = format!("{FIRST_PAGE}:{}", room.line);
        match declared.get(room.name.as_str()).map(|&module| &tree.files[tree.modules[module].file]) {
            Some(file) if *file == room.file() => {}
            Some(file) => wrong.push(format!("{place}: room `{}` is {}, not {file}", room.name, room.file())),
            None => wrong.push(format!("{place}: room `{}` is no module of the crate", room.name)),
        }
    }
    for (name, &module) in &declared {
        let module = &tree.modules[module];
        if plan.height(name).is_none() && module.has_code && module.file != tree.modules[ROOT].file {
            wrong.push(format!("{FIRST_PAGE}: module `{name}` is not in the list of rooms"));
        }
    }
    wrong
}

/// What is wrong with an arrow that leads to a room above its own. Rooms that are not listed are told of elsewhere.
fn upward(tree: &Tree, plan: &Plan, arrow: &Arrow) -> Option<String> {
    let (from, to) = (room_of(&tree.files[arrow.from])?, room_of(&tree.files[arrow.to]));
    let place = format!("{}:{}: `{}` is from", tree.files[arrow.from], arrow.line, arrow.name);
    let Some(to) = to else { return Some(format!("{place} the first page, which is above room `{from}`")) };
    let is_above = plan.height(to)? > plan.height(from)?;
    is_above.then(|| format!("{place} room `{to}`, which is above room `{from}`"))
}
