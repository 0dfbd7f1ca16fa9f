//! A dump's chunks: their heads, and what is in the bodies of each kind.

use super::CHUNK_HEAD_BYTES;
use crate::address::{TextAddr, TextRange};
use crate::tracer::profiler::FunctionProfile;
use crate::tracer::ring::Counts;

#[derive(Clone, Copy)]
pub(super) struct Chunk<'d> {
    pub(super) kind: u32,
    pub(super) cpu: u32,
    pub(super) body: &'d [u8],
}

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'d> {
    pub(super) bytes: &'d [u8],
    /// Where the next one is.
    pub(super) at: usize,
}

impl<'d> Cursor<'d> {
    pub(super) fn take(&mut self, length: u64) -> Option<&'d [u8]> {
        let end = self.at.checked_add(usize::try_from(length).ok()?)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    /// The next chunk, or how many bytes there should be for it.
    pub(super) fn chunk(&mut self) -> Result<Chunk<'d>, u64> {
        let head = CHUNK_HEAD_BYTES as u64;
        let (kind, cpu) = (self.u32().ok_or(head)?, self.u32().ok_or(head)?);
        let length = self.u64().ok_or(head)?;
        let body = self.take(length).ok_or(head.saturating_add(length))?;
        Ok(Chunk { kind, cpu, body })
    }
}

pub(super) fn counts(body: &[u8]) -> Option<Counts> {
    let ([kept, read, refused, overwritten], []) = body.as_chunks() else { return None };
    let [kept, read, refused, overwritten] = [kept, read, refused, overwritten].map(|bytes| u64::from_le_bytes(*bytes));
    Some(Counts { kept, read, refused, overwritten })
}

pub(super) fn function(body: &[u8]) -> Option<FunctionProfile> {
    let ([ip, hits, total, own, min, max], []) = body.as_chunks() else { return None };
    let [ip, hits, total, own, min, max] = [ip, hits, total, own, min, max].map(|bytes| u64::from_le_bytes(*bytes));
    Some(FunctionProfile { ip: TextAddr::new(ip), hits, total, own, min, max })
}

pub(super) fn task(body: &[u8]) -> Option<(u32, &str)> {
    let (number, name) = body.split_first_chunk()?;
    Some((u32::try_from(u64::from_le_bytes(*number)).ok()?, core::str::from_utf8(name).ok()?))
}

pub(super) fn slide(body: &[u8]) -> Option<u64> {
    body.try_into().ok().map(u64::from_le_bytes)
}

pub(super) fn module(body: &[u8]) -> Option<ModuleText<'_>> {
    let (start, end, name) = named(body)?;
    let [start, end] = [start, end].map(TextAddr::new);
    (start <= end).then_some(ModuleText { text: TextRange::new(start, end), name })
}

pub(super) fn symbol(body: &[u8]) -> Option<ModuleSymbol<'_>> {
    let (addr, size, name) = named(body)?;
    addr.checked_add(size)?;
    Some(ModuleSymbol { addr, size, name })
}

/// Two numbers and a name.
fn named(body: &[u8]) -> Option<(u64, u64, &str)> {
    let (first, rest) = body.split_first_chunk()?;
    let (second, name) = rest.split_first_chunk()?;
    Some((u64::from_le_bytes(*first), u64::from_le_bytes(*second), core::str::from_utf8(name).ok()?))
}

/// Where a module's text was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleText<'d> {
    /// Its text, or its init text.
    pub text: TextRange,
    /// Its name.
    pub name: &'d str,
}

/// A function of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleSymbol<'d> {
    /// The address of its first byte.
    pub addr: u64,
    /// Its length in bytes; it does not go beyond the last address.
    pub size: u64,
    /// Its name.
    pub name: &'d str,
}
