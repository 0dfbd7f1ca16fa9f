//! What the GNU property note says of the whole file (AAELF64, "Program property").

use super::Image;

/// The section of the note.
const SECTION: &str = ".note.gnu.property";
/// NT_GNU_PROPERTY_TYPE_0.
const TYPE_0: u32 = 5;
/// GNU_PROPERTY_AARCH64_FEATURE_1_AND.
const FEATURE_1_AND: u32 = 0xc000_0000;
/// GNU_PROPERTY_AARCH64_FEATURE_1_BTI.
const FEATURE_1_BTI: u32 = 1;

impl Image<'_> {
    /// Whether the file says that every place in it to which an indirect branch goes has a landing pad.
    pub fn is_marked_bti(&self) -> bool {
        let notes = self.sections().iter().filter(|section| section.name == SECTION);
        notes.filter_map(|section| feature_1_and(section.bytes)).any(|features| features & FEATURE_1_BTI != 0)
    }
}

/// The property's word, in the first note of that type.
fn feature_1_and(mut notes: &[u8]) -> Option<u32> {
    loop {
        let [name_len, descriptor_len, kind] = [0, 4, 8].map(|at| word(notes, at));
        let (name_len, descriptor_len) = (name_len? as usize, descriptor_len? as usize);
        let name_end = 12_usize.checked_add(name_len.checked_next_multiple_of(4)?)?;
        let end = name_end.checked_add(descriptor_len)?;
        let descriptor = notes.get(name_end..end)?;
        if kind? == TYPE_0 && notes.get(12..16) == Some(b"GNU\0") {
            return property(descriptor);
        }
        notes = notes.get(end.checked_next_multiple_of(8)?..)?;
    }
}

fn property(mut properties: &[u8]) -> Option<u32> {
    loop {
        let (kind, len) = (word(properties, 0)?, word(properties, 4)? as usize);
        if kind == FEATURE_1_AND {
            return word(properties, 8);
        }
        properties = properties.get(8_usize.checked_add(len.checked_next_multiple_of(8)?)?..)?;
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}
