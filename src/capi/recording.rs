//! Recording sessions: the tracers' rings in memory of the kernel's, and the dump that `cargo fentry trace` reads.

use super::console::told;
use super::error::fentry_error;
use super::filter::with_options;
use super::platform::KERNEL;
use super::{console, engine, from_c};
use crate::tracer::dump::DumpLines;
use crate::tracer::kernel::{RecordTo, StoreIn};
use crate::tracer::profiler::{Profile, ProfileSlot};
use crate::tracer::ring::{Mode, Ring, RingBlock};
use crate::tracer::session::{Session, words};
use core::ffi::{c_char, c_int, c_void};
use core::mem::{MaybeUninit, offset_of};
use core::sync::atomic::{AtomicPtr, Ordering};

/// The words of a `struct fentry_ring`.
pub const FENTRY_RING_WORDS: usize = 8;
/// The unit of a ring's memory, in bytes.
pub const FENTRY_RING_BLOCK_BYTES: usize = 4096;
/// The bytes of a profile's memory that one function takes.
pub const FENTRY_PROFILE_BYTES: usize = 64;

/// What tells a ring that was initialised.
const MADE: u64 = u64::from_le_bytes(*b"fentryRB");
/// Where that is.
const MADE_AT: usize = FENTRY_RING_WORDS - 1;

/// One CPU's records. It stays for ever.
#[derive(Debug)]
#[repr(C)]
pub struct fentry_ring {
    /// The engine's own.
    pub engine: [u64; FENTRY_RING_WORDS],
}

const _: () = assert!(size_of::<Ring>() <= MADE_AT * 8 && align_of::<Ring>() <= 8);
const _: () =
    assert!(size_of::<RingBlock>() == FENTRY_RING_BLOCK_BYTES && size_of::<ProfileSlot>() == FENTRY_PROFILE_BYTES);

/// What a ring does when it is full.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub enum fentry_ring_mode {
    /// The oldest records make room.
    Overwrite = 0,
    /// What comes later is lost, and counted.
    Stop,
}

/// Makes a ring in this memory, of as many blocks of FENTRY_RING_BLOCK_BYTES, aligned to 64, as fit, down to a power of two; two
/// at least. `mode` is one of `enum fentry_ring_mode`.
///
/// Errors: NULL_POINTER, BAD_VALUE (unknown mode), MEMORY_SIZE (no room for two blocks).
///
/// # Safety
///
/// 1. `ring` is NULL, or memory that nobody uses and that stays for ever.
/// 2. `memory` is NULL, or has so many bytes that nobody else uses and that stay for ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_ring_init(
    ring: *mut fentry_ring,
    memory: *mut c_void,
    bytes: usize,
    mode: u32,
) -> fentry_error {
    let mode = match mode {
        mode if mode == fentry_ring_mode::Overwrite as u32 => Mode::Overwrite,
        mode if mode == fentry_ring_mode::Stop as u32 => Mode::Stop,
        _ => return fentry_error::BadValue,
    };
    if ring.is_null() {
        return fentry_error::NullPointer;
    }
    if !ring.is_aligned() {
        return fentry_error::BadValue;
    }
    // SAFETY: 1. Our caller's second promise; any bytes will do.
    let blocks = match unsafe { from_c::slice_mut::<MaybeUninit<u8>>(memory.cast(), bytes) } {
        Ok(memory) => RingBlock::slice_in(memory),
        Err(error) => return error,
    };
    let Ok(made) = Ring::from_slice(blocks, mode) else { return fentry_error::MemorySize };
    // SAFETY: large enough and aligned, as was checked when this was compiled; our caller's first promise.
    unsafe { ring.cast::<Ring>().write(made) };
    // SAFETY: as above; behind the ring.
    unsafe { from_c::word(ring, MADE_AT).write(MADE) };
    fentry_error::None
}

/// What a ring has counted.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct fentry_ring_counts {
    /// Records in the ring, unread.
    pub kept: u64,
    /// Records that were taken out.
    pub read: u64,
    /// Records that were lost, because there was no room or newer ones took their place.
    pub lost: u64,
}

/// Writes what a ring has counted to `counts`.
///
/// Errors: NULL_POINTER, NOT_SET_UP.
///
/// # Safety
///
/// `ring` is NULL or a ring, and `counts` is NULL or a place for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_ring_counts_of(
    ring: *const fentry_ring,
    counts: *mut fentry_ring_counts,
) -> fentry_error {
    // SAFETY: 1. Our caller's promise.
    let ring = match unsafe { fentry_ring::of(ring) } {
        Ok(ring) => ring.counts(),
        Err(error) => return error,
    };
    let found = fentry_ring_counts { kept: ring.kept, read: ring.read, lost: ring.lost() };
    // SAFETY: 1. Our caller's promise.
    unsafe { from_c::write(counts, found) }
}

impl fentry_ring {
    /// The ring in it.
    ///
    /// # Safety
    ///
    /// 1. `ring` is NULL, or points at a ring, or at what could become one, that stays for ever.
    unsafe fn of(ring: *const Self) -> Result<&'static Ring, fentry_error> {
        if ring.is_null() {
            return Err(fentry_error::NullPointer);
        }
        if !ring.is_aligned() {
            return Err(fentry_error::BadValue);
        }
        // SAFETY: our caller's promise.
        let made = unsafe { from_c::word(ring.cast_mut(), MADE_AT).read() };
        if made != MADE {
            return Err(fentry_error::NotSetUp);
        }
        // SAFETY: `fentry_ring_init` has made one, which stays for ever.
        Ok(unsafe { &*ring.cast::<Ring>() })
    }
}

/// Where a session records. It must be there, as it is, from fentry_session_start() to the end of fentry_session_dump().
#[derive(Debug)]
#[repr(C)]
pub struct fentry_recording {
    /// sizeof(struct fentry_recording), as FENTRY_RECORDING_INIT has it.
    pub size: usize,
    /// A ring for each CPU, 256 at most.
    pub rings: *const *mut fentry_ring,
    /// How many there are.
    pub cpus: usize,
    /// Returns the running CPU's number, from 0; called in any context in which a function is traced. NULL: there is one CPU.
    pub cpu: Option<unsafe extern "C" fn(context: *mut c_void) -> u32>,
    /// Returns the running task's number, 0 where a CPU runs no task; called likewise. NULL: always 0.
    pub task: Option<unsafe extern "C" fn(context: *mut c_void) -> u32>,
    /// The argument of both.
    pub context: *mut c_void,
    /// Memory for the profile tracer, aligned to 64: FENTRY_PROFILE_BYTES for each function, and a third more. NULL: it counts
    /// nothing.
    pub profile: *mut c_void,
    /// The bytes of it.
    pub profile_bytes: usize,
}

// It is read before anything else.
const _: () = assert!(offset_of!(fentry_recording, size) == 0);

// SAFETY: the functions may be called from any CPU, as the header says; `context` is handed to them and to nobody else.
unsafe impl Sync for fentry_recording {}

impl fentry_recording {
    /// Checks what the kernel has given.
    ///
    /// # Safety
    ///
    /// 1. `recording` is NULL, or points at a `size` and, if that is right, at a recording; with all that it points at it stays
    ///    as it is as long as a session uses it.
    unsafe fn check(recording: *const Self) -> Result<&'static Self, fentry_error> {
        if recording.is_null() {
            return Err(fentry_error::NullPointer);
        }
        if !recording.is_aligned() {
            return Err(fentry_error::BadValue);
        }
        // SAFETY: our caller's promise.
        if unsafe { recording.cast::<usize>().read() } != size_of::<Self>() {
            return Err(fentry_error::WrongSize);
        }
        // SAFETY: as large as it should be; our caller's promise. Every pattern of bits is a value of every field.
        let recording = unsafe { &*recording };
        // SAFETY: 1. our caller's promise.
        let rings = unsafe { from_c::slice(recording.rings, recording.cpus) }?;
        if rings.is_empty() || rings.len() > crate::tracer::dump::MAX_CPUS {
            return Err(fentry_error::BadValue);
        }
        // SAFETY: 1. our caller's promise.
        rings.iter().try_for_each(|ring| unsafe { fentry_ring::of(*ring) }.map(drop))?;
        if !recording.profile.addr().is_multiple_of(align_of::<ProfileSlot>()) {
            return Err(fentry_error::BadValue);
        }
        Ok(recording)
    }

    /// The rings; only of one that was checked.
    fn rings(&self) -> &'static [&'static Ring] {
        // SAFETY: `check` has found that each is a ring's address, and a ring begins with the engine's own.
        unsafe { core::slice::from_raw_parts(self.rings.cast::<&Ring>(), self.cpus) }
    }
}

/// The recording of the session that was started last.
static RECORDING: AtomicPtr<fentry_recording> = AtomicPtr::new(core::ptr::null_mut());
/// What its profile tracer finds, in memory of the kernel's.
static PROFILE: AtomicPtr<Profile> = AtomicPtr::new(core::ptr::null_mut());

/// For what is recorded without a recording, which is nothing.
static NO_BLOCKS: [RingBlock; 2] = [const { RingBlock::new() }; 2];
static NO_RING: Ring = Ring::new(&NO_BLOCKS, Mode::Stop);
static NO_PROFILE: Profile = Profile::new(&[]);

static SESSION: Session<Recorder> = Session::new();

/// Says where the session's tracers record.
struct Recorder;

impl Recorder {
    #[inline]
    fn recording() -> Option<&'static fentry_recording> {
        // SAFETY: null, or one that was checked, and that stays for as long as a session uses it, as the header asks for.
        unsafe { RECORDING.load(Ordering::Acquire).as_ref() }
    }
}

impl RecordTo for Recorder {
    #[inline]
    fn ring() -> &'static Ring {
        let Some(recording) = Self::recording() else { return &NO_RING };
        // SAFETY: the kernel's own function, called as the header says.
        let cpu = recording.cpu.map_or(0, |cpu| unsafe { cpu(recording.context) });
        let rings = recording.rings();
        rings.get(cpu as usize).or(rings.first()).copied().unwrap_or(&NO_RING)
    }

    #[inline]
    fn task() -> u32 {
        let Some(recording) = Self::recording() else { return 0 };
        // SAFETY: the kernel's own function, called as the header says.
        recording.task.map_or(0, |task| unsafe { task(recording.context) })
    }
}

impl StoreIn<Profile> for Recorder {
    #[inline]
    fn store() -> &'static Profile {
        // SAFETY: null, or in memory that stays for as long as a session uses it, as the header asks for.
        unsafe { PROFILE.load(Ordering::Acquire).as_ref() }.unwrap_or(&NO_PROFILE)
    }
}

impl StoreIn<Session<Self>> for Recorder {
    #[inline]
    fn store() -> &'static Session<Self> {
        &SESSION
    }
}

/// Makes a profile in the kernel's memory: it itself in the first slot, its functions in the others.
///
/// # Safety
///
/// 1. The recording was checked, and its memory is nobody else's.
unsafe fn make_profile(recording: &fentry_recording) -> *mut Profile {
    let count = recording.profile_bytes / FENTRY_PROFILE_BYTES;
    if recording.profile.is_null() || count < 2 {
        return core::ptr::null_mut();
    }
    let first = recording.profile.cast::<ProfileSlot>();
    // SAFETY: so many slots, which are nobody else's by our caller's promise.
    unsafe { first.write_bytes(0, count) };
    // SAFETY: inside of the memory; all zeros is a slot of no function.
    let Ok(slots) = (unsafe { from_c::slice(first.wrapping_add(1).cast_const(), count - 1) }) else {
        return core::ptr::null_mut();
    };
    const { assert!(size_of::<Profile>() <= FENTRY_PROFILE_BYTES && align_of::<Profile>() <= 64) };
    // SAFETY: the first slot's bytes, which are nobody else's by our caller's promise.
    unsafe { first.cast::<Profile>().write(Profile::new(slots)) };
    first.cast()
}

/// Starts a session: the tracer and the functions that a command line's words ask for, recorded where `recording` says. Writes
/// the number of functions to `functions`, if that is not NULL. Returns are hooked where threads have shadow stacks.
///
/// ```text
///     tracer=graph       calls with their nesting, durations and results (the default)
///     tracer=function    calls with their callers
///     tracer=profile     only how often each function was called and how long it took
///     filter=RULE        the functions, as `struct fentry_rule` has them as text; several times
///     under=RULE         of the graph, only calls of these functions, and calls inside them; several times
///     not-under=RULE     of the graph, no calls of these functions, nor any inside them; several times
///     depth=N            of the graph, calls that are inside less than N others
///     args=N             of the function tracer, the first N arguments, 8 at most
/// ```
///
/// Other words are the kernel's own, so that it can hand over its whole command line.
///
/// Errors: NOT_INITIALISED, NULL_POINTER, WRONG_SIZE (no FENTRY_RECORDING_INIT), NOT_SET_UP (a ring was not made by
/// fentry_ring_init()), BAD_VALUE (no ring, too many, memory not aligned), BAD_WORD, ALREADY_REGISTERED (a session has begun), and
/// those of fentry_register().
///
/// # Safety
///
/// `recording` is NULL, or one that stays with all that it points at until its session was stopped and dumped; `words` is NULL or
/// ends in a zero; `functions` is NULL or a place for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_session_start(
    recording: *const fentry_recording,
    words: *const c_char,
    functions: *mut usize,
) -> fentry_error {
    // SAFETY: 1. Our caller's promise.
    let started = unsafe { start(recording, words) };
    // SAFETY: 1. Our caller's promise.
    fentry_error::from_result(started.map(|found| unsafe { from_c::write_if_wanted(functions, found) }))
}

/// # Safety
///
/// 1. As for [`fentry_session_start`].
unsafe fn start(recording: *const fentry_recording, line: *const c_char) -> Result<usize, fentry_error> {
    let engine = engine()?;
    // SAFETY: 1. our caller's promise.
    let recording = unsafe { fentry_recording::check(recording) }?;
    // SAFETY: 1. our caller's promise; the options are read before this returns.
    let line = unsafe { from_c::text(line, fentry_error::BadWord) }?;
    with_options(|options| {
        options.read(words(line)).map_err(|error| {
            console::say(format_args!("fentry: {error}\n"));
            fentry_error::BadWord
        })?;
        if SESSION.has_begun() {
            return Err(fentry_error::AlreadyRegistered);
        }
        // SAFETY: 1. checked; our caller's promise, and no session uses it.
        PROFILE.store(unsafe { make_profile(recording) }, Ordering::Release);
        RECORDING.store(core::ptr::from_ref(recording).cast_mut(), Ordering::Release);
        SESSION.start(engine, options).map_err(told)
    })
}

/// Stops the session; writes the number of functions that were traced to `functions`, if that is not NULL.
///
/// Errors: NOT_INITIALISED, NOT_REGISTERED (there is none), and those of fentry_unregister().
///
/// # Safety
///
/// `functions` is NULL or a place for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_session_stop(functions: *mut usize) -> fentry_error {
    let stopped = engine().and_then(|engine| SESSION.stop(engine).map_err(told));
    // SAFETY: 1. Our caller's promise.
    fentry_error::from_result(stopped.map(|found| unsafe { from_c::write_if_wanted(functions, found) }))
}

/// A task that has a name.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct fentry_task {
    /// The number that the recording's `task` returns.
    pub number: u32,
    /// Its name, in UTF-8.
    pub name: *const c_char,
}

/// Takes the bytes of a dump, a few or some thousand at a time; 0 if that went well, and any other number ends the dump.
pub type fentry_write =
    Option<unsafe extern "C" fn(context: *mut c_void, bytes: *const c_void, length: usize) -> c_int>;

/// Writes all that the session has recorded through `write`, and takes it out of the rings: the bytes that
/// `cargo fentry trace --from FILE` reads once they are in a file. `tasks` are `count` tasks that have names. `write` may not call
/// fentry.
///
/// Errors: NOT_INITIALISED, NULL_POINTER, NOT_REGISTERED (no session was ever started), BAD_VALUE (a name is not UTF-8),
/// WRITE_FAILED.
///
/// # Safety
///
/// The recording of the last session is still there. `write` is NULL or such a function, which gets `context`; `tasks` is NULL with
/// a `count` of 0, or points at so many.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_session_dump(
    write: fentry_write,
    context: *mut c_void,
    tasks: *const fentry_task,
    count: usize,
) -> fentry_error {
    // SAFETY: 1. Our caller's promise.
    fentry_error::from_result(unsafe { dump(write, context, tasks, count) })
}

/// # Safety
///
/// 1. As for [`fentry_session_dump`].
unsafe fn dump(
    write: fentry_write,
    context: *mut c_void,
    tasks: *const fentry_task,
    count: usize,
) -> Result<(), fentry_error> {
    engine()?;
    let write = write.ok_or(fentry_error::NullPointer)?;
    let sink = |bytes: &[u8]| {
        // SAFETY: the kernel's own function, called as the header says.
        match unsafe { write(context, bytes.as_ptr().cast(), bytes.len()) } {
            0 => Ok(()),
            _ => Err(fentry_error::WriteFailed),
        }
    };
    // SAFETY: 1. our caller's promise.
    unsafe { dump_to(sink, tasks, count) }
}

/// Prints all that the session has recorded to the platform's console, in lines of text, and takes it out of the rings:
/// `cargo fentry trace` finds them among other lines. `tasks` are `count` tasks that have names.
///
/// Errors: NOT_INITIALISED, NULL_POINTER, INCOMPLETE (the platform has no console), NOT_REGISTERED (no session was ever started),
/// BAD_VALUE (a name is not UTF-8).
///
/// # Safety
///
/// The recording of the last session is still there; `tasks` is NULL with a `count` of 0, or points at so many.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fentry_session_print(tasks: *const fentry_task, count: usize) -> fentry_error {
    if engine().is_ok() && !KERNEL.has_console() {
        return fentry_error::Incomplete;
    }
    let mut lines = DumpLines::new(console::Console);
    // SAFETY: 1. Our caller's promise.
    let dumped = unsafe { dump_to(|bytes| lines.write(bytes).map_err(|_| fentry_error::WriteFailed), tasks, count) };
    let ended = dumped.and_then(|()| lines.finish().map_err(|_| fentry_error::WriteFailed));
    fentry_error::from_result(ended)
}

/// # Safety
///
/// 1. The recording of the last session is still there; `tasks` is NULL, or points at `count` tasks that stay as they are.
unsafe fn dump_to(
    sink: impl FnMut(&[u8]) -> Result<(), fentry_error>,
    tasks: *const fentry_task,
    count: usize,
) -> Result<(), fentry_error> {
    let engine = engine()?;
    let recording = Recorder::recording().ok_or(fentry_error::NotRegistered)?;
    // SAFETY: 1. our caller's promise.
    let tasks = unsafe { from_c::slice(tasks, count) }?;
    // SAFETY: 1. our caller's promise.
    let name = |task: &fentry_task| unsafe { from_c::text(task.name, fentry_error::BadValue) };
    tasks.iter().try_for_each(|task| name(task).map(drop))?;
    let named = tasks.iter().filter_map(|task| Some((task.number, name(task).ok()?)));
    SESSION.dump(engine, sink, ticks_per_second(), recording.rings(), named)
}

/// The ticks of a second, CNTFRQ_EL0. A host has no such counter.
fn ticks_per_second() -> u64 {
    #[cfg(target_arch = "aarch64")]
    return crate::tracer::ticks_per_second();
    #[cfg(not(target_arch = "aarch64"))]
    1
}
