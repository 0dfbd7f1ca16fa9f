//! What binutils say of objects and images, which is what the table is compared with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An entry of an object's callsite section, by the section's relocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The symbol of the function.
    pub(super) function: String,
    /// From the symbol to the entry's address: not zero where NOPs come before the function.
    pub(super) offset: i64,
    /// The function that the linker drops the entry with (SHF_LINK_ORDER).
    pub(super) tied_to: String,
}

/// What the objects have: their entries; and their functions, each with its object's file name.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    pub(super) entries: Vec<Entry>,
    pub(super) functions: BTreeMap<String, String>,
}

/// One member of an archive, or one object.
#[derive(Default)]
struct Object {
    name: String,
    /// By number: name, offset in the file, `sh_link` and `sh_info`.
    sections: BTreeMap<usize, (String, u64, usize, usize)>,
    /// The function of each section (there is one only), and its offset there.
    functions: BTreeMap<usize, (String, i64)>,
    /// The offset in the file of the section with the callsites' relocations that is being read.
    reading: Option<u64>,
    /// That of its section, the symbol or section that it names, and the addend.
    relocations: Vec<(u64, String, i64)>,
}

pub(super) fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// Reads objects and archives of them.
pub(super) fn objects(files: &[PathBuf]) -> Objects {
    let mut all = Objects::default();
    for file in files {
        let text = said(Command::new("aarch64-linux-gnu-readelf").args(["--wide", "-S", "-s", "-r"]).arg(file));
        let name =
            |line: &str| line.split_once('(').map_or(line, |(_, member)| member).trim_end_matches(')').to_owned();
        let mut object = Object { name: file.file_name().unwrap().display().to_string(), ..Object::default() };
        for line in text.lines() {
            match line.strip_prefix("File: ") {
                Some(file) => {
                    all.add(object);
                    object = Object { name: name(file), ..Object::default() };
                }
                None => object.read(line),
            }
        }
        all.add(object);
    }
    all
}

impl Object {
    fn read(&mut self, line: &str) {
        if let Some((number, rest)) = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let words: Vec<&str> = rest.split_whitespace().collect();
            if let (Ok(number), [name, _, _, offset, .., link, info, _]) = (number.trim().parse(), &words[..]) {
                let offset = hex(offset).unwrap_or(0);
                self.sections
                    .insert(number, ((*name).to_owned(), offset, link.parse().unwrap(), info.parse().unwrap()));
            }
        } else if let Some(rest) = line.strip_prefix("Relocation section '") {
            let offset = rest.strip_prefix(".rela__patchable_function_entries' at offset ");
            self.reading = offset.and_then(|rest| hex(rest.split(' ').next()?));
        } else if let (Some(section), true) = (self.reading, line.contains(" R_AARCH64_ABS64 ")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let addend = i64::try_from(hex(words[6]).unwrap()).unwrap();
            self.relocations.push((section, words[4].to_owned(), if words[5] == "-" { -addend } else { addend }));
        } else if line.contains(" FUNC ") {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [_, value, _, _, _, _, section, name] = words[..] {
                let value = i64::try_from(hex(value).unwrap()).unwrap();
                self.functions.extend(section.parse().ok().map(|section: usize| (section, (name.to_owned(), value))));
            }
        }
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        let numbered =
            |name: &str| self.sections.iter().find(|(_, section)| section.0 == name).map(|(number, _)| number);
        self.relocations.iter().map(move |(at, name, addend)| {
            let (.., of) = self.sections.values().find(|(_, offset, ..)| offset == at).unwrap();
            let (_, _, linked, _) = self.sections[of];
            let (function, start) = numbered(name).map_or((name.clone(), 0), |section| self.functions[section].clone());
            Entry { function, offset: addend - start, tied_to: self.functions[&linked].0.clone() }
        })
    }
}

impl Objects {
    fn add(&mut self, object: Object) {
        self.entries.extend(object.entries());
        self.functions.extend(object.functions.into_values().map(|(function, _)| (function, object.name.clone())));
    }

    /// What both have.
    pub(super) fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.entries.extend(other.entries.iter().cloned());
        both.functions.extend(other.functions.clone());
        both
    }
}

/// A segment that is loaded.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) addr: u64,
    pub(super) bytes_in_file: u64,
    pub(super) is_executable: bool,
}

/// What an image has.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    /// By name.
    pub(super) symbols: BTreeMap<String, u64>,
    pub(super) segments: Vec<Segment>,
    /// What its relocations write where (R_AARCH64_RELATIVE).
    pub(super) relative: BTreeMap<u64, u64>,
}

pub(super) fn image(file: &Path) -> Image {
    let text = said(Command::new("aarch64-linux-gnu-readelf").args(["--wide", "-l", "-r", "-s"]).arg(file));
    let mut image = Image::default();
    for line in text.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["LOAD", offset, addr, _, bytes, _, ref flags @ .., _] => {
                let [offset, addr, bytes_in_file] = [offset, addr, bytes].map(|number| hex(number).unwrap());
                let is_executable = flags.concat().contains('E');
                image.segments.push(Segment { offset, addr, bytes_in_file, is_executable });
            }
            [at, _, "R_AARCH64_RELATIVE", addend] => {
                image.relative.insert(hex(at).unwrap(), hex(addend).unwrap());
            }
            [number, addr, _, "FUNC" | "NOTYPE" | "OBJECT", _, _, section, name]
                if number.ends_with(':') && section != "UND" =>
            {
                image.symbols.insert(name.to_owned(), hex(addr).unwrap());
            }
            _ => {}
        }
    }
    image
}
