//! The table, as a kernel reads it, against the states that it is made of and against compilers' own account of their frames.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use fentry::context::unwind::{
    Cfa, FpHolds, Piece, ReturnAddress, Row, TextSection, Unknown, Unplaced, UnwindTable, encode, encode_unplaced,
};
use gimli::{BaseAddresses, CfaRule, CieOrFde, EhFrame, LittleEndian, RegisterRule, UnwindContext, UnwindSection as _};

use super::Rows;
use crate::cfi::Cfi;
use crate::flow::{Flow, NoReturn};
use crate::image::tests::file::{File, TEXT};
use crate::image::tests::{Random, seconds_of_damage};
use crate::image::{Image, PLACED_AT};
use crate::program::Program;
use crate::proof::{DIES, source};

const NOP: u32 = 0xd503_201f;
const RET: u32 = 0xd65f_03c0;

/// Makes the table of a file, and looks at it.
fn with<T>(file: &[u8], look: impl FnOnce(&Flow<'_>, &Cfi, &Rows, &UnwindTable<'_>) -> T) -> T {
    let program = Program::new(Image::parse(file).unwrap());
    let flow = Flow::follow(&program, &NoReturn::parse(DIES));
    let cfi = Cfi::of(&flow);
    let rows = Rows::of(&flow, &cfi);
    let bytes = rows.encode(0).unwrap();
    look(&flow, &cfi, &rows, &UnwindTable::parse(&bytes).unwrap())
}

#[test]
fn a_frame_is_found_where_it_begins_and_where_it_ends() {
    let words = [
        0xa9be_7bfd, // stp x29, x30, [sp, #-32]!
        0x9100_03fd, // mov x29, sp
        NOP,         //
        0xa8c2_7bfd, // ldp x29, x30, [sp], #32
        RET,         //
        NOP,         // nothing leads here
    ];
    let file = File::linked(&words).function("f", 0, 6).write();
    with(&file, |_, _, rows, table| {
        assert_eq!((rows.functions(), table.pieces()), (1, 1));
        let at = |word: u64| table.row((TEXT + 4 * word).into());
        let outside = Row {
            cfa: Cfa::Sp(0),
            fp: FpHolds::Callers,
            saved_fp: None,
            return_address: ReturnAddress::Lr,
            is_signed: false,
        };
        let pushed = Row { cfa: Cfa::Sp(32), saved_fp: Some(32), return_address: ReturnAddress::Saved(24), ..outside };
        let inside = Row { fp: FpHolds::Frame(32), ..pushed };
        let expected = [Ok(outside), Ok(pushed), Ok(inside), Ok(inside), Ok(outside), Err(Unknown::NotReached)];
        assert_eq!(std::array::from_fn(|word| at(word as u64)), expected);
        assert_eq!((at(6), table.row((TEXT - 4).into())), (Err(Unknown::NoText), Err(Unknown::NoText)));
    });
}

#[test]
fn nobody_has_called_the_first_code_nor_an_exception_s() {
    let words = [
        0xd280_001d, // start: mov x29, #0
        0x9400_0003, // bl f
        0x1400_0000, // b .
        NOP,         //
        0xd280_001d, // f: mov x29, #0, for its own purposes
        RET,         //
        0x1400_0001, // vector: b save
        0xa9bf_7bfd, // save: stp x29, x30, [sp, #-16]!
        0xa8c1_7bfd, // ldp x29, x30, [sp], #16
        0xd69f_03e0, // eret
    ];
    let file = File::linked(&words).function("start", 0, 3).function("f", 4, 6);
    let file = file.function("vector", 6, 7).function("save", 7, 10).write();
    with(&file, |_, _, _, table| {
        let at = |word: u64| table.row((TEXT + 4 * word).into());
        assert_eq!((at(1), at(2)), (Ok(Row::END), Ok(Row::END)));
        assert_eq!(at(5).map(|row| row.fp), Ok(FpHolds::Other));
        assert_eq!(std::array::from_fn(|word| at(6 + word as u64)), [Err(Unknown::Exception); 4]);
    });
}

#[test]
fn an_objects_jump_to_a_handler_is_found_by_its_relocation() {
    // b . and eret, with R_AARCH64_JUMP26 (282) to the second one.
    let file = File::object(&[0x1400_0000, 0xd69f_03e0]).function("vector", 0, 1).function("handler", 1, 2);
    with(&file.relocate(0, 282, 2, 0).write(), |_, _, _, table| {
        let rows = [0, 4].map(|bytes| table.row((PLACED_AT + bytes).into()));
        assert_eq!(rows, [Err(Unknown::Exception); 2]);
    });
}

#[test]
fn functions_that_look_the_same_share_their_list() {
    let function = [0xa9be_7bfd, 0x9100_03fd, 0xa8c2_7bfd, RET];
    let mut file = File::linked(&function.repeat(300));
    for number in 0..300 {
        file = file.function(format!("f{number}").leak(), 4 * number, 4 * number + 4);
    }
    with(&file.write(), |_, _, rows, table| {
        assert_eq!((rows.functions(), table.pieces(), table.rows()), (300, 300, 3));
        // Three bytes each, four for each KiB of text, and the rest once.
        assert!(rows.encode(0).unwrap().len() < 300 * 3 + 5 * 4 + 100);
    });
}

/// Each address in and around a table's text has a row or a reason, whatever the table says.
fn look_up(table: &UnwindTable<'_>, random: &mut Random) {
    let text = table.text();
    let some = (0..64).map(|_| text.start.get().wrapping_add(random.below(text.len() as usize + 64) as u64));
    for address in some.chain([0, u64::MAX, text.start.get().wrapping_sub(4), text.end.get()]) {
        let _ = table.row(address.into()).map(|row| row.to_string());
    }
}

#[test]
fn damaged_tables_are_refused_or_read_and_nothing_panics() {
    // Functions with frames of all sizes, in two sections; a long one, whose list is wide; text of several blocks.
    let words: Vec<u32> =
        (0..120).flat_map(|size| [0xa9b8_7bfd + ((size % 8) << 15), 0x9100_03fd, NOP, 0xa8c8_7bfd, RET]).collect();
    let mut file = File::linked(&words);
    for number in 0..120 {
        file = file.function(format!("f{number}").leak(), 5 * number, 5 * number + 5);
    }
    let table = with(&file.write(), |_, _, rows, _| rows.encode(0).unwrap());
    let row = |frame: u32| Row {
        cfa: Cfa::Sp(16 * frame),
        fp: FpHolds::Callers,
        saved_fp: None,
        return_address: ReturnAddress::Lr,
        is_signed: false,
    };
    let piece = |start: u64, step: u32| Piece { start, rows: (0..300).map(|at| (at * step, Ok(row(at)))).collect() };
    let pieces: Vec<Piece> = (0..12).map(|number| piece(TEXT + 100_000 * number, 1 + 7 * number as u32)).collect();
    let end = TEXT + 1_200_000;
    let large = encode(&pieces, end, 0).unwrap();
    let sections =
        pieces.into_iter().zip(1..).map(|(piece, at)| TextSection { pieces: vec![piece], end: TEXT + 100_000 * at });
    let unplaced = encode_unplaced(&sections.collect::<Vec<_>>()).unwrap();

    let mut random = Random(1);
    // A whole number, or a bit of one: most numbers are wrong as soon as they are others.
    let damage = |bytes: &mut [u8], random: &mut Random| match random.below(2) {
        0 => random.damage(bytes),
        _ => bytes[random.below(bytes.len())] ^= 1 << random.below(8),
    };
    let (limit, started) = (seconds_of_damage(), std::time::Instant::now());
    let (mut rounds, mut read) = (0, 0);
    while limit.map_or(rounds < 20_000, |limit| started.elapsed() < limit) {
        rounds += 1;
        if random.below(3) == 0 {
            let mut damaged = unplaced.clone();
            damage(&mut damaged, &mut random);
            let Ok(unplaced) = Unplaced::parse(&damaged) else { continue };
            let mut addresses: Vec<u64> = (0..unplaced.sections() as u64).map(|at| TEXT + 100_000 * at).collect();
            if let (0, false) = (random.below(3), addresses.is_empty()) {
                let at = random.below(addresses.len());
                addresses[at] = random.below(usize::MAX) as u64;
            }
            let Ok(placed) = unplaced.place(addresses) else { continue };
            look_up(&UnwindTable::parse(&placed).unwrap(), &mut random);
        } else {
            let mut damaged = if random.below(2) == 0 { table.clone() } else { large.clone() };
            damage(&mut damaged, &mut random);
            let Ok(table) = UnwindTable::parse(&damaged) else { continue };
            look_up(&table, &mut random);
        }
        read += 1;
    }
    // Or else nothing was damaged, or nothing looked into.
    assert!(rounds / 20 < read && read < rounds, "{read} of {rounds}");
}

/// What a compiler says of an instruction that the table has a row for, and which of it does not hold by that.
fn disagreement(row: &Row, theirs: &gimli::UnwindTableRow<usize>) -> Option<&'static str> {
    let cfa = match *theirs.cfa() {
        CfaRule::RegisterAndOffset { register: gimli::Register(31), offset } => {
            matches!(row.cfa, Cfa::Sp(bytes) if i64::from(bytes) == offset)
        }
        CfaRule::RegisterAndOffset { register: gimli::Register(29), offset } => {
            matches!(row.fp, FpHolds::Frame(below) if i64::from(below) == offset)
        }
        _ => false,
    };
    let is_at = |rule: RegisterRule<usize>, below: u32| rule == RegisterRule::Offset(-i64::from(below));
    let is_kept = |rule: &RegisterRule<usize>| matches!(rule, RegisterRule::Undefined | RegisterRule::SameValue);
    let lr = theirs.register(gimli::Register(30));
    let return_address = match row.return_address {
        // Still in x30, which they say until it is said to be on the stack, one instruction later or more.
        ReturnAddress::Saved(below) => is_at(lr.clone(), below) || is_kept(&lr),
        ReturnAddress::Lr => is_kept(&lr),
        ReturnAddress::Register(number) => lr == RegisterRule::Register(gimli::Register(number.into())),
    };
    let fp = theirs.register(gimli::Register(29));
    let caller_fp = match row.saved_fp {
        Some(below) => is_at(fp.clone(), below) || is_kept(&fp),
        None => is_kept(&fp),
    };
    match (cfa, return_address, caller_fp) {
        (false, ..) => Some("the CFA"),
        (_, false, _) => Some("the return address"),
        (.., false) => Some("the caller's x29"),
        _ => None,
    }
}

/// Compiles a made-up program in each of these ways, and compares each instruction of the table with the compiler's rows.
/// Returns how many were compared, and how many do not agree: where compilers contradict themselves, which the proof of the
/// states looks into one by one.
fn compile_and_compare(compiler: &str, target: &[&str], ways: &[&[&str]]) -> (usize, usize) {
    let folder = std::env::temp_dir().join(format!("fentry-unwind-{compiler}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (mut compared, mut differ) = (0, 0);
    for (number, way) in ways.iter().enumerate() {
        let (input, output): (PathBuf, PathBuf) = (folder.join("made-up.c"), folder.join("made-up.o"));
        fs::write(&input, source(number as u64, 30, false)).unwrap();
        let mut command = Command::new(compiler);
        command.args(target).args(["-w", "-c", "-fasynchronous-unwind-tables", "-mgeneral-regs-only"]);
        let ran = command.args(*way).arg(&input).arg("-o").arg(&output).output().unwrap();
        assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
        with(&fs::read(&output).unwrap(), |flow, cfi, _, table| {
            let program = flow.program();
            let differs = Rows::differs_at(flow, cfi, table);
            assert_eq!(differs.map(|id| program.place(id).to_string()), None);
            let Some(section) = program.image().section_named(".eh_frame") else { return };
            let mut bytes = section.bytes.to_vec();
            for relocation in program.image().relocations_in(section.range.start, section.range.end) {
                let at = (relocation.at - section.range.start) as usize;
                if let Some(value) = program.image().number_at(relocation.at, 4) {
                    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes()[..4]);
                }
            }
            let bases = BaseAddresses::default().set_eh_frame(section.range.start);
            let mut frames = EhFrame::new(&bytes, LittleEndian);
            frames.set_vendor(gimli::Vendor::AArch64);
            let (mut context, mut entries) = (UnwindContext::new(), frames.entries(&bases));
            while let Some(entry) = entries.next().unwrap() {
                let CieOrFde::Fde(partial) = entry else { continue };
                let fde = partial.parse(EhFrame::cie_from_offset).unwrap();
                let mut theirs = fde.rows(&frames, &bases, &mut context).unwrap();
                while let Some(theirs) = theirs.next_row().unwrap() {
                    for address in (theirs.start_address()..theirs.end_address()).step_by(4) {
                        let Ok(row) = table.row(address.into()) else { continue };
                        compared += 1;
                        differ += usize::from(disagreement(&row, theirs).is_some());
                    }
                }
            }
        });
    }
    drop(fs::remove_dir_all(&folder));
    (compared, differ)
}

const WAYS: [&[&str]; 4] = [
    &["-O0", "-fno-omit-frame-pointer"],
    &["-O2", "-fno-omit-frame-pointer", "-fpatchable-function-entry=2"],
    &["-Os", "-fno-omit-frame-pointer", "-mbranch-protection=standard"],
    &["-O3", "-fno-omit-frame-pointer", "-fpatchable-function-entry=4,2"],
];

/// Says, past the harness, that a test could not do its work.
fn leave_out(why: &str) {
    use std::io::Write as _;
    let test = std::thread::current();
    let line = format!("LEFT OUT: {}: {why}\n", test.name().unwrap_or_default());
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|ran| ran.status.success())
}

#[test]
fn rows_agree_with_gccs_frames() {
    if !runs("aarch64-linux-gnu-gcc") {
        return leave_out("aarch64-linux-gnu-gcc is not installed");
    }
    let (compared, differ) = compile_and_compare("aarch64-linux-gnu-gcc", &[], &WAYS);
    println!("{compared} instructions compared, {differ} differ");
    assert!(compared > 20_000 && differ * 500 < compared, "{compared} {differ}");
}

#[test]
fn rows_agree_with_clangs_frames() {
    let Some(clang) = ["clang", "clang-19"].into_iter().find(|clang| runs(clang)) else {
        return leave_out("clang is not installed");
    };
    let (compared, differ) = compile_and_compare(clang, &["--target=aarch64-linux-gnu"], &WAYS);
    println!("{compared} instructions compared, {differ} differ");
    assert!(compared > 20_000 && differ * 500 < compared, "{compared} {differ}");
}
