//! The order of the rooms, as the crate's first page has it.

use super::FIRST_PAGE;

/// What the list stands under.
const HEADING: &str = "# The rooms";

/// The rooms, the highest first.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rooms: Vec<Room>,
}

/// One line of the list.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: String,
    pub(super) line: usize,
    is_folder: bool,
}

impl Room {
    /// The file of the room's module.
    pub(super) fn file(&self) -> String {
        let end = if self.is_folder { "/mod.rs" } else { ".rs" };
        format!("src/{}{end}", self.name)
    }
}

impl Plan {
    /// Reads the first code block under the heading, if the page has it: a room a line, whose first word is its name,
    /// with `/` at the end where it is a folder. Indented lines go on with the line before.
    pub(super) fn read(page: &[(usize, String)]) -> Option<Self> {
        let mut lines = page.iter().skip_while(|(_, text)| text.trim() != HEADING).skip(1);
        let before_next_heading = lines.by_ref().take_while(|(_, text)| !text.trim().starts_with("# "));
        before_next_heading.into_iter().find(|(_, text)| text.trim().starts_with("```"))?;
        let rooms = lines
            .take_while(|(_, text)| !text.trim().starts_with("```"))
            .map(|(line, text)| (*line, text.strip_prefix(' ').unwrap_or(text)))
            .filter(|(_, text)| !text.starts_with(' '))
            .filter_map(|(line, text)| {
                let word = text.split_whitespace().next()?;
                let name = word.strip_suffix('/').unwrap_or(word);
                Some(Room { name: name.to_owned(), line, is_folder: name != word })
            })
            .collect();
        Some(Self { rooms })
    }

    /// How many rooms stand below this one, if it is in the list.
    pub(super) fn height(&self, name: &str) -> Option<usize> {
        self.rooms.iter().rev().position(|room| room.name == name)
    }

    /// The rooms that the list has twice, a message each.
    pub(super) fn repeated(&self) -> Vec<String> {
        let is_repeated = |&(at, room): &(usize, &Room)| self.rooms[..at].iter().any(|before| before.name == room.name);
        let repeated = self.rooms.iter().enumerate().filter(is_repeated);
        repeated.map(|(_, room)| format!("{FIRST_PAGE}:{}: room `{}` is listed twice", room.line, room.name)).collect()
    }
}
