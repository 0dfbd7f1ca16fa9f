//! A trace of a module's functions names them when the module has gone.

use crate::{call_sum, sum_of};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use fentry::tracer::dump::{Dump, DumpWriter, Reading};
use fentry::tracer::event::{Event, EventWriter};
use fentry::tracer::ring::{Mode, Ring, RingBlock};
use fentry::{Filter, FtraceRegs, Ops, Rule, TextAddr};
use loading::{PLACES, load, modules, unload};
use support::engine;

static MEMORY: [RingBlock; 4] = [const { RingBlock::new() }; 4];
static RING: Ring = Ring::new(&MEMORY, Mode::Stop);

extern "C" fn record(ip: TextAddr, parent_ip: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
    EventWriter { ring: &RING, task: 1, clock: || 1 }.function(ip, parent_ip, &[]);
}

pub(crate) fn a_trace_of_a_module_names_its_functions_when_it_has_gone() -> Result<(), String> {
    static OPS: Ops = Ops::new(record);
    let (engine, _) = engine();
    for (distance, place) in PLACES {
        let mut modules = modules();
        let id = load(&mut modules, "greeter", place).map_err(|error| format!("{error}"))?;
        let sum = sum_of(&modules, id, "greeter_sum");
        let rules = [Rule::name("greeter_sum")];
        engine.register(&OPS, &Filter::new(&rules)).map_err(|error| format!("{distance}: {error}"))?;
        call_sum(sum);
        engine.unregister(&OPS).map_err(|error| format!("{distance}: {error}"))?;

        let (mut bytes, rings) = (Vec::new(), [&RING]);
        let sink = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok::<(), core::convert::Infallible>(())
        };
        let Ok(mut writer) = DumpWriter::begin(sink, 1_000_000, &rings);
        let Ok(()) = writer.names(engine).and_then(|()| writer.pull(Reading::Consume));
        let Ok(()) = writer.finish();
        unload(&mut modules, id);

        let dump = Dump::parse(&bytes).map_err(|error| format!("{distance}: {error}"))?;
        let events: Vec<_> = dump.events().map(|event| event.recorded.event).collect();
        let [Event::Function { ip, .. }] = events[..] else { return Err(format!("{distance}: {events:?}")) };
        let is_around = |addr: u64, size: u64| (addr..addr + size).contains(&ip.get());
        let name = dump.symbols().find(|symbol| is_around(symbol.addr, symbol.size)).map(|symbol| symbol.name);
        let module = dump.modules().find(|module| module.text.contains(ip)).map(|module| module.name);
        assert_eq!((name, module), (Some("greeter_sum"), Some("greeter")), "{distance}: {ip}");
        assert_eq!(dump.slide(), 0);
    }
    Ok(())
}
