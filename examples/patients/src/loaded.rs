//! The list of modules, behind a lock: whoever walks through a module holds it, so that the module can't go meanwhile.

use alloc::format;
use alloc::string::{String, ToString};

use fentry::inject::Injectable;
use fentry::module::{LoadError, ModuleId, Modules};
use loading::{load, modules, unload};
use spin::Mutex;
use support::engine;

/// Where the modules are placed: beyond BL's reach of the kernel, so that calls go through veneers.
const PLACE: u64 = 0x5020_0000;

/// The list of modules; none before the first one is loaded.
struct List(Option<Modules<'static>>);

// SAFETY: its pointers are to memory of the kernel's that every CPU can use.
unsafe impl Send for List {}

static LIST: Mutex<List> = Mutex::new(List(None));

/// Gives the list to `look`. Nothing of a module may be called in it that hooks walk from.
pub fn with_list<R>(look: impl FnOnce(&mut Modules<'static>) -> R) -> R {
    look(LIST.lock().0.get_or_insert_with(modules))
}

/// A module that is loaded. It is not unloaded where this is dropped.
#[derive(Debug)]
pub struct Loaded {
    id: ModuleId,
    name: &'static str,
}

impl Loaded {
    /// Loads the module of this name.
    ///
    /// # Errors
    ///
    /// As for [`Modules::load`].
    pub fn new(name: &'static str) -> Result<Self, LoadError> {
        let id = with_list(|list| load(list, name, PLACE))?;
        Ok(Self { id, name })
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// How many functions of it can be traced.
    pub fn functions(&self) -> usize {
        with_list(|list| list.get(self.id).map_or(0, |module| module.callsites().len()))
    }

    /// Where what it exports by this name is.
    ///
    /// # Panics
    ///
    /// It exports no such thing.
    pub fn export(&self, name: &str) -> *const () {
        let address = with_list(|list| list.get(self.id).and_then(|module| module.export(name)));
        let address = address.unwrap_or_else(|| panic!("{} exports no {name}", self.name));
        core::ptr::with_exposed_provenance(address as usize)
    }

    /// Gives `look` what of the module may be made to fail.
    pub fn with_injectables<R>(&self, look: impl FnOnce(&mut dyn Iterator<Item = Injectable<'_>>) -> R) -> R {
        with_list(|list| {
            let module = list.get(self.id).unwrap_or_else(|| panic!("{} is not loaded", self.name));
            look(&mut Injectable::of_module(module))
        })
    }

    /// Unloads it.
    ///
    /// # Safety
    ///
    /// 1. Nothing of it is called any more, and what was exported is used no more.
    pub unsafe fn unload(self) {
        with_list(|list| unload(list, self.id));
    }
}

/// The function that an address is in, with the module's name behind it; the address where nobody knows. Takes the engine's lock.
pub fn function_at(address: u64) -> String {
    let (engine, _) = engine();
    let mut name = engine.symbols().and_then(|symbols| symbols.lookup_addr(address)).map(|at| short(at.symbol.name));
    engine.for_each_module(|module| {
        let found = module.symbols.filter(|_| module.text.contains(address.into()));
        let found = found.and_then(|symbols| symbols.lookup_addr(address));
        name = found.map(|at| format!("{} [{}]", short(at.symbol.name), module.name)).or(name.take());
    });
    name.unwrap_or_else(|| format!("{address:#x}"))
}

/// A name without what is between angle brackets, but for a type at its beginning: `Vec::push` of `<Vec<u8>>::push`.
fn short(name: &str) -> String {
    let (mut short, mut depth) = (String::new(), 0_usize);
    for letter in name.chars() {
        match letter {
            '<' if short.is_empty() => {}
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ if depth == 0 => short.push(letter),
            _ => {}
        }
    }
    short.replace("::::", "::").trim_end_matches("::").to_string()
}
