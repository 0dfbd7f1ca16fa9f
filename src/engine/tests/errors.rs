//! Errors keep their causes, in every room below the engine and above it.

use crate::callsite::table::TableError;
use crate::callsite::{OutOfReach, Refusal};
use crate::engine::{InitError, RegisterError};
use crate::filter::GlobError;
use crate::insn::EncodeError;
use crate::module::{
    LoadError, MemoryError, NotRemoved, RegionCause, RegionError, RegionToken, RelocCause, RelocError, RelocKind,
    SectionCause, Segment, StartError, UnloadError,
};
use crate::platform::{AliasError, CpuTimeout};
use crate::symbols::SymbolsError;
use crate::text::{PokeCause, PokeError, Undone};
use crate::tracer::dump::{DumpCause, DumpError};
use crate::tracer::event::EventError;
use crate::tracer::session::{OptionCause, OptionError};
use crate::{TextAddr, TextRange};
use core::error::Error;
use std::boxed::Box;
use std::string::ToString;
use std::vec::Vec;

const AT: TextAddr = TextAddr::new(0x4000_0000);
const ENCODE: EncodeError = EncodeError::Misaligned { field: "imm26", value: 2, multiple_of: 4 };
const REACH: OutOfReach = OutOfReach { callsite: AT, target: AT, cause: ENCODE };
const TIMEOUT: CpuTimeout = CpuTimeout { cpu: 3 };
const ALIAS: AliasError = AliasError { page: AT, reason: "no window is free" };

fn poke(cause: PokeCause) -> PokeError {
    PokeError { at: AT, cause, undone: Undone::Entirely }
}

fn region(cause: RegionCause) -> RegionError {
    RegionError { text: TextRange::new(AT, AT.offset(0x1000)), cause }
}

/// Errors with a cause, and the cause.
fn caused() -> Vec<(Box<dyn Error>, Box<dyn Error>)> {
    let memory = MemoryError { segment: Segment::Text, bytes: 0x1000, reason: "the pool is empty" };
    let overflow = RelocCause::Overflow { value: -1, min: 0, max: 1 };
    let reloc = RelocError { kind: RelocKind::of(283).unwrap(), place: 0, cause: overflow };
    let (heap, start) = (region(RegionCause::Heap), StartError::Init(-5));
    let (rule, record) = (OptionCause::Rule(GlobError::TrailingEscape), DumpCause::Record(EventError::Kind(9)));
    let name = || "f".to_string();
    let mut causes: Vec<(Box<dyn Error>, Box<dyn Error>)> = Vec::new();
    let mut is_caused_by = |error: Box<dyn Error>, cause: Box<dyn Error>| causes.push((error, cause));
    is_caused_by(REACH.into(), ENCODE.into());
    is_caused_by(poke(PokeCause::Alias(ALIAS)).into(), ALIAS.into());
    is_caused_by(poke(PokeCause::Cpu(TIMEOUT)).into(), TIMEOUT.into());
    is_caused_by(InitError::Table(TableError::Empty).into(), TableError::Empty.into());
    is_caused_by(InitError::Symbols(SymbolsError::Absent).into(), SymbolsError::Absent.into());
    is_caused_by(InitError::ContextOffset(ENCODE).into(), ENCODE.into());
    is_caused_by(InitError::CpuAreaOffset(ENCODE).into(), ENCODE.into());
    let unwritten = poke(PokeCause::Alias(ALIAS));
    is_caused_by(InitError::Text(unwritten).into(), unwritten.into());
    is_caused_by(RegisterError::Stub(ENCODE).into(), ENCODE.into());
    is_caused_by(RegisterError::OutOfReach(REACH).into(), REACH.into());
    is_caused_by(RegisterError::Text { error: unwritten, function: Some("sort") }.into(), unwritten.into());
    is_caused_by(region(RegionCause::Heap).into(), RegionCause::Heap.into());
    is_caused_by(RegionCause::Table(TableError::Empty).into(), TableError::Empty.into());
    is_caused_by(RegionCause::Symbols(SymbolsError::Absent).into(), SymbolsError::Absent.into());
    is_caused_by(RegionCause::Text(unwritten).into(), unwritten.into());
    is_caused_by(RegionCause::Stub(ENCODE).into(), ENCODE.into());
    is_caused_by(RegionCause::OutOfReach(REACH).into(), REACH.into());
    is_caused_by(NotRemoved { token: RegionToken::fresh(), error: heap }.into(), heap.into());
    is_caused_by(reloc.into(), overflow.into());
    let compressed = SectionCause::Compressed;
    is_caused_by(LoadError::Section { index: 1, name: name(), cause: compressed }.into(), compressed.into());
    is_caused_by(LoadError::Relocation { symbol: name(), error: reloc }.into(), reloc.into());
    is_caused_by(LoadError::Callsite { entry: AT, refusal: Refusal::InUse }.into(), Refusal::InUse.into());
    is_caused_by(LoadError::Veneer { target: 0, cause: ENCODE }.into(), ENCODE.into());
    is_caused_by(LoadError::Memory(memory).into(), memory.into());
    is_caused_by(LoadError::Cpu(TIMEOUT).into(), TIMEOUT.into());
    is_caused_by(LoadError::Region(heap).into(), heap.into());
    is_caused_by(LoadError::Kept { cause: start, error: heap, bytes: 0x1000 }.into(), start.into());
    is_caused_by(StartError::Region(heap).into(), heap.into());
    is_caused_by(UnloadError::Region(heap).into(), heap.into());
    is_caused_by(OptionError { word: "x", cause: rule }.into(), rule.into());
    is_caused_by(rule.into(), GlobError::TrailingEscape.into());
    is_caused_by(DumpError { at: 24, cause: record }.into(), record.into());
    is_caused_by(record.into(), EventError::Kind(9).into());
    causes
}

#[test]
fn an_error_gives_its_cause_and_says_it() {
    for (error, cause) in caused() {
        let source = error.source().unwrap_or_else(|| panic!("{error:?} has no source"));
        assert_eq!(source.to_string(), cause.to_string(), "{error:?}");
        assert!(error.to_string().contains(&cause.to_string()), "{error}");
    }
}

/// Where it is said what a CPU may be inside of, that stands for the cause's own words.
#[test]
fn an_error_about_a_cpu_gives_its_cause_and_names_the_cpu() {
    let errors: [Box<dyn Error>; 2] =
        [RegisterError::NotQuiescent(TIMEOUT).into(), RegionCause::NotQuiescent(TIMEOUT).into()];
    for error in errors {
        assert_eq!(error.source().unwrap().to_string(), TIMEOUT.to_string());
        assert!(error.to_string().contains("CPU 3"), "{error}");
    }
}
