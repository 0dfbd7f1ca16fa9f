//! A kernel that is asked on its console what to trace, while it works: `cargo xtask console`.
//!
//! | file | what it holds |
//! |---|---|
//! | `main.rs` | the console: bytes that come in become lines, and each is given to the control interface |
//! | `tracing.rs` | what the control interface needs of a kernel: rings, tasks, stacks |
//! | `events.rs` | and for events, and for functions that fail |
//! | `beside.rs` | and for an instance |
//! | `work.rs` | what the other CPUs do all the time |
//!
//! On the command line, `console=host` says that whoever writes lines has edited them: nothing is echoed, and instead of a prompt
//! comes the byte ENQ, when a line can come. Without `console=`, nobody is there: the kernel ends.
#![no_std]
#![no_main]

extern crate alloc;

mod beside;
mod events;
mod tracing;
mod work;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use fentry::control::LINE_BYTES;
use semihosting::experimental::env;
use support::{console, print, println, smp};

support::kernel!(run);

/// A line can come.
const ENQ: &str = "\x05";
const CTRL_C: u8 = 3;

/// Nothing else can be done with a byte that comes while a trace is read: the first one is kept for the next line.
static TYPED_AHEAD: AtomicU8 = AtomicU8::new(0);

fn run() {
    let words = words();
    let Some(way) = words.iter().find_map(|word| word.strip_prefix("console=")) else {
        println!("Nobody is at the console: `cargo xtask console` puts you there.");
        return;
    };
    let mut control = tracing::control().while_it_goes_on(goes_on);
    // Before the work begins, so that all of it is traced.
    let _ = control.boot(words.iter().map(String::as_str), &mut Uart);
    smp::start_all();
    static OVER: AtomicBool = AtomicBool::new(false);
    let console = support::lock::Lock::new((control, way == "host"));
    smp::on_all(|cpu| {
        tracing::init_cpu();
        if cpu == 0 {
            let (control, is_host) = &mut *console.lock();
            serve(control, *is_host);
            OVER.store(true, Ordering::Release);
        } else {
            work::until(&OVER);
        }
    });
}

/// Carries out lines until one says `exit`.
fn serve(control: &mut tracing::KernelControl, is_host: bool) {
    if !is_host {
        println!("`help` says what there is, and `exit` ends this kernel.");
    }
    loop {
        print!("{}", if is_host { ENQ } else { "# " });
        let line = read_line(control, is_host);
        if line.trim_ascii() == b"exit" {
            return;
        }
        // What is refused says so.
        let _ = control.execute(&line, &mut Uart);
    }
}

/// Reads a line; bytes beyond what a line may have are left out but for one, so that it is refused.
fn read_line(control: &mut tracing::KernelControl, is_host: bool) -> Vec<u8> {
    let mut line = Vec::new();
    loop {
        let ahead = TYPED_AHEAD.swap(0, Ordering::Relaxed);
        let Some(byte) = Some(ahead).filter(|byte| *byte != 0).or_else(console::read) else {
            let _ = control.attend(&mut Uart);
            smp::wait();
            continue;
        };
        let (echo, is_end) = match byte {
            b'\r' | b'\n' => ("\n".to_string(), true),
            CTRL_C => {
                line.clear();
                ("^C\n# ".to_string(), false)
            }
            8 | 127 => (line.pop().map_or("", |_| "\x08 \x08").to_string(), false),
            byte if line.len() <= LINE_BYTES => {
                line.push(byte);
                (char::from(byte).to_string(), false)
            }
            _ => continue,
        };
        if !is_host {
            print!("{echo}");
        }
        if is_end {
            return line;
        }
    }
}

/// Whether the trace is to be read on: until somebody types ^C.
fn goes_on() -> bool {
    match console::read() {
        Some(CTRL_C) => false,
        Some(byte) => {
            TYPED_AHEAD.store(byte, Ordering::Relaxed);
            true
        }
        None => true,
    }
}

/// The words of the command line, without the kernel's own name.
fn words() -> Vec<String> {
    let Ok(words) = env::args::<4096>() else { return Vec::new() };
    words.skip(1).filter_map(|word| word.ok().map(ToString::to_string)).collect()
}

/// What is written goes to the console.
struct Uart;

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        print!("{text}");
        Ok(())
    }
}
