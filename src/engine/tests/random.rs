//! Thousands of random sequences of everything that can be asked of the engine, with something failing now and then: after
//! each step text is what the naive specification says.

extern crate std;

use super::spec::{Known, Registered, Rules, Site, Spec};
use super::{BASE, FORMS, init, stubs_left};
use crate::address::TextAddr;
use crate::callsite::{Callsite, LandingPad, NOP};
use crate::context::regs::FtraceRegs;
use crate::engine::{Engine, RegisterError};
use crate::fakes::{FakeKernel, FakeText, Fault};
use crate::filter::{Filter, Rule};
use crate::module::regions::{NotRemoved, RegionToken, Regions as _};
use crate::ops::{Ops, OpsFlags};
use crate::platform::ALIAS_BYTES;
use crate::text::{PokeError, Undone};
use std::boxed::Box;
use std::format;
use std::string::String;
use std::vec::Vec;

/// How many sequences there are. Who runs the tests for each mutant sets fewer.
fn sequences() -> u64 {
    let set = std::env::var("FENTRY_RANDOM_SEQUENCES").ok().and_then(|number| number.parse().ok());
    set.unwrap_or(2000)
}

const STEPS: usize = 40;
const OPS: usize = 12;
/// In the image; and in each of the modules, of which one is near, one where a near veneer reaches, and one beyond that.
const FUNCTIONS: usize = 24;
const MODULES: [(u64, usize); 3] = [(BASE + (16 << 20), 8), (BASE + (1 << 30), 6), (BASE - (6 << 30), 6)];
const TRAMPOLINES: [u64; 4] = [BASE + 0x10_0000, BASE + 0x20_0000, BASE + (1 << 30) - 0x1000, BASE - (9 << 30)];

extern "C" fn callback(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}
extern "C" fn other(_: TextAddr, _: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
    assert_eq!(regs.argument(0), None);
}

/// SplitMix64: repeats from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound as u64) as usize
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

/// What a step came to.
enum Outcome {
    /// It was done, or refused, as it should.
    Settled,
    /// The fault that was asked for came in between, and nothing has changed.
    Failed,
    /// It came in between, and so many words could not be put back.
    Half,
}

struct World<'l> {
    /// What has been done.
    log: &'l mut Vec<String>,
    random: Random,
    kernel: &'static FakeKernel,
    engine: Box<Engine>,
    spec: Spec,
    /// By module, its token while it is loaded.
    loaded: [Option<RegionToken>; MODULES.len()],
    /// Names and addresses of everything, loaded or not.
    names: Vec<String>,
    /// What the callsites of each module are, as it was made.
    sites: Vec<Vec<Site>>,
    faults: bool,
    /// By callsite, its second word before the step.
    calls_before: Vec<u32>,
    /// The text of the image, and of each module as it is loaded, with all callsites disabled.
    disabled: Vec<u32>,
}

fn site(name: String, function: TextAddr, number: usize, region: usize) -> Site {
    let form = FORMS[number % FORMS.len()];
    let pad = if form.landing_pad == LandingPad::BtiC { 4 } else { 0 };
    Site { name, callsite: Callsite::known(function.offset(pad), form), region, members: Vec::new() }
}

impl<'l> World<'l> {
    fn new(seed: u64, log: &'l mut Vec<String>) -> Self {
        let mut random = Random(seed);
        let mut sites = Vec::from([Vec::new()]);
        let mut text = FakeText::new(BASE);
        text.stub_room(16 << 10);
        for number in 0..FUNCTIONS {
            let name = format!("f{number}");
            sites[0].push(site(name.clone(), text.function(&name, FORMS[number % FORMS.len()]), number, 0));
        }
        for (module, (base, functions)) in MODULES.into_iter().enumerate() {
            let mut of_module = FakeText::new(base);
            let made = (0..functions).map(|number| {
                let name = format!("m{module}_f{number}");
                let function = of_module.function(&name, FORMS[number % FORMS.len()]);
                site(name, function, number, module + 1)
            });
            sites.push(made.collect());
            text.module(of_module);
        }
        let kernel = text.build();
        let engine = Box::new(Engine::with_machine(kernel, kernel));
        assert_eq!(init(kernel, &engine).unwrap().counts.accepted, FUNCTIONS);
        let names = sites.iter().flatten().flat_map(|site| {
            let beginning = format!("{}*", &site.name[..site.name.len() - 1]);
            [site.name.clone(), format!("{:#x}", site.callsite.function().get()), beginning]
        });
        Self {
            names: names.chain(["nosuch".into(), "nosuch*".into(), "m*".into(), "*".into()]).collect(),
            spec: Spec { known: known(&mut random), registered: Vec::new(), sites: sites.remove(0) },
            faults: random.below(3) > 0,
            disabled: kernel.snapshot(),
            loaded: [const { None }; MODULES.len()],
            calls_before: Vec::new(),
            log,
            random,
            kernel,
            engine,
            sites,
        }
    }

    fn rules(&mut self) -> Rules {
        if self.random.one_in(12) {
            return Rules(Vec::new());
        }
        let count = 1 + self.random.below(3);
        let rule = |random: &mut Random, names: &[String]| {
            let sign = if random.one_in(4) { "!" } else { "" };
            format!("{sign}{}", random.of(names))
        };
        Rules((0..count).map(|_| rule(&mut self.random, &self.names)).collect())
    }

    /// Something goes wrong in the next step, perhaps.
    fn set_fault(&mut self) -> Option<Fault> {
        let call = |site: &Site| self.kernel.word(site.callsite.call_addr());
        self.calls_before = self.spec.sites.iter().map(call).collect();
        if !self.faults || !self.random.one_in(4) {
            return None;
        }
        let number = self.random.below(8);
        let all = [
            Fault::Write(number),
            Fault::Alias(self.random.below(6)),
            Fault::AliasesFrom(self.random.below(7)),
            Fault::Batch,
            Fault::Round(self.random.below(3)),
            Fault::Cpu(3),
            Fault::Busy(2),
        ];
        let fault = self.random.of(&all);
        self.kernel.set_fault(Some(fault));
        Some(fault)
    }

    fn step(&mut self) {
        let number = self.random.below(OPS);
        match self.random.below(10) {
            0..=2 => self.register(number),
            3 => self.unregister(number),
            4..=5 => self.set_filter(number),
            6 => self.modify_direct(number),
            7..=8 => self.add(),
            _ => self.remove(),
        }
    }

    /// Looks at a result that is not what it would have been without a fault.
    fn failed(error: RegisterError, fault: Option<Fault>) -> Outcome {
        assert!(fault.is_some(), "{error:?}");
        match error {
            RegisterError::Text { error: PokeError { undone: Undone::Entirely, .. }, .. } => Outcome::Failed,
            RegisterError::Text { error: PokeError { undone: Undone::AllBut(_), .. }, .. } => Outcome::Half,
            other => panic!("{other:?}"),
        }
    }

    /// What became of a step that asked for `wanted`, or should have been refused with one of its errors.
    fn outcome(
        &mut self,
        result: Result<usize, RegisterError>,
        wanted: Result<(usize, Spec), Vec<RegisterError>>,
        fault: Option<Fault>,
    ) -> Outcome {
        match (result, wanted) {
            (Ok(count), Ok((expected, spec))) => {
                assert_eq!(count, expected);
                self.spec = spec;
                Outcome::Settled
            }
            (Err(error), Err(errors)) if errors.contains(&error) => Outcome::Settled,
            (Err(RegisterError::NotQuiescent(_)), Ok((_, spec))) if matches!(fault, Some(Fault::Busy(_))) => {
                self.spec = spec;
                Outcome::Settled
            }
            (Err(error), Ok((_, spec))) => {
                let outcome = Self::failed(error, fault);
                self.kernel.repair();
                if matches!(outcome, Outcome::Half) {
                    self.take_what_is_done(&spec);
                }
                outcome
            }
            (Ok(count), Err(errors)) => panic!("{count} instead of {errors:?}"),
            (Err(error), Err(errors)) => panic!("{error:?} instead of {errors:?}"),
        }
    }

    /// A callsite that could not be put back is as it should have become.
    fn take_what_is_done(&mut self, wanted: &Spec) {
        let sites = self.spec.sites.iter_mut().zip(&wanted.sites).zip(&self.calls_before);
        for ((site, wanted), before) in sites {
            if self.kernel.word(site.callsite.call_addr()) != *before {
                site.members.clone_from(&wanted.members);
            }
        }
    }

    fn register(&mut self, number: usize) {
        let rules = self.rules();
        let mut spec = self.spec.clone();
        let wanted = if self.spec.find(number).is_some() {
            Err(Vec::from([RegisterError::AlreadyRegistered]))
        } else {
            spec.registered.push(Registered { number, rules: rules.clone(), is_leaving: false });
            // Whatever it had when it was registered before.
            spec.known[number].trampoline = spec.known[number].first_trampoline();
            spec.place(number, &rules).map(|count| (count, spec.clone()))
        };
        let fault = self.set_fault();
        self.log.push(format!("register {number} for {rules:?} with {fault:?}"));
        let ops = self.spec.known[number].ops;
        let result = with(&rules, |filter| self.engine.register(ops, filter));
        let outcome = self.outcome(result, wanted, fault);
        let somewhere = self.spec.sites.iter().any(|site| site.members.contains(&number));
        if matches!(outcome, Outcome::Half) && somewhere {
            self.spec.registered = spec.registered;
        }
    }

    fn unregister(&mut self, number: usize) {
        let mut spec = self.spec.clone();
        let wanted = if self.spec.find(number).is_some() {
            let count = spec.clear(number);
            spec.registered.retain(|registered| registered.number != number);
            Ok((count, spec))
        } else {
            Err(Vec::from([RegisterError::NotRegistered]))
        };
        let fault = self.set_fault();
        self.log.push(format!("unregister {number} with {fault:?}"));
        let registered = self.spec.registered.clone();
        let result = self.engine.unregister(self.spec.known[number].ops);
        self.outcome(result, wanted, fault);
        if matches!(result, Err(RegisterError::NotQuiescent(_))) {
            self.spec.registered = registered;
            let leaving = self.spec.registered.iter_mut().find(|registered| registered.number == number);
            leaving.unwrap().is_leaving = true;
        }
    }

    fn set_filter(&mut self, number: usize) {
        let rules = self.rules();
        let mut spec = self.spec.clone();
        let wanted = match spec.registered.iter_mut().find(|registered| registered.number == number) {
            None => Err(Vec::from([RegisterError::NotRegistered])),
            Some(registered) => {
                registered.rules = rules.clone();
                registered.is_leaving = false;
                spec.place(number, &rules).map(|count| (count, spec))
            }
        };
        let fault = self.set_fault();
        self.log.push(format!("set filter of {number} to {rules:?} with {fault:?}"));
        let ops = self.spec.known[number].ops;
        let result = with(&rules, |filter| self.engine.set_filter(ops, filter));
        self.outcome(result, wanted, fault);
    }

    fn modify_direct(&mut self, number: usize) {
        let trampoline = TextAddr::new(self.random.of(&TRAMPOLINES));
        let mut spec = self.spec.clone();
        let wanted = match (self.spec.find(number), self.spec.known[number].trampoline) {
            (None, _) => Err(Vec::from([RegisterError::NotRegistered])),
            (_, None) => Err(Vec::from([RegisterError::NotDirect])),
            _ => {
                spec.known[number].trampoline = Some(trampoline);
                Ok((0, spec))
            }
        };
        let mut fault = self.set_fault();
        if matches!(fault, Some(Fault::AliasesFrom(_))) {
            // Half done, it would have two trampolines.
            self.kernel.repair();
            fault = None;
        }
        self.log.push(format!("modify {number} to {trampoline} with {fault:?}"));
        // SAFETY: nothing executes a fake's text.
        let result = unsafe { self.engine.modify_direct(self.spec.known[number].ops, trampoline) };
        self.outcome(result.map(|()| 0), wanted, fault);
    }

    fn add(&mut self) {
        let module = self.random.below(MODULES.len());
        if self.loaded[module].is_some() {
            return;
        }
        let compiled = self.kernel.module(module);
        let at = compiled.text;
        let before = self.words_of(module);
        let mut spec = self.spec.clone();
        let possible = spec.add_region(self.sites[module].clone());
        let fault = self.set_fault();
        self.log.push(format!("add module {module} with {fault:?}"));
        // SAFETY: nothing executes a fake's text.
        let result = unsafe { self.engine.add(compiled) };
        self.kernel.repair();
        match result {
            Ok(token) => {
                assert!(possible, "two that exclude each other are at one callsite");
                self.loaded[module] = Some(token);
                self.spec = spec;
            }
            Err(error) => {
                assert!(!possible || fault.is_some(), "{error}");
                assert_eq!(error.text, at);
                if !matches!(fault, Some(Fault::AliasesFrom(_))) {
                    assert!(self.words_of(module) == before, "{error}");
                }
            }
        }
    }

    fn remove(&mut self) {
        let module = self.random.below(MODULES.len());
        let Some(token) = self.loaded[module].take() else { return };
        let mut fault = self.set_fault();
        if matches!(fault, Some(Fault::AliasesFrom(_))) {
            self.kernel.repair();
            fault = None;
        }
        self.log.push(format!("remove module {module} with {fault:?}"));
        let result = self.engine.remove(token);
        self.kernel.repair();
        let in_module = |site: &Site| site.region == module + 1;
        match result {
            Ok(()) => self.spec.sites.retain(|site| !in_module(site)),
            Err(NotRemoved { token, error }) => {
                self.loaded[module] = Some(token);
                assert!(fault.is_some(), "{error}");
                if matches!(fault, Some(Fault::Busy(_))) {
                    let sites = self.spec.sites.iter_mut().filter(|site| in_module(site));
                    sites.for_each(|site| site.members.clear());
                }
            }
        }
    }

    /// The places in a snapshot of a module's words.
    fn place_of(&self, module: usize) -> usize {
        let page = ALIAS_BYTES as usize / 4;
        self.disabled.len() - (MODULES.len() - module) * page
    }

    fn words_of(&self, module: usize) -> Vec<u32> {
        let start = self.place_of(module);
        self.kernel.snapshot()[start..start + ALIAS_BYTES as usize / 4].to_vec()
    }

    /// Sees that everything is as it should be.
    fn check(&self) {
        self.spec.check(self.kernel);
        // But for the callsites, text is as it was.
        let mut now = self.kernel.snapshot();
        let mut expected = self.disabled.clone();
        for site in &self.spec.sites {
            let base = if site.region == 0 { BASE } else { MODULES[site.region - 1].0 };
            let start = if site.region == 0 { 0 } else { self.place_of(site.region - 1) };
            let place = start + (site.callsite.mov_addr().get() - base) as usize / 4;
            now[place..place + 2].fill(NOP);
            expected[place..place + 2].fill(NOP);
        }
        for module in (0..MODULES.len()).filter(|module| self.loaded[*module].is_none()) {
            let start = self.place_of(module);
            now.splice(
                start..start + ALIAS_BYTES as usize / 4,
                self.disabled[start..][..ALIAS_BYTES as usize / 4].to_vec(),
            );
        }
        assert!(now == expected, "something else was written");
        let check = self.engine.check_text();
        let enabled = self.spec.sites.iter().filter(|site| !site.members.is_empty()).count();
        assert_eq!((check.wrong, check.enabled), (0, enabled));
        assert_eq!(check.disabled, self.spec.sites.len() - enabled);
    }

    /// Takes everything away, and sees that nothing is left.
    fn end(&mut self) {
        self.kernel.repair();
        for registered in core::mem::take(&mut self.spec.registered) {
            let count = self.spec.clear(registered.number);
            assert_eq!(self.engine.unregister(self.spec.known[registered.number].ops), Ok(count));
            self.check();
        }
        for token in self.loaded.iter_mut().filter_map(Option::take) {
            self.engine.remove(token).unwrap();
        }
        assert_eq!(self.kernel.snapshot()[..self.place_of(0)], self.disabled[..self.place_of(0)]);
        assert_eq!(stubs_left(&self.engine), (0, 0));
        assert_eq!(self.engine.lock().members.iter().count(), 0);
    }
}

/// Ops of every kind.
fn known(random: &mut Random) -> Vec<Known> {
    let flags = [OpsFlags::SAVE_REGS, OpsFlags::RECURSION_SAFE, OpsFlags::IPMODIFY];
    let made = (0..OPS).map(|number| {
        let likely = [4, 3, 6];
        let set = flags.into_iter().zip(likely).filter(|(_, likely)| random.one_in(*likely)).map(|(flag, _)| flag);
        let flags = set.collect();
        let trampoline = (number % 4 == 3).then(|| TextAddr::new(random.of(&TRAMPOLINES)));
        let ops = match trampoline {
            // SAFETY: nothing executes a fake's text.
            Some(trampoline) => unsafe { Ops::direct(trampoline) },
            None => Ops::new(if random.one_in(2) { callback } else { other }),
        };
        Known { ops: Box::leak(Box::new(ops.with_flags(flags))), trampoline }
    });
    made.collect()
}

fn with<R>(rules: &Rules, use_it: impl FnOnce(&Filter<'_>) -> R) -> R {
    let rules: Vec<Rule<'_>> = rules.0.iter().map(|rule| Rule::parse(rule).unwrap()).collect();
    use_it(&Filter::new(&rules))
}

fn run(seed: u64, log: &mut Vec<String>) {
    let mut world = World::new(seed, log);
    for _ in 0..STEPS {
        world.step();
        world.kernel.repair();
        world.kernel.take_events();
        world.check();
    }
    world.end();
}

#[test]
fn after_each_of_many_random_steps_text_is_what_the_specification_says() {
    for seed in 0..sequences() {
        let mut log = Vec::new();
        let result = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| run(seed, &mut log)));
        assert!(result.is_ok(), "seed {seed}: {log:#?}");
    }
}
