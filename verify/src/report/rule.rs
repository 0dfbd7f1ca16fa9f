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
    /// A function returns by LR.
    ReturnRegister,
    /// SP is at a return what it was at the entry.
    StackUnbalanced,
    /// x19 to x30 and d8 to d15 are at a return what they were at the entry (AAPCS64 6.1.1, 6.1.2).
    RegisterLost,
    /// A function that ends by jumping to another one leaves it the stack and registers of its own entry.
    SiblingStack,
    /// No function jumps into the middle of another one.
    JumpInside,
    /// Where x29 points into the own frame, the caller's x29 and the return address are there, side by side (AAPCS64 6.4.6).
    RecordBroken,
    /// x29 is the caller's, or points at a frame record.
    FramePointer,
    /// SP is a multiple of 16 at calls and where a frame record is stored (AAPCS64 6.4.5.1).
    SpMisaligned,
    /// A call is made with a frame record set up.
    CallWithoutRecord,
    /// Where paths meet, they have the same frame.
    StatesDiffer,
    /// No path runs off a function's end.
    FallsOff,
    /// Every path can be followed.
    NotFollowed,
    /// All instructions of a function can be reached, but for padding.
    Unreachable,
    /// x9 to x17 and the flags are dead at each callsite.
    LiveAtCallsite,
    /// Nothing is kept in x9 to x17 or the flags over a call of a function that can be patched.
    KeptOverCall,
    /// Under BTI, what an indirect branch may go to begins with a landing pad that takes it.
    LandingMissing,
    /// Under BTI, a jump to a function by a register is by x16 or x17.
    JumpRegister,
    /// Under kCFI, a function whose address is taken has the hash of its type where callers look for it.
    HashMissing,
    /// Under kCFI, a caller looks for the hash that what it calls has, and where that is.
    HashDiffers,
    /// The room for generated stubs is empty in the image.
    StubsRoom,
    /// Code takes the address only of functions that could be called by a register, with landing pad and hash.
    EntryUnproven,
    /// A function with a variant procedure call standard has no callsite.
    VariantPcs,
    /// x18 is the platform's register in all of a program, or a temporary in all of it.
    X18Live,
    /// No chain of calls takes more stack than there is.
    StackDepth,
    /// Nothing that a stub calls outside of the recursion guard has a callsite, but in the engine's own text.
    EngineTraced,
    /// It is known whom a stub calls outside of the recursion guard.
    EngineUnknown,
    /// What the platform does while text is written has no callsite.
    PlatformTraced,
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
    /// It may go wrong or not: what decides it can't be seen in the image.
    Unproven,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 34] = [
        Self::CallsiteMissing,
        Self::CallsiteStray,
        Self::CallsiteForm,
        Self::CallsiteDuplicate,
        Self::CallsiteAlignment,
        Self::CallsiteEntered,
        Self::ReturnRegister,
        Self::StackUnbalanced,
        Self::RegisterLost,
        Self::SiblingStack,
        Self::JumpInside,
        Self::RecordBroken,
        Self::FramePointer,
        Self::SpMisaligned,
        Self::CallWithoutRecord,
        Self::StatesDiffer,
        Self::FallsOff,
        Self::NotFollowed,
        Self::Unreachable,
        Self::LiveAtCallsite,
        Self::KeptOverCall,
        Self::LandingMissing,
        Self::JumpRegister,
        Self::HashMissing,
        Self::HashDiffers,
        Self::StubsRoom,
        Self::EntryUnproven,
        Self::VariantPcs,
        Self::X18Live,
        Self::StackDepth,
        Self::EngineTraced,
        Self::EngineUnknown,
        Self::PlatformTraced,
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
            Self::ReturnRegister => "return-register",
            Self::StackUnbalanced => "stack-unbalanced",
            Self::RegisterLost => "register-lost",
            Self::SiblingStack => "sibling-stack",
            Self::JumpInside => "jump-inside",
            Self::RecordBroken => "record-broken",
            Self::FramePointer => "frame-pointer",
            Self::SpMisaligned => "sp-misaligned",
            Self::CallWithoutRecord => "call-without-record",
            Self::StatesDiffer => "states-differ",
            Self::FallsOff => "falls-off",
            Self::NotFollowed => "not-followed",
            Self::Unreachable => "unreachable",
            Self::LiveAtCallsite => "live-at-callsite",
            Self::KeptOverCall => "kept-over-call",
            Self::LandingMissing => "landing-missing",
            Self::JumpRegister => "jump-register",
            Self::HashMissing => "hash-missing",
            Self::HashDiffers => "hash-differs",
            Self::StubsRoom => "stubs-room",
            Self::EntryUnproven => "entry-unproven",
            Self::VariantPcs => "variant-pcs",
            Self::X18Live => "x18-live",
            Self::StackDepth => "stack-depth",
            Self::EngineTraced => "engine-traced",
            Self::EngineUnknown => "engine-unknown",
            Self::PlatformTraced => "platform-traced",
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
            Self::ReturnRegister => "return by LR: `ret` without a register",
            Self::StackUnbalanced => "give back on every path what was taken from the stack",
            Self::RegisterLost => "restore it on every path before returning",
            Self::SiblingStack => "restore them before the jump, or make it a call",
            Self::JumpInside => "jump to the function's entry, or make both one function",
            Self::RecordBroken => {
                "store x29 and x30 side by side before x29 points at them, and load them before SP leaves them"
            }
            Self::FramePointer => {
                "use another register, or compile with -fno-omit-frame-pointer (-Cforce-frame-pointers)"
            }
            Self::SpMisaligned => "take a multiple of 16 from SP",
            Self::CallWithoutRecord => {
                "compile with -fno-omit-frame-pointer (-Cforce-frame-pointers), or live with traces that lack this caller"
            }
            Self::StatesDiffer => "make the same frame on both paths, or let them not meet",
            Self::FallsOff => "end the path by a return, a jump, or a trap",
            Self::NotFollowed => {
                "show the bound of the jump's table, or waive it; until then nothing behind it is proven"
            }
            Self::Unreachable => "remove them, or mark what is data in assembly as data",
            Self::LiveAtCallsite => {
                "let the function read it after it has written it, or exclude the function from patching"
            }
            Self::KeptOverCall => {
                "keep it in x19 to x28 or on the stack; compile without inter-procedural register allocation (-fno-ipa-ra)"
            }
            Self::LandingMissing => {
                "begin it with BTI C (a table's target, BTI J; -mbranch-protection, -Zbranch-protection), or take its address out of the data"
            }
            Self::JumpRegister => "jump by x16 or x17",
            Self::HashMissing => {
                "compile it as its callers are (-fsanitize=kcfi, -fpatchable-function-entry), or take its address out of the data"
            }
            Self::HashDiffers => {
                "compile both with the same -fpatchable-function-entry, and declare the function with the type that it has"
            }
            Self::StubsRoom => "leave __fentry_stubs_start to __fentry_stubs_stop to the engine",
            Self::EntryUnproven => "if a register leads here it traps: begin it as compiled functions begin",
            Self::VariantPcs => "compile it without NOPs (patchable_function_entry(0)): the engine refuses it",
            Self::X18Live => {
                "reserve x18 everywhere (-ffixed-x18, -Zfixed-x18, core included), or exclude the function from patching"
            }
            Self::StackDepth => "make the frames on the way smaller, or the stack larger",
            Self::EngineTraced => {
                "gather it with the engine's own text (examples/fentry.ld), or compile it without NOPs"
            }
            Self::EngineUnknown => "if it can be traced, tracing it never ends: call it by name",
            Self::PlatformTraced => {
                "a callback that runs there must not wait for the engine: compile it without NOPs, or leave it out at init"
            }
            Self::WaiverUnused => "remove the waiver",
        }
    }

    /// How much it matters.
    pub const fn level(self) -> Level {
        match self {
            Self::CallWithoutRecord => Level::Trace,
            Self::EntryUnproven | Self::EngineUnknown | Self::PlatformTraced => Level::Unproven,
            _ => Level::Defect,
        }
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
