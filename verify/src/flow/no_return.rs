//! The names of other files' functions that never return.

use std::collections::HashSet;

/// The functions of other files that never return, by name. What the program itself defines is not looked up here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoReturn(HashSet<String>);

impl NoReturn {
    /// Reads names, one a line. Empty lines are left out, and what stands behind a `#`.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        Self(lines.filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    /// Whether a function never returns.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}
