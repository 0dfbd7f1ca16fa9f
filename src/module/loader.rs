//! The list of loaded modules: loading, starting, use counts, unloading.

use super::error::{LoadError, StartError, UnloadError, owned};
use super::export::Exports;
use super::export_records;
use super::injectable_records::{self, Listed};
use super::kernel::Kernel;
use super::layout::SegmentLayout;
use super::link::Linking;
use super::memory::{Placement, Segment};
use super::names::function_names;
use super::object::Object;
use super::place::{KeptMemory, Placed};
use super::regions::NewRegion;
use super::resolve::{SymbolValues, functions};
use super::tables::LinkTables;
use super::unwind::{self, ModuleTable};
use crate::address::{TextAddr, TextRange};
use crate::context::unwind::UnwindTable;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// The symbol of a module's init function.
pub const INIT: &str = "fentry_module_init";
/// The symbol of a module's exit function.
pub const EXIT: &str = "fentry_module_exit";

/// A loaded module, by a number that no other module gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId(u64);

/// A loaded module.
#[derive(Debug)]
pub struct Module<'k> {
    id: ModuleId,
    name: String,
    placed: Placed<'k>,
    /// Sorted by name, and no name is there twice.
    exports: Vec<(String, u64)>,
    uses: Vec<ModuleId>,
    holders: usize,
    exit: Option<TextAddr>,
    callsites: Vec<u64>,
    stub_veneers: Option<TextRange>,
    unwind_table: Option<ModuleTable>,
    injectables: Vec<Listed>,
}

impl Module<'_> {
    /// Returns the module's number.
    pub fn id(&self) -> ModuleId {
        self.id
    }

    /// Returns the module's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a segment's addresses; empty where the module has no such segment, or has it no more.
    ///
    /// An init segment that is still there holds text whose tracing could not be ended; unloading tries again.
    pub fn range(&self, segment: Segment) -> TextRange {
        self.placed.range(segment)
    }

    /// Finds the address that the module exports by this name.
    pub fn export(&self, name: &str) -> Option<u64> {
        let at = self.exports.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        Some(self.exports[at].1)
    }

    /// Iterates over what the module exports, by name.
    pub fn exports(&self) -> impl Iterator<Item = (&str, u64)> {
        self.exports.iter().map(|(name, address)| (name.as_str(), *address))
    }

    /// Returns the entries of the module's callsites, each once and sorted; init text's are left out.
    ///
    /// [`Engine::for_each_refusal`](crate::Engine::for_each_refusal) says which of them can't be traced, and why.
    pub fn callsites(&self) -> &[u64] {
        &self.callsites
    }

    /// Returns the room for veneers to stubs; none where the module has no text.
    pub fn stub_veneers(&self) -> Option<TextRange> {
        self.stub_veneers
    }

    /// Returns the room for all veneers, of which that for those to stubs is the first part; empty where the module has no text.
    pub fn veneers(&self) -> TextRange {
        let text = self.range(Segment::Text);
        self.stub_veneers.map_or(TextRange::EMPTY, |first| TextRange::new(first.start, text.end))
    }

    /// What may be made to fail, for [`Injectable::of_module`](crate::inject::Injectable::of_module).
    pub(crate) fn injectables(&self) -> &[Listed] {
        &self.injectables
    }

    /// Returns the table by which an [`Unwinder`](crate::context::unwind::Unwinder) walks through the module's functions; none
    /// where the object has none. It says nothing of init text and of [`veneers`](Self::veneers).
    ///
    /// It is borrowed of the list of modules. So whoever walks keeps every module from being unloaded, and the text that the
    /// table is about stays mapped; and where a walk can't have the list, as in a fault that came while a module was loaded,
    /// it goes without, and the frames in modules are doubtful.
    ///
    /// ```compile_fail,E0502
    /// # use fentry::module::{ModuleId, Modules, UnloadError};
    /// # unsafe fn unload(modules: &mut Modules<'_>, id: ModuleId) -> Result<(), UnloadError> {
    /// let table = modules.get(id).and_then(|module| module.unwind_table());
    /// // SAFETY: nobody uses it any more.
    /// unsafe { modules.unload(id)? };
    /// // The table is used after the module has gone: this does not compile.
    /// println!("{table:?}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn unwind_table(&self) -> Option<UnwindTable<'_>> {
        self.unwind_table.as_ref()?.get()
    }
}

/// The loaded modules.
#[derive(Debug)]
pub struct Modules<'k> {
    kernel: Kernel<'k>,
    exports: Exports<'k>,
    loaded: Vec<Module<'k>>,
    next_id: u64,
}

impl<'k> Modules<'k> {
    /// Makes an empty list.
    pub const fn new(kernel: Kernel<'k>, exports: Exports<'k>) -> Self {
        Self { kernel, exports, loaded: Vec::new(), next_id: 0 }
    }

    /// Loads and starts a module.
    ///
    /// # Errors
    ///
    /// [`LoadError`]; nothing is left of the module then, unless it is [`LoadError::Kept`].
    ///
    /// # Safety
    ///
    /// A wrong file is an error; a wrong program isn't noticed. The caller promises:
    ///
    /// 1. The object's code is sound in this kernel, as the kernel's own: its init function is called here and now, and what
    ///    it exports is called by modules after it.
    /// 2. What the kernel and the loaded modules export is what the object takes it for.
    /// 3. [`Kernel::call`] calls the function that it is given, as [`call`](super::call) does.
    /// 4. Once its init function has returned, nothing uses the object's init sections any more, which are freed; if it has
    ///    returned another number than 0, nothing uses anything of it.
    pub unsafe fn load(&mut self, name: &str, file: &[u8], placement: Placement) -> Result<ModuleId, LoadError> {
        if self.find(name).is_some() {
            return Err(LoadError::AlreadyLoaded(owned(name)?));
        }
        self.loaded.try_reserve(1)?;
        let object = Object::parse(file)?;
        let (mut module, init) = self.link(name, &object, placement)?;
        // SAFETY: 1. `link` has just made the two, and nothing of the module has run. 2. Our caller's first three promises.
        if let Err(cause) = unsafe { self.start(&mut module, init) } {
            return Err(match module.placed.give_up() {
                Ok(()) => cause.into(),
                Err(KeptMemory { error, bytes }) => LoadError::Kept { cause, error, bytes },
            });
        }
        // SAFETY: init has returned, and nothing else ran there; that nobody has a pointer there is our caller's fourth
        // promise.
        if let Err(error) = unsafe { module.placed.free_init() } {
            log::warn!("fentry: the init sections of module {name} are kept until it is unloaded: {error}");
        }
        let id = module.id;
        self.next_id += 1;
        self.loaded.push(module);
        log::debug!(
            "fentry: module {name} loaded at {}",
            self.get(id).map_or(TextRange::EMPTY, |m| m.range(Segment::Text))
        );
        Ok(id)
    }

    /// Places and links a module, up to the point where it could run.
    fn link(&self, name: &str, object: &Object<'_>, placement: Placement) -> Result<(Module<'k>, Init), LoadError> {
        let Kernel { memory, platform, machine, regions, erratum_843419: erratum, .. } = self.kernel;
        let mut layout = SegmentLayout::of_sections(object, memory.page_bytes() as u64)?;
        let mut uses = Vec::new();
        let values = SymbolValues::resolve(object, &layout, |name| self.lookup(name, &mut uses))?;
        let tables = LinkTables::append_to(&mut layout, object, &values, erratum)?;

        let mut placed = Placed::allocate(memory, regions, &layout.bytes, placement)?;
        let mut linking = Linking::new(object, &layout, &tables, &values, &mut placed, erratum)?;
        let entries = linking.link()?;
        let veneers = [Segment::Text, Segment::InitText].map(|segment| linking.stub_veneers(segment));
        let unwind_table = unwind::table_of(object, &linking, linking.text())?;
        let exports = export_records::read(object, &layout, &placed, |name| self.check_not_exported(name))?;
        let injectables = injectable_records::read(object, &layout, &placed)?;
        placed.protect(machine, platform)?;
        platform.synchronize_cpus()?;

        let mut callsites = Vec::new();
        let mut texts = [None, None];
        let [text, init_text] = entries;
        callsites.try_reserve_exact(text.len())?;
        callsites.extend_from_slice(&text);
        // GCC and linkers list a function again.
        callsites.dedup();
        let of_segments = [(Segment::Text, text), (Segment::InitText, init_text)];
        for ((parts, (segment, entries)), veneers) in texts.iter_mut().zip(of_segments).zip(veneers) {
            let text = placed.range(segment);
            if let Some(veneers) = veneers.filter(|_| !entries.is_empty()) {
                let symbols = function_names(object, &layout, segment, text.start.get())?;
                *parts = Some(Parts { segment, text, entries, symbols, veneers });
            }
        }
        let places = functions(object, &layout, [INIT, EXIT])?;
        let [init, exit] = places.map(|place| place.map(|place| TextAddr::new(placed.address(place))));
        let init = Init { function: init, texts };
        let module = Module {
            id: ModuleId(self.next_id),
            name: owned(name)?,
            exit,
            placed,
            exports,
            uses,
            holders: 0,
            callsites,
            stub_veneers: veneers[0],
            unwind_table,
            injectables,
        };
        Ok((module, init))
    }

    /// Hands the module's texts to whoever traces, and calls the init function.
    ///
    /// # Safety
    ///
    /// 1. Both come from one call of [`link`](Self::link), and nothing of the module has run.
    /// 2. Calling the init function is sound.
    unsafe fn start(&self, module: &mut Module<'k>, init: Init) -> Result<(), StartError> {
        let Module { name, placed, .. } = module;
        for Parts { segment, text, entries, symbols, veneers } in init.texts.into_iter().flatten() {
            let region = NewRegion { module: name, text, entries, symbols, veneers };
            // SAFETY: (1) `link` made the parts, and has protected the module. (2) Nothing has run it; where this fails, the
            // module is given up before it does.
            unsafe { placed.hand_over(segment, region) }.map_err(StartError::Region)?;
        }
        // SAFETY: (1) The function is in the module's text, which is executable on every CPU since `link`. (2) Our caller's
        // second promise.
        match init.function.map_or(0, |function| unsafe { (self.kernel.call)(function) }) {
            0 => Ok(()),
            status => Err(StartError::Init(status)),
        }
    }

    /// Finds what the kernel or a module exports by this name, and notes the module in `uses`.
    fn lookup(&self, name: &str, uses: &mut Vec<ModuleId>) -> Result<Option<u64>, LoadError> {
        if let Some(address) = self.exports.get(name) {
            return Ok(Some(address));
        }
        let found = self.loaded.iter().find_map(|module| Some((module.id, module.export(name)?)));
        let Some((owner, address)) = found else { return Ok(None) };
        if !uses.contains(&owner) {
            uses.try_reserve(1)?;
            uses.push(owner);
        }
        Ok(Some(address))
    }

    /// Refuses a name that the kernel or a loaded module exports.
    fn check_not_exported(&self, name: &str) -> Result<(), LoadError> {
        let module = self.loaded.iter().find(|module| module.export(name).is_some());
        if module.is_none() && self.exports.get(name).is_none() {
            return Ok(());
        }
        let owner = module.map(|module| owned(&module.name)).transpose()?;
        Err(LoadError::DuplicateExport { name: owned(name)?, owner })
    }

    /// Stops and frees a module.
    ///
    /// # Errors
    ///
    /// [`UnloadError`]; the module is still there then.
    ///
    /// # Safety
    ///
    /// 1. No CPU executes the module's functions now or later, its exit function left aside, which is called here and now.
    ///    What else the module registered, its exit function takes back.
    /// 2. Once that has returned, nobody has a pointer into the module. A call that one of its ops has hooked and that is
    ///    still under way is not meant: it returns by the engine's own memory, if [`unregister`](crate::Engine::unregister)
    ///    has returned `Ok`.
    /// 3. [`Kernel::call`] calls the function that it is given.
    /// 4. That is so as well if this returns [`UnloadError::Region`] and is called again; the exit function is called once.
    pub unsafe fn unload(&mut self, id: ModuleId) -> Result<(), UnloadError> {
        let index = self.loaded.iter().position(|module| module.id == id).ok_or(UnloadError::NotLoaded)?;
        let users = self.users(id);
        if users > 0 {
            return Err(UnloadError::InUse { users });
        }
        // Not again, if its text can't be taken back and this is tried anew.
        if let Some(exit) = self.loaded[index].exit.take() {
            // SAFETY: (1) The function is in the module's text. (2) Our caller's first promise, and that it is sound is our
            // caller's word from when the module was loaded.
            unsafe { (self.kernel.call)(exit) };
        }
        self.loaded[index].placed.take_back_all().map_err(UnloadError::Region)?;
        // Nobody traces it any more, and nobody uses it: our caller's promises.
        drop(self.loaded.remove(index));
        Ok(())
    }

    /// Counts the modules that use this one's exports, and how often it is held.
    pub fn users(&self, id: ModuleId) -> usize {
        let users = self.loaded.iter().filter(|module| module.uses.contains(&id)).count();
        users + self.get(id).map_or(0, |module| module.holders)
    }

    /// Holds a module: it can't be unloaded until every hold was released. `None` where it isn't loaded.
    pub fn hold(&mut self, id: ModuleId) -> Option<()> {
        let module = self.loaded.iter_mut().find(|module| module.id == id)?;
        module.holders += 1;
        Some(())
    }

    /// Releases one hold of a module. `None` where it has none.
    pub fn release(&mut self, id: ModuleId) -> Option<()> {
        let module = self.loaded.iter_mut().find(|module| module.id == id)?;
        module.holders = module.holders.checked_sub(1)?;
        Some(())
    }

    /// Finds the module of this number.
    pub fn get(&self, id: ModuleId) -> Option<&Module<'k>> {
        self.loaded.iter().find(|module| module.id == id)
    }

    /// Finds the module of this name.
    pub fn find(&self, name: &str) -> Option<&Module<'k>> {
        self.loaded.iter().find(|module| module.name == name)
    }

    /// Finds the module whose text holds this address.
    pub fn at(&self, address: TextAddr) -> Option<&Module<'k>> {
        self.loaded.iter().find(|module| module.range(Segment::Text).contains(address))
    }

    /// Iterates over the modules, in the order of loading.
    pub fn iter(&self) -> impl Iterator<Item = &Module<'k>> {
        self.loaded.iter()
    }
}

impl Drop for Modules<'_> {
    fn drop(&mut self) {
        // Whoever drops the list doesn't promise that the modules are not in use: their memory stays.
        self.loaded.drain(..).for_each(core::mem::forget);
    }
}

/// What a module is started with.
struct Init {
    function: Option<TextAddr>,
    texts: [Option<Parts>; 2],
}

/// A text that will be handed to whoever traces.
struct Parts {
    segment: Segment,
    text: TextRange,
    entries: Vec<u64>,
    symbols: Box<[u8]>,
    veneers: TextRange,
}
