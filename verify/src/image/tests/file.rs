//! Small ELF files, written byte by byte, so that tests can make what no linker would.

/// A file that is being made. Everything is public, to be put wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    pub(crate) is_relocatable: bool,
    pub(crate) entry: u64,
    pub(crate) sections: Vec<Section>,
    pub(crate) symbols: Vec<Symbol>,
    pub(crate) relocations: Vec<Relocation>,
}

#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) address: u64,
    pub(crate) flags: u64,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbol {
    pub(crate) name: &'static str,
    /// STT_FUNC, ...; global.
    pub(crate) kind: u8,
    /// Counted from 1; 0 is undefined.
    pub(crate) section: u16,
    pub(crate) value: u64,
    pub(crate) size: u64,
}

/// Of the first section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relocation {
    pub(crate) offset: u64,
    pub(crate) kind: u32,
    /// Counted from 1.
    pub(crate) symbol: u32,
    pub(crate) addend: i64,
}

/// Where [`File::linked`] has `.text`, and `.rodata`, on the same page.
pub(crate) const TEXT: u64 = 0x1000;
pub(crate) const RODATA: u64 = 0x1100;

const ALLOC: u64 = 2;
const EXEC: u64 = 4;
const HEADER: usize = 64;
const FUNC: u8 = 2;

impl File {
    /// A linked image of these instructions.
    pub(crate) fn linked(words: &[u32]) -> Self {
        let text = Section { name: ".text", address: TEXT, flags: ALLOC | EXEC, bytes: bytes_of(words) };
        Self { sections: vec![text], ..Self::default() }
    }

    /// A relocatable object of these instructions.
    pub(crate) fn object(words: &[u32]) -> Self {
        let mut file = Self::linked(words);
        file.is_relocatable = true;
        file.sections[0].address = 0;
        file
    }

    /// Adds data at [`RODATA`], or anywhere in an object.
    pub(crate) fn rodata(mut self, bytes: &[u8]) -> Self {
        let address = if self.is_relocatable { 0 } else { RODATA };
        self.sections.push(Section { name: ".rodata", address, flags: ALLOC, bytes: bytes.to_vec() });
        self
    }

    /// Adds a function, by the numbers of its first instruction and of the one behind it.
    pub(crate) fn function(self, name: &'static str, from: u64, to: u64) -> Self {
        self.symbol(name, FUNC, 4 * from, 4 * (to - from))
    }

    /// Adds a symbol of the first section.
    pub(crate) fn symbol(mut self, name: &'static str, kind: u8, offset: u64, size: u64) -> Self {
        let value = self.sections[0].address + offset;
        self.symbols.push(Symbol { name, kind, section: 1, value, size });
        self
    }

    /// Adds a symbol of another file.
    pub(crate) fn external(mut self, name: &'static str) -> Self {
        self.symbols.push(Symbol { name, kind: 0, section: 0, value: 0, size: 0 });
        self
    }

    /// Adds a relocation of an instruction, by a symbol counted from 1.
    pub(crate) fn relocate(mut self, insn: u64, kind: u32, symbol: u32, addend: i64) -> Self {
        self.relocations.push(Relocation { offset: 4 * insn, kind, symbol, addend });
        self
    }

    /// The file.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut strings = vec![0_u8];
        let mut string = |text: &str| {
            let at = strings.len() as u32;
            strings.extend(text.as_bytes());
            strings.push(0);
            at
        };
        let mut out = vec![0_u8; HEADER];
        let mut headers = vec![[0_u8; HEADER]];
        for section in &self.sections {
            let at = place(&mut out, &section.bytes);
            let header =
                header(string(section.name), 1, section.flags, section.address, at, section.bytes.len(), 0, 0, 0);
            headers.push(header);
        }
        let mut symbols = vec![0_u8; 24];
        for symbol in &self.symbols {
            symbols.extend(string(symbol.name).to_le_bytes());
            symbols.extend([1 << 4 | symbol.kind, 0]);
            symbols.extend(symbol.section.to_le_bytes());
            symbols.extend(symbol.value.to_le_bytes());
            symbols.extend(symbol.size.to_le_bytes());
        }
        let (symbol_table, names) = (headers.len() as u32, headers.len() as u32 + 1);
        let at = place(&mut out, &symbols);
        headers.push(header(string(".symtab"), 2, 0, 0, at, symbols.len(), names, 1, 24));
        let (table_name, relocations_name) = (string(".strtab"), string(".rela.text"));
        let at = place(&mut out, &strings);
        headers.push(header(table_name, 3, 0, 0, at, strings.len(), 0, 0, 0));
        if !self.relocations.is_empty() {
            let mut bytes = Vec::new();
            for relocation in &self.relocations {
                bytes.extend(relocation.offset.to_le_bytes());
                bytes.extend((u64::from(relocation.symbol) << 32 | u64::from(relocation.kind)).to_le_bytes());
                bytes.extend(relocation.addend.to_le_bytes());
            }
            let at = place(&mut out, &bytes);
            headers.push(header(relocations_name, 4, 0x40, 0, at, bytes.len(), symbol_table, 1, 24));
        }
        let section_headers = place(&mut out, &headers.concat()) as u64;
        out[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        let kind: u16 = if self.is_relocatable { 1 } else { 2 };
        out[16..18].copy_from_slice(&kind.to_le_bytes());
        out[18..20].copy_from_slice(&183_u16.to_le_bytes());
        out[20..24].copy_from_slice(&1_u32.to_le_bytes());
        out[24..32].copy_from_slice(&self.entry.to_le_bytes());
        out[40..48].copy_from_slice(&section_headers.to_le_bytes());
        out[52..54].copy_from_slice(&64_u16.to_le_bytes());
        out[58..60].copy_from_slice(&64_u16.to_le_bytes());
        out[60..62].copy_from_slice(&(headers.len() as u16).to_le_bytes());
        out[62..64].copy_from_slice(&(names as u16).to_le_bytes());
        out
    }
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Appends bytes, aligned; returns where.
fn place(out: &mut Vec<u8>, bytes: &[u8]) -> usize {
    out.resize(out.len().next_multiple_of(8), 0);
    let at = out.len();
    out.extend(bytes);
    at
}

#[expect(clippy::too_many_arguments, reason = "a section header has so many fields")]
fn header(
    name: u32,
    kind: u32,
    flags: u64,
    address: u64,
    at: usize,
    size: usize,
    link: u32,
    info: u32,
    entry: u64,
) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&name.to_le_bytes());
    header[4..8].copy_from_slice(&kind.to_le_bytes());
    for (place, field) in [(8, flags), (16, address), (24, at as u64), (32, size as u64), (48, 4), (56, entry)] {
        header[place..place + 8].copy_from_slice(&field.to_le_bytes());
    }
    header[40..44].copy_from_slice(&link.to_le_bytes());
    header[44..48].copy_from_slice(&info.to_le_bytes());
    header
}
