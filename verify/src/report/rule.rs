//! The rules: their ids, which stay as they are, and what to do where one is broken.

use std::fmt;

/// Something that holds for every function that may be traced and unwound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// Each function that begins with the compiler's two NOPs has an entry in the callsite section.
    CallsiteMissing,
    /// Each entry of the callsite section names a function.
    CallsiteStray,
    /// What an entry names is two NOPs, as compiled, in a form that the engine takes.
    CallsiteForm,
    /// No two entries name the same instruction.
    CallsiteDuplicate,
    /// The literal before a function that was compiled with `=4,2` can be read in one piece.
    CallsiteAlignment,
    /// No branch goes into the middle of a callsite, or to the literal before a function.
    CallsiteEntered,
    /// Each waiver is needed.
    WaiverUnused,
}

/// How much a broken rule matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Tracing or unwinding goes wrong, or it could not be proven that it does not.
    Defect,
    /// A trace may lack a caller; nothing else goes wrong.
    Trace,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CallsiteMissing,
        Self::CallsiteStray,
        Self::CallsiteForm,
        Self::CallsiteDuplicate,
        Self::CallsiteAlignment,
        Self::CallsiteEntered,
        Self::WaiverUnused,
    ];

    /// Its name in waivers and reports.
    pub const fn id(self) -> &'static str {
        match self {
            Self::CallsiteMissing => "callsite-missing",
            Self::CallsiteStray => "callsite-stray",
            Self::CallsiteForm => "callsite-form",
            Self::CallsiteDuplicate => "callsite-duplicate",
            Self::CallsiteAlignment => "callsite-alignment",
            Self::CallsiteEntered => "callsite-entered",
            Self::WaiverUnused => "waiver-unused",
        }
    }

    /// What to do where it is broken.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::CallsiteMissing => {
                "keep its __patchable_function_entries in the link (KEEP in the linker script), or compile it without NOPs"
            }
            Self::CallsiteStray => {
                "give the function a symbol of type function at its first instruction, or drop the entry"
            }
            Self::CallsiteForm => {
                "compile with -fpatchable-function-entry=2 or =4,2, and verify the image as linked, before it runs"
            }
            Self::CallsiteDuplicate => "drop one of the entries",
            Self::CallsiteAlignment => {
                "align the function to 8 bytes (-falign-functions=8, -Zmin-function-alignment=8)"
            }
            Self::CallsiteEntered => "branch to the function's entry, or exclude the function from patching",
            Self::WaiverUnused => "remove the waiver",
        }
    }

    /// How much it matters.
    pub const fn level(self) -> Level {
        Level::Defect
    }

    /// The rule of this id.
    pub fn of_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.id() == id)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}
