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
    assert_eq!(fixture.run("cat available_tracers"), "function_graph function count nop\n");
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
