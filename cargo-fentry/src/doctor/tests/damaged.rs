//! Damaged images: whatever a file says, there is an error or a report, in bounded time and memory.
//!
//! The damage is drawn where a tool looks: fields of the headers, of symbols, of relocations and entries get values from the
//! edges of their ranges or from a neighbour. Each seed is one image, so that what is found can be had again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::heap::most_used;
use super::{BROKEN, GONE, GOOD, PADDED, PLAIN, UNTRACED, directory, link, object_file, sections};
use crate::damage::{Random, change_bytes, change_field, number, seconds_of_damage};
use crate::doctor::{examine, usual};
use crate::symbols::{object_file as table_of, read_image};

/// What one image of some kilobytes may cost, on a machine that does much else.
const MOST_TIME: Duration = Duration::from_secs(20);
const MOST_BYTES: usize = 16 << 20;

/// Whole images: plain; with a symbol table; position-independent, with each kind of relocations.
fn images() -> Vec<Vec<u8>> {
    let dir = directory("damaged");
    let (input, table) = (dir.join("input.o"), dir.join("symbols.o"));
    std::fs::write(&input, object_file(&[PLAIN, PADDED, BROKEN, UNTRACED, GONE])).unwrap();
    let script = sections(&format!("{GOOD} .rela.dyn : {{ *(.rela.dyn) }} .dynamic : {{ *(.dynamic) }}"));
    let inputs = std::slice::from_ref(&input);
    let plain = link(&dir, inputs, &sections(GOOD), &[]);
    std::fs::write(&table, table_of(&read_image(&plain).unwrap(), None).unwrap()).unwrap();
    let named = link(&dir, &[input.clone(), table], &sections(GOOD), &[]);
    let mut images = vec![plain, named];
    for args in [&["-pie"][..], &["-pie", "--pack-dyn-relocs=relr"], &["-pie", "-z", "rel"]] {
        images.push(link(&dir, inputs, &script, args));
    }
    std::fs::remove_dir_all(&dir).unwrap();
    images
}

/// Where a random record of a table is, by the fields of the file header that tell the table's place and length.
fn record(image: &[u8], place: usize, count: usize, bytes: usize, random: &mut Random) -> usize {
    let records = number(image, count, 2) as usize;
    (number(image, place, 8) as usize).saturating_add(bytes * random.below(records))
}

/// Changes a record of a table: any field of it, or one of eight bytes to the edge of a range, where sums overflow.
fn change_record(image: &mut [u8], at: usize, bytes: usize, random: &mut Random) {
    if random.below(2) == 0 {
        return change_field(image, at, bytes, random);
    }
    let field = at.saturating_add(random.below(bytes / 8) * 8);
    let edges = [0, u64::MAX, u64::MAX - 7, 1 << 63, i64::MAX.cast_unsigned(), 1 << 32, image.len() as u64];
    let edge = edges[random.below(edges.len())];
    if let Some(field) = image.get_mut(field..field.saturating_add(8)) {
        field.copy_from_slice(&edge.to_le_bytes());
    }
}

/// Damages up to five places of an image.
fn damage(image: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(5) {
        match random.below(16) {
            0 => image.truncate(random.below(image.len() + 1)),
            1 => change_bytes(image, random),
            2 => change_field(image, 0, 64, random),
            3..=5 => {
                let segment = record(image, 32, 56, 56, random);
                change_record(image, segment, 56, random);
            }
            6..=9 => {
                let section = record(image, 40, 60, 64, random);
                change_record(image, section, 64, random);
            }
            // Inside a section: symbols, relocations, entries, the symbol table, names.
            kind => {
                let section = record(image, 40, 60, 64, random);
                let field = |at| number(image, section.saturating_add(at), 8) as usize;
                let (start, bytes) = (field(24), field(32));
                if kind < 13 {
                    change_field(image, start, bytes, random);
                } else {
                    // Symbols and relocations with addends have 24 bytes.
                    let entry = start.saturating_add(24 * random.below(bytes / 24));
                    change_record(image, entry, 24, random);
                }
            }
        }
    }
}

/// The image of a seed; whether there was something to report, or what is wrong with us.
fn look_into(images: &[Vec<u8>], seed: u64) -> Result<bool, String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut image = images[random.below(images.len())].clone();
    damage(&mut image, &mut random);
    let started = Instant::now();
    let look = || {
        let report = examine(&image, &usual()).map(|report| report.to_string());
        let table = read_image(&image).and_then(|contents| table_of(&contents, None));
        report.is_ok() || table.is_ok()
    };
    let (result, bytes) = most_used(|| catch_unwind(AssertUnwindSafe(look)));
    let (took, result) = (started.elapsed(), result.map_err(|_| "it panics".to_owned())?);
    match (took > MOST_TIME, bytes > MOST_BYTES) {
        (true, _) => Err(format!("it takes {took:?}")),
        (_, true) => Err(format!("it takes {bytes} bytes")),
        _ => Ok(result),
    }
}

#[track_caller]
fn look_into_all(seeds: impl Iterator<Item = u64>) -> (usize, usize) {
    let images = images();
    let (mut reported, mut refused) = (0, 0);
    for seed in seeds {
        match look_into(&images, seed) {
            Ok(true) => reported += 1,
            Ok(false) => refused += 1,
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    (reported, refused)
}

#[test]
fn a_damaged_image_is_an_error_or_a_report() {
    let started = Instant::now();
    let (reported, refused) = match seconds_of_damage() {
        None => look_into_all(1..=1500),
        Some(limit) => look_into_all((1501..).take_while(|_| started.elapsed() < limit)),
    };
    // Or else nothing was damaged, or nothing looked into.
    assert!(reported > 300 && refused > 300, "{reported} reported, {refused} refused");
    if seconds_of_damage().is_some() {
        eprintln!("{reported} reported, {refused} refused");
    }
}
