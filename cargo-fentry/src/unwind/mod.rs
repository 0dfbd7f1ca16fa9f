//! The kernel's unwind table, made of a linked image: as an object file to link, or filled in where the image has room; and a
//! module's, put into the object.
//!
//! `cargo fentry symbols --unwind` makes it beside the symbol table, and `cargo fentry verify` since it has followed every
//! function anyway.

mod module;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use fentry::context::unwind::{BASE_AT, UnwindTable as Table, UnwindTableError};
use fentry_verify::image::Symbol;
use fentry_verify::table::Rows;
use fentry_verify::{Cfi, Flow, NoReturn, Program};

pub use module::ModuleTable;

use crate::image;
use crate::kept::{Distance, Filling, Kept, Tables, ToLink, object_of};

/// An image's unwind table. `Display` says how large it is, beside other forms of the same.
#[derive(Clone, Debug)]
pub struct UnwindTable {
    rows: Rows,
    /// For an object file: the linker writes where it is.
    table: Vec<u8>,
    /// Where the text begins, for the linker; `None` where no symbol that it knows is in the text.
    text: Option<Distance>,
    /// Whether the linker script has a place for it.
    has_place: bool,
}

impl UnwindTable {
    /// The table of a linked image.
    ///
    /// # Errors
    ///
    /// The file can't be read, is no linked image, or has no function.
    pub fn of_image(path: &Path) -> Result<Self> {
        let data = image::map(path)?;
        let cannot = || format!("cannot follow {}", path.display());
        if !data.starts_with(b"\x7fELF") {
            bail!(image::what_else(&data));
        }
        let program = Program::new(fentry_verify::Image::parse(&data).with_context(cannot)?);
        let flow = Flow::follow(&program, &NoReturn::default());
        Self::of(&flow, &Cfi::of(&flow)).with_context(cannot)
    }

    /// The table of a linked image that was followed.
    ///
    /// # Errors
    ///
    /// It is no linked image, or has no function.
    pub fn of(flow: &Flow<'_>, cfi: &Cfi) -> Result<Self> {
        let linked = flow.program().image();
        ensure!(
            !linked.is_relocatable(),
            "an unwind table to link is made of a linked image: a module's is put into the object, by --unwind-in-place"
        );
        let rows = Rows::of(flow, cfi);
        ensure!(rows.functions() != 0, "there are no symbols of functions: give the image as it was before strip");
        let table = rows.encode(0)?;
        let read = Table::parse(&table)?;
        if let Some(id) = Rows::differs_at(flow, cfi, &read) {
            bail!("the table does not say what was found at {}: a defect of this tool", flow.program().place(id));
        }
        let kept = Kept::unwind();
        let has_place = linked.between((&kept.start, &kept.stop)).is_some();
        let text = known_symbol(linked).map(|symbol| Distance {
            at: BASE_AT as u64,
            symbol: symbol.name.to_owned(),
            behind: read.text().start.get().wrapping_sub(symbol.address).cast_signed(),
        });
        Ok(Self { rows, table, text, has_place })
    }

    /// Fills in the room that an image has for its table; writes nothing yet.
    ///
    /// # Errors
    ///
    /// It has no room, or too little; the error says how much is needed.
    pub(crate) fn filling(&self, image: &Path) -> Result<Filling> {
        let is_empty_or_ours = |old: &[u8]| match Table::in_room(old, 0) {
            Ok(_) | Err(UnwindTableError::Absent) => Ok(()),
            Err(error) => Err(error.into()),
        };
        let what = Tables { name: "unwind table", room: "__fentry_unwind_room" };
        let make = |at| Ok(self.rows.encode(at)?);
        let filling = Filling::of(&image::map(image)?, &Kept::unwind(), what, make, is_empty_or_ours);
        filling.with_context(|| format!("cannot fill {}", image.display()))
    }

    /// Writes it into an image's own room.
    ///
    /// # Errors
    ///
    /// The image has no room, or too little, or can't be written.
    pub fn fill(&self, image: &Path) -> Result<()> {
        self.filling(image)?.write(image)
    }

    /// The table as an object file to link.
    ///
    /// # Errors
    ///
    /// There is no symbol by which the linker could find the text.
    pub fn object_file(&self) -> Result<Vec<u8>> {
        object_of(&[self.to_link(&Kept::unwind())?])
    }

    /// The table, for an object file to link.
    pub(crate) fn to_link<'a>(&'a self, kept: &'a Kept) -> Result<ToLink<'a>> {
        let text = self.text.as_ref();
        text.context("no global symbol is in the text: the linker could not find it")?;
        Ok(ToLink { kept, table: &self.table, distance: text })
    }

    /// Writes the object file.
    pub(crate) fn write(&self, output: &Path) -> Result<()> {
        std::fs::write(output, self.object_file()?).with_context(|| format!("cannot write {}", output.display()))
    }
}

impl fmt::Display for UnwindTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, table, has_place, .. } = self;
        let each = table.len() as f64 / rows.functions().max(1) as f64;
        writeln!(f, "unwind table  {} bytes, {each:.1} a function; the same rows in {}", table.len(), rows.sizes())?;
        if !has_place {
            let Kept { start, stop, .. } = Kept::unwind();
            writeln!(
                f,
                "note: the image does not define {start} and {stop}; see examples/fentry.ld for the linker fragment"
            )?;
        }
        Ok(())
    }
}

/// A symbol of the text that the linker knows: the linker script's own, if that is examples/fentry.ld or like it.
fn known_symbol<'a>(image: &'a fentry_verify::Image<'_>) -> Option<&'a Symbol<'a>> {
    let is_in_text = |symbol: &&Symbol<'_>| {
        symbol.is_global && image.section_at(symbol.address).is_some_and(|section| section.is_executable)
    };
    let mut known = image.symbols().iter().filter(is_in_text);
    known.clone().find(|symbol| symbol.name == "__fentry_text_start").or_else(|| known.next())
}
