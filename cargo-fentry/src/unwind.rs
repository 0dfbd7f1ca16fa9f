//! The kernel's unwind table, made of a linked image: as an object file to link, or filled in where the image has room.
//!
//! `cargo fentry verify` makes it, since it has followed every function anyway.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use fentry::context::unwind::{UnwindTable as Table, UnwindTableError};
use fentry_verify::table::{Rows, Sizes};
use fentry_verify::{Cfi, Flow, Image, NoReturn, Program};
use object::{Object, ObjectSymbol};

use crate::image;
use crate::kept::{Filling, Kept, Tables};

/// Fills in the unwind table of an image that was linked with room for one. Returns whether it was.
///
/// # Errors
///
/// There is too little room, or the image can't be followed.
pub fn fill_in(path: &Path) -> Result<bool> {
    let table = table_for_room(path)?;
    // The file is no longer in use.
    table.map_or(Ok(false), |table| table.fill(path).map(|()| true))
}

fn table_for_room(path: &Path) -> Result<Option<UnwindTable>> {
    let data = image::map(path)?;
    let parsed = image::parse(&data)?;
    let address = |name: &str| parsed.symbol_by_name(name).map(|symbol| symbol.address());
    let kept = Kept::unwind();
    if address(&kept.start) == address(&kept.stop) {
        return Ok(None);
    }
    let program = Program::new(Image::parse(&data).with_context(|| format!("cannot follow {}", path.display()))?);
    let flow = Flow::follow(&program, &NoReturn::default());
    UnwindTable::of(&flow, &Cfi::of(&flow), &data, true).map(Some)
}

/// An image's unwind table. `Display` says how large it is, beside other forms of the same.
#[derive(Debug)]
pub struct UnwindTable {
    table: Vec<u8>,
    functions: usize,
    sizes: Sizes,
    /// Whether the linker script has a place for it.
    has_place: bool,
    filling: Option<Filling>,
}

impl UnwindTable {
    /// The table of a linked image, which was read from this file; for its own room, where it has one to fill.
    ///
    /// # Errors
    ///
    /// It is no linked image, or has no function, or, for its room, no room or too little.
    pub fn of(flow: &Flow<'_>, cfi: &Cfi, data: &[u8], in_place: bool) -> Result<Self> {
        ensure!(
            !flow.program().image().is_relocatable(),
            "an unwind table is made of a linked image: the addresses of a relocatable object are not known yet"
        );
        let rows = Rows::of(flow, cfi);
        ensure!(rows.functions() != 0, "there are no symbols of functions: give the image as it was before strip");
        let kept = Kept::unwind();
        let image = image::parse(data)?;
        let address = |name: &str| image.symbol_by_name(name).filter(|symbol| !symbol.is_undefined());
        let place = address(&kept.start).filter(|_| address(&kept.stop).is_some()).map(|symbol| symbol.address());
        let table = rows.encode(place.unwrap_or(0))?;
        if let Some(id) = Rows::differs_at(flow, cfi, &Table::parse(&table)?) {
            bail!("the table does not say what was found at {}: a defect of this tool", flow.program().place(id));
        }
        let is_empty_or_ours = |old: &[u8]| match Table::in_room(old) {
            Ok(_) | Err(UnwindTableError::Absent) => Ok(()),
            Err(error) => Err(error.into()),
        };
        let filling = in_place.then(|| {
            let what = Tables { name: "unwind table", room: "__fentry_unwind_room" };
            Filling::of(data, &kept, what, |_| Ok(table.clone()), is_empty_or_ours)
        });
        let filling = filling.transpose()?;
        Ok(Self { table, functions: rows.functions(), sizes: rows.sizes(), has_place: place.is_some(), filling })
    }

    /// The table as an object file to link.
    ///
    /// # Errors
    ///
    /// There is no memory for it.
    pub fn object_file(&self) -> Result<Vec<u8>> {
        Kept::unwind().object_of(&self.table)
    }

    /// Writes the object file.
    pub(crate) fn write(&self, output: &Path) -> Result<()> {
        std::fs::write(output, self.object_file()?).with_context(|| format!("cannot write {}", output.display()))
    }

    /// Writes it into the image's own room.
    pub(crate) fn fill(&self, image: &Path) -> Result<()> {
        match &self.filling {
            Some(filling) => filling.write(image),
            None => bail!("the table was not made for the room of {}", image.display()),
        }
    }
}

impl fmt::Display for UnwindTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, functions, sizes, has_place, .. } = self;
        let each = table.len() as f64 / (*functions).max(1) as f64;
        writeln!(f, "unwind table  {} bytes, {each:.1} a function; the same rows in {sizes}", table.len())?;
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
