//! What to change, in words that can be pasted.

use fentry::LINKER_FRAGMENT;

/// An output section as the fragment has it; the whole fragment if it has none of this name.
fn section(name: &str) -> &'static str {
    let from_section =
        LINKER_FRAGMENT.split_once(&format!("\n    {name} :")).map(|(before, _)| &LINKER_FRAGMENT[before.len() + 1..]);
    let section = from_section.and_then(|rest| Some(&rest[..rest.find("\n    }\n")? + "\n    }".len()]));
    section.unwrap_or(LINKER_FRAGMENT)
}

/// The flags of the guide's second step.
pub(super) const COMPILE: &str = "\
compile with room at each function's entry:
  Rust:  RUSTFLAGS='-Zpatchable-function-entry=2 -Cforce-frame-pointers=yes -Csymbol-mangling-version=v0'
         with RUSTC_BOOTSTRAP=1 and -Zbuild-std=core,alloc
  C:     -fpatchable-function-entry=2 -fno-omit-frame-pointer";

pub(super) fn keep() -> String {
    format!(
        "keep the section, in writable data: give the linker examples/fentry.ld by a -T before the one of your\n\
         own script, or write into that\n\
         {}\n\
         and see that no /DISCARD/ matches it before that",
        section(".fentry.callsites")
    )
}

pub(super) const WRITABLE: &str = "\
the engine rewrites the section in place: put it beside .data, into a segment with the flags RW
  (examples/fentry.ld does; with PHDRS, add `:data`)";

pub(super) fn gather() -> String {
    format!(
        "gather the engine's own text, so that it is never traced: give the linker examples/fentry.ld before your own script, or\n\
         write into that, before the general pattern for .text\n\
         {}\n\
         and compile with -Csymbol-mangling-version=v0 and -Zfunction-sections (rustc's default for bare metal)",
        section(".text.fentry")
    )
}

pub(super) fn symbols() -> String {
    format!(
        "for names in the kernel, keep a place for the symbol table after all text\n\
         {}\n\
         then link, run `cargo fentry symbols IMAGE -o symbols.o`, and link again with symbols.o added. Without symbols, say how\n\
         all of the kernel was compiled: Image::linked().with_layout(Layout::Plain) for =2, Layout::Prefixed for =4,2",
        section(".fentry.symbols")
    )
}

pub(super) const RELINK: &str = "\
link again with the object file that `cargo fentry symbols IMAGE -o symbols.o` makes from this very image; or link with
--defsym=__fentry_symbols_room=64K, and `cargo fentry symbols --in-place IMAGE` fills that room";

pub(super) fn unwind() -> String {
    format!(
        "for stack traces that say of each frame whether it is sure, keep a place for the unwind table\n\
         {}\n\
         and have `cargo fentry symbols --unwind` make it beside the names",
        section(".fentry.unwind")
    )
}

pub(super) const UNWIND: &str = "\
link again with the object file that `cargo fentry symbols --unwind IMAGE -o tables.o` makes from this very image, by this
version of fentry; or link with --defsym=__fentry_unwind_room=64K, and `cargo fentry symbols --in-place --unwind IMAGE` fills
that room";

pub(super) const RELOCATE: &str = "\
initialise the engine only after the kernel has relocated itself, and keep .rela.dyn in the image;
if the start-up code has no self-relocation, link without -pie and with -Crelocation-model=static";

pub(super) const BRACKETED: &str = "\
a kernel that relocates itself up to that symbol leaves those entries as they are in the file, and the engine's init refuses
them. GNU ld calls their section .rela__patchable_function_entries: have your script take *(.rela .rela*) before the symbol";

pub(super) const ALIGNMENT: &str = "\
they are traced, but the pointer before each can't be read at once. Compile Rust with -Zmin-function-alignment=8, C by GCC
14 or later with -fmin-function-alignment=8, by an older one or Clang with -falign-functions=8, which such a GCC ignores at
-Os and for cold functions. With kCFI and =4,2 nothing helps: its hash of four bytes comes before the two NOPs, so that an
aligned start puts the function four bytes off";

pub(super) const PROTECTION: &str = "\
map text read-only and executable; the engine writes it through the alias that your `Platform` gives";

pub(super) const END_OF_TEXT: &str = "\
if the kernel maps its text up to that symbol, or copies or checksums it so, it hangs at the first call of the engine, or
of memcpy, which is gathered there too. Set the symbol behind the engine's sections: give it the value of
__fentry_stubs_stop, or have the kernel use that. (INSERT AFTER .text puts them behind .text and before what your script
sets after it with lld; GNU ld puts them behind such assignments too, up to the next one to the location counter: write
`. = .;` before the symbol)";

pub(super) const INCLUDED: &str = "\
sections may then lie elsewhere than your script says. GNU ld takes a script with an INSERT that another INCLUDEs for an
addition to its default one: give examples/fentry.ld by a -T of its own, before that of your script (lld takes it both
ways)";

pub(super) const EXECUTABLE: &str = "\
callsites call into it: put .text.fentry beside .text, into a segment with the flags R E (examples/fentry.ld does; with PHDRS,
add `:text`). A room that a segment ends with must have something to load, such as LONG(0), and more segments behind it may
not cut it off";

pub(super) const REACH: &str = "\
BL reaches 128 MiB in both directions: place .text.fentry in the middle of the text, or split the image";

pub(super) const BUILD_STD: &str = "\
build them with the kernel's own flags: -Zbuild-std=core,alloc";

pub(super) const REFUSED: &str = "\
these functions stay untraced, the others work; compile all objects with the same -fpatchable-function-entry
(=2 or =4,2), and let nothing patch the text before the engine's init";

pub(super) const OUTSIDE_TEXT: &str = "\
the engine's init would refuse the section (TableError::OutsideText). Either the image range is wrong: see that
__fentry_image_start and __fentry_image_stop are around all text (examples/fentry.ld takes the section .text; if yours has
another name, change that); or the entries are of another link address: initialise the engine only after the kernel has
relocated itself, and keep .rela.dyn in the image";

pub(super) const DUPLICATE: &str = "\
nothing is lost: these functions are traced, once, under all of their names. The linker has folded equal functions into
one (--icf), and each had an entry";

pub(super) const NO_FUNCTION: &str = "\
they stay untraced. Most likely these are weak functions that others have overridden: their code and its entries stay behind
without a symbol, and nobody calls it. If they are many, symbols of static functions were removed: link without -x and
--discard-all, and strip nothing before `cargo fentry symbols`";

pub(super) const STRIPPED: &str = "\
give the image as it was before strip (and before -s, or Rust's strip = true): without symbols neither the callsite section
nor functions can be found. A stripped copy of it can still be booted";

pub(super) const DISCARDED: &str = "\
most likely the linker discarded their functions (--gc-sections, or copies of one in a COMDAT group) and kept the entries:
an entry for nothing is skipped. If all are zero, or functions are missing that should be there: KEEP the section by
examples/fentry.ld, without which --gc-sections takes the wrong ones";

pub(super) const DISCARDED_OR_NOT_RELOCATED: &str = "\
either the linker discarded their functions (--gc-sections, or copies of one in a COMDAT group): such entries are skipped;
or the relocations that should fill them in are not in the image: keep .rela.dyn";

pub(super) const COLLECTED: &str = "\
--gc-sections has dropped their entries. GCC before 13 ties all entries of an object to its first function, and with
-ffunction-sections they go where that one goes. Compile C with GCC 13 or Clang, or without -ffunction-sections, or link
without --gc-sections. KEEP helps with GNU ld only; lld drops what is tied to a dropped section all the same";

pub(super) const ASSEMBLY: &str = "\
most of them begin no input section, as functions in assembly do that have NOPs of their own: then all is well. If they are
C, link without --gc-sections, or compile with GCC 13 or Clang";

pub(super) const CONVENTION: &str = "\
they stay untraced: a callsite would change registers that their callers may keep. To leave the NOPs out:
  Rust:  #[patchable_function_entry(prefix_nops = 0, entry_nops = 0)]
  C:     __attribute__((patchable_function_entry(0)))";

pub(super) const FIXED_X18: &str = "\
callbacks are Rust, and one that runs between a callsite and its function may change x18: compile Rust with
-Zfixed-x18 (all of it: -Zbuild-std=core,alloc), or leave those functions out of every filter";

pub(super) const ENTRIES: &str = "\
only whole, unchanged inputs belong between __fentry_callsites_start and __fentry_callsites_stop: KEEP them there with
nothing else, 8-byte aligned";

pub(super) const PROFILES: &str = "\
they were compiled with other flags, or their entries were lost. Give the flags of the first step to both profiles (a
[profile] section has none; RUSTFLAGS in the environment replace those of .cargo/config.toml), -Zbuild-std to both, and
both to the C compiler; look whether --gc-sections or LTO are in one alone";
