//! `cargo fentry`: see `cargo fentry --help`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use cargo_fentry::doctor::{self, DoctorArgs};
use cargo_fentry::pieces::{self, GuideArgs, LinkerScriptArgs};
use cargo_fentry::staticlib::{self, StaticlibArgs};
use cargo_fentry::symbols::{self, SymbolsArgs};
use cargo_fentry::terminal::{self, ConsoleArgs};
use cargo_fentry::trace::{self, TraceArgs};
use cargo_fentry::verify::{self, VerifyArgs};
use clap::{Parser, Subcommand};

/// Looks into arm64 kernels that use fentry, gives them their symbol table, and traces them.
#[derive(Debug, Parser)]
#[command(name = "cargo fentry", bin_name = "cargo fentry", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Console(ConsoleArgs),
    Guide(GuideArgs),
    LinkerScript(LinkerScriptArgs),
    Doctor(DoctorArgs),
    Staticlib(StaticlibArgs),
    Symbols(SymbolsArgs),
    Trace(TraceArgs),
    Verify(VerifyArgs),
}

/// Where `trace` writes when it is not told.
const TRACES: &str = "target/trace";

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    // Cargo says its subcommand's name first; whoever calls the program itself needs not.
    let args = std::env::args_os().enumerate().filter(|(at, arg)| *at != 1 || arg != "fentry");
    let success = match Cli::parse_from(args.map(|(_, arg)| arg)).command {
        Task::Console(args) => terminal::run(&args).map(|()| true)?,
        Task::Guide(args) => pieces::guide(&args).map(|()| true)?,
        Task::LinkerScript(args) => pieces::linker_script(&args).map(|()| true)?,
        Task::Doctor(args) => doctor::run(&args)?,
        Task::Staticlib(args) => staticlib::run(&args).map(|()| true)?,
        Task::Symbols(args) => symbols::run(&args).map(|()| true)?,
        Task::Trace(args) => trace::run(&args, Path::new(TRACES)).map(|()| true)?,
        Task::Verify(args) => verify::run(&args)?,
    };
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
