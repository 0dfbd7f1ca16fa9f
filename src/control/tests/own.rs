//! Tracers and files of a kernel's own.

use super::*;

static CALLS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

struct Calls;

impl File for Calls {
    fn name(&self) -> &str {
        "options/calls"
    }
    fn help(&self) -> &str {
        "the calls"
    }
    fn read(&self, out: &mut dyn Write) -> Result<(), Reason> {
        Ok(writeln!(out, "{}", CALLS.load(Ordering::Relaxed))?)
    }
    fn write(&self, value: &Value<'_>) -> Result<(), Refusal> {
        CALLS.store(value.all().number()?, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn a_kernel_adds_tracers_and_files_of_its_own() {
    static COUNT: Ops = Ops::new(count);
    static TRACERS: [Tracer; 1] = [Tracer { name: "count", ops: &COUNT }];
    let mut fixture = fixture!();
    fixture.control = fixture.control.with_tracers(&TRACERS).with_files(&[&Calls]);
    assert_eq!(fixture.run("cat available_tracers"), "function_graph function latency profile count nop\n");
    fixture.run("echo net::send > set_ftrace_filter");
    fixture.run("echo count > current_tracer");
    assert_eq!(fixture.engine.statistics().ops, 1);
    assert_eq!(fixture.run("cat enabled_functions"), "net::send (1)\n");
    assert!(fixture.run("ls").ends_with("\noptions/calls\n"));
    assert_eq!(fixture.run("help options/calls"), "options/calls: the calls\n");
    fixture.run("echo 41 > options/calls");
    assert_eq!(fixture.run("cat options/calls"), "41\n");
    let (refusal, out) = fixture.refused("echo many > options/calls");
    assert_eq!((refusal.at, out.lines().count()), (5, 3));
}

#[test]
fn the_profiler_is_on_by_one_file_at_a_time() {
    let mut fixture = fixture!();
    fixture.run("echo net::send > set_ftrace_filter");
    fixture.run("echo profile > current_tracer");
    assert_eq!((fixture.enabled(), fixture.engine.statistics().ops), (["net::send"].to_vec(), 1));
    assert_eq!(fixture.refused("echo 1 > function_profile_enabled").0.reason, Reason::IsCurrentTracer);
    assert_eq!(fixture.run("cat function_profile_enabled"), "0\n");
    fixture.run("echo 0 > function_profile_enabled");
    fixture.run("echo nop > current_tracer");
    fixture.run("echo 1 > function_profile_enabled");
    assert_eq!(fixture.refused("echo profile > current_tracer").0.reason, Reason::IsOn);
    assert_eq!(fixture.run("cat current_tracer"), "nop\n");
    fixture.run("echo function > current_tracer");
    assert_eq!(fixture.engine.statistics().ops, 2);
}

/// Fake kernels have no areas for CPUs, so the engine has no stub for it.
#[test]
fn a_flight_recorder_that_can_not_be_is_refused() {
    static RECORDER: Ops = Ops::recorder(2);
    static AREAS: [CpuArea; 2] = [const { CpuArea::new() }; 2];
    let mut fixture = fixture!();
    fixture.control = fixture.control.with_flight_recorder(&RECORDER, [&AREAS[0], &AREAS[1]]);
    assert_eq!(fixture.run("cat available_tracers"), "function_graph function latency flight_recorder profile nop\n");
    let (refusal, _) = fixture.refused("echo flight_recorder > current_tracer");
    assert_eq!(refusal.reason, Reason::Register(RegisterError::NoCpuArea));
    assert_eq!(fixture.run("cat current_tracer"), "nop\n");
}
