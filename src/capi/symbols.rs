//! Names of addresses.

use super::error::fentry_error;
use super::{engine, from_c};
use core::ffi::c_char;
use core::fmt::{self, Write};

/// A function that an address is in.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct fentry_symbol {
    /// Its name, in UTF-8: `length` bytes, with no zero behind them.
    pub name: *const c_char,
    /// The bytes of the name.
    pub length: usize,
    /// Where it begins.
    pub address: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// Finds the function of the kernel that an address is in. Waits for nothing.
///
/// Errors: NOT_INITIALISED, NULL_POINTER, NO_NAMES (there is no symbol table), NOT_FOUND.
///
/// # Safety
///
/// `symbol` is NULL, or a place for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_symbol_at(address: u64, symbol: *mut fentry_symbol) -> fentry_error {
    let found = engine().and_then(|engine| {
        let symbols = engine.symbols().ok_or(fentry_error::NoNames)?;
        let found = symbols.lookup_addr(address).ok_or(fentry_error::NotFound)?.symbol;
        let (name, length) = (found.name.as_ptr().cast(), found.name.len());
        Ok(fentry_symbol { name, length, address: found.addr, size: found.size })
    });
    match found {
        // SAFETY: 1. Our caller's promise.
        Ok(found) => unsafe { from_c::write(symbol, found) },
        Err(error) => error,
    }
}

/// Writes an address as a person reads it, `disk_read+0x10/0x40`, or as a number where no function is known, to `buffer`, which
/// has `bytes` bytes: as much as fits, with a zero behind. Returns how long it is without the zero, as snprintf() does. Waits
/// for nothing.
///
/// # Safety
///
/// `buffer` is NULL, or has that many bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_format_address(address: u64, buffer: *mut c_char, bytes: usize) -> usize {
    let mut writer = Cut { to: buffer.cast(), room: if buffer.is_null() { 0 } else { bytes }, length: 0 };
    // It has no errors.
    let _ = match engine().ok().and_then(|engine| engine.symbols()) {
        Some(symbols) => write!(writer, "{}", symbols.display(address)),
        None => write!(writer, "{address:#x}"),
    };
    writer.end();
    writer.length
}

/// Text that is cut off where the room ends, but counted on.
///
/// # Invariants
///
/// `to` has room for `room` bytes.
struct Cut {
    to: *mut u8,
    room: usize,
    length: usize,
}

impl Cut {
    fn put(&mut self, byte: u8) {
        if self.length + 1 < self.room {
            // SAFETY: inside of the room, by the invariant.
            unsafe { self.to.wrapping_add(self.length).write(byte) };
        }
        self.length += 1;
    }

    fn end(&mut self) {
        if let Some(last) = self.room.checked_sub(1) {
            // SAFETY: inside of the room, by the invariant.
            unsafe { self.to.wrapping_add(last.min(self.length)).write(0) };
        }
    }
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.put(byte));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::fentry_format_address;

    #[test]
    fn an_address_is_written_as_far_as_there_is_room() {
        for (bytes, expected) in
            [(0, "xxxxxxxx"), (1, "\0xxxxxxx"), (4, "0x1\0xxxx"), (7, "0x1234\0x"), (8, "0x1234\0x")]
        {
            let mut buffer = *b"xxxxxxxx";
            // SAFETY: it has at least that many bytes.
            let length = unsafe { fentry_format_address(0x1234, buffer.as_mut_ptr().cast(), bytes) };
            assert_eq!((length, core::str::from_utf8(&buffer)), (6, Ok(expected)));
        }
        // SAFETY: NULL.
        assert_eq!(unsafe { fentry_format_address(0x1234, core::ptr::null_mut(), 8) }, 6);
    }
}
