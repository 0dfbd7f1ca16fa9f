pub(crate) mod file;

use file::{File, TEXT};

use super::{Image, ImageError, PLACED_AT, Pointer, Target};
use crate::{Cfi, Flow, NoReturn, Program};

const NOP: u32 = 0xd503_201f;
const RET: u32 = 0xd65f_03c0;

fn refused(file: &[u8]) -> ImageError {
    Image::parse(file).unwrap_err()
}

#[test]
fn what_is_no_image_for_arm64_is_refused_by_what_it_is() {
    let good = File::linked(&[RET]).function("f", 0, 1).write();
    assert!(Image::parse(&good).is_ok());
    assert_eq!(refused(b""), ImageError::NotElf);
    assert_eq!(refused(b"MZ and so on"), ImageError::NotElf);
    let put = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        refused(&bad)
    };
    assert_eq!(put(4, 1), ImageError::NotElf64Little);
    assert_eq!(put(5, 2), ImageError::NotElf64Little);
    assert_eq!(put(18, 62), ImageError::OtherMachine { machine: 62 });
    assert_eq!(put(16, 4), ImageError::OtherKind { kind: 4 });
    assert_eq!(refused(&File::linked(&[RET]).write()), ImageError::Stripped);
    let mut data_only = File::linked(&[RET]).function("f", 0, 1);
    data_only.sections[0].flags = 2;
    assert_eq!(refused(&data_only.write()), ImageError::NoText);
}

#[test]
fn what_contradicts_itself_is_refused_by_name_and_address() {
    let mut overlapping = File::linked(&[RET; 80]).rodata(&[0; 8]).function("f", 0, 1);
    let (first, second) = (".text".to_owned(), ".rodata".to_owned());
    assert_eq!(refused(&overlapping.write()), ImageError::Overlap { first, second, address: 0x1100 });
    overlapping.sections[1].address = u64::MAX - 3;
    assert_eq!(refused(&overlapping.write()), ImageError::TooLarge { section: ".rodata".to_owned() });

    let outside = File::linked(&[RET]).function("f", 0, 2).write();
    let (name, section) = ("f".to_owned(), ".text".to_owned());
    assert_eq!(refused(&outside), ImageError::SymbolOutside { name: name.clone(), address: TEXT, size: 8, section });
    let inside_insn = File::linked(&[RET, RET]).symbol("f", 2, 2, 4).write();
    assert_eq!(refused(&inside_insn), ImageError::SymbolMisaligned { name, address: TEXT + 2 });
    let mut misaligned = File::linked(&[RET]).function("f", 0, 1);
    misaligned.sections[0].address += 2;
    assert!(matches!(refused(&misaligned.write()), ImageError::Misaligned { address: 0x1002, .. }));

    let mut nowhere = File::linked(&[RET]).function("f", 0, 1);
    nowhere.entry = TEXT + 4;
    assert_eq!(refused(&nowhere.write()), ImageError::EntryNowhere { address: TEXT + 4 });
    nowhere.entry = TEXT;
    assert!(Image::parse(&nowhere.write()).is_ok());

    let object = File::object(&[RET]).function("f", 0, 1);
    let outside = object.clone().relocate(1, 283, 1, 0).write();
    assert!(matches!(refused(&outside), ImageError::RelocationOutside { number: 0, offset: 4, .. }));
    let unknown = object.relocate(0, 283, 7, 0).write();
    assert!(matches!(refused(&unknown), ImageError::RelocationSymbol { number: 0, symbol: 7, .. }));
}

#[test]
fn sections_of_an_object_get_addresses_and_relocations_are_by_those() {
    // R_AARCH64_CALL26 (283) by a symbol of another file, and R_AARCH64_ABS64 (257) by f.
    let file = File::object(&[0x9400_0000, RET, 0, 0])
        .function("f", 1, 2)
        .external("other")
        .relocate(0, 283, 2, 0)
        .relocate(2, 257, 1, 4)
        .write();
    let image = Image::parse(&file).unwrap();
    let text = image.section_named(".text").unwrap();
    assert_eq!((text.range.start, text.is_executable), (PLACED_AT, true));
    assert_eq!(image.relocation_at(PLACED_AT).unwrap().target, Target::External("other"));
    assert_eq!(image.relocation_at(PLACED_AT + 4), None);
    assert_eq!(image.pointer_at(PLACED_AT + 8), Some(Pointer::Address(PLACED_AT + 8)));
    assert_eq!(image.number_at(PLACED_AT + 4, 4), Some(RET.into()));
    assert_eq!(image.number_at(PLACED_AT + 14, 4), None);
}

#[test]
fn relocations_whose_symbols_were_thrown_away_are_left_out() {
    // R_AARCH64_RELATIVE (1027), and R_AARCH64_ABS64 (257) by the third symbol, of a table that is not there.
    let file = File::linked(&[RET, 0, 0, 0, 0]).function("f", 0, 1).relocate(2, 257, 3, 0).relocate(4, 1027, 0, 8);
    let mut bytes = file.write();
    // The last section: no symbols (sh_link), and for all of the image (sh_info), as Linux links its .rela.dyn.
    let at = bytes.len() - 64;
    bytes[at + 40..at + 48].fill(0);
    let image = Image::parse(&bytes).unwrap();
    let kinds: Vec<u32> = image.relocations().iter().map(|relocation| relocation.kind).collect();
    assert_eq!(kinds, [1027]);
}

/// Xorshift64*: repeats from its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound.max(1) as u64) as usize
    }
}

impl Random {
    /// Overwrites a few numbers of up to eight bytes.
    pub(crate) fn damage(&mut self, file: &mut [u8]) {
        for _ in 0..=self.below(4) {
            let (at, width) = (self.below(file.len()), 1 << self.below(4));
            let value = match self.below(6) {
                0 => 0,
                1 => u64::MAX,
                2 => 1 << self.below(64),
                3 => self.below(64) as u64,
                4 => file.len() as u64,
                _ => self.below(usize::MAX) as u64,
            };
            let at = at / width * width;
            if let Some(field) = file.get_mut(at..at + width) {
                field.copy_from_slice(&value.to_le_bytes()[..width]);
            }
        }
    }
}

/// How long damaged files are tried, where `FENTRY_DAMAGE_SECONDS` says so, instead of for the usual rounds.
pub(crate) fn seconds_of_damage() -> Option<std::time::Duration> {
    std::env::var("FENTRY_DAMAGE_SECONDS").ok()?.parse().ok().map(std::time::Duration::from_secs)
}

#[test]
fn damaged_files_are_refused_or_read_and_nothing_panics() {
    let table =
        [0x7100_081f, 0x5400_00e8, 0x9000_0009, 0x9104_0129, 0x2a00_03e8, 0x1000_008a, 0x3868_692b, 0x8b0b_094a];
    let words: Vec<u32> = table.into_iter().chain([0xd61f_0140, NOP, RET, 0xa9bf_7bfd, RET]).collect();
    let linked = File::linked(&words).rodata(&[0, 1, 2]).function("f", 0, 12).function("g", 12, 13).write();
    let object = File::object(&words).function("f", 0, 12).external("other").relocate(9, 283, 2, 0).write();
    let look = |file: &[u8]| {
        let Ok(image) = Image::parse(file) else { return };
        let program = Program::new(image);
        let flow = Flow::follow(&program, &NoReturn::default());
        let cfi = Cfi::of(&flow);
        for function in program.functions() {
            let graph = flow.graph(function);
            for id in program.of_function(function) {
                let _ = (cfi.state(id).map(ToString::to_string), graph.path_to(id), program.place(id).to_string());
            }
        }
    };
    for file in [&linked, &object] {
        (0..file.len()).for_each(|len| look(&file[..len]));
    }
    let mut random = Random(1);
    let (limit, started) = (seconds_of_damage(), std::time::Instant::now());
    let mut rounds = 0;
    while limit.map_or(rounds < 20_000, |limit| started.elapsed() < limit) {
        rounds += 1;
        let mut file = if random.below(2) == 0 { linked.clone() } else { object.clone() };
        random.damage(&mut file);
        look(&file);
    }
}
