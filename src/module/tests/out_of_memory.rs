//! A heap that is used up at each allocation in turn: an error, and nothing left.

use super::fixture::{BL, Host, JIFFIES, KERNEL, Maker, PRINTK, RET, sample};
use super::heap::{self, After, spared};
use crate::address::{TextAddr, TextRange};
use crate::fakes::FakeKernel;
use crate::module::{
    Allocation, Erratum843419, Exports, Kernel, LoadError, MemoryError, ModuleMemory, Modules, NewRegion, NotRemoved,
    Permission, Placement, RegionError, RegionToken, Regions, Request,
};
use crate::platform::{AliasError, ContextBase, CpuTimeout, Platform};
use crate::symbols::{Convention, Function, OwnedSymbols, encode};
use crate::text::{CacheType, InterruptMask, Machine};
use core::ptr::NonNull;
use object::{SectionKind, elf};
use std::string::String;
use std::vec::Vec;

/// The kernel around the loader, which has all the memory that it wants.
struct Spared<'a>(&'a Host);

// SAFETY: everything is passed on.
unsafe impl ModuleMemory for Spared<'_> {
    fn allocate(&self, request: &Request) -> Result<Allocation, MemoryError> {
        spared(|| self.0.memory.allocate(request))
    }

    unsafe fn protect(&self, allocation: &Allocation, permission: Permission) -> Result<(), MemoryError> {
        // SAFETY: our caller keeps the contract of this same method.
        spared(|| unsafe { self.0.memory.protect(allocation, permission) })
    }

    unsafe fn free(&self, allocation: Allocation) {
        // SAFETY: our caller keeps the contract of this same method.
        spared(|| unsafe { self.0.memory.free(allocation) });
    }
}

// SAFETY: everything is passed on.
unsafe impl Regions for Spared<'_> {
    unsafe fn add(&self, region: NewRegion<'_>) -> Result<RegionToken, RegionError> {
        // SAFETY: our caller keeps the contract of this same method.
        spared(|| unsafe { self.0.regions.add(region) })
    }

    fn remove(&self, region: RegionToken) -> Result<(), NotRemoved> {
        spared(|| self.0.regions.remove(region))
    }
}

/// A platform and a CPU that note nothing.
struct Silent(&'static FakeKernel);

// SAFETY: everything that is asked for here is passed on, or done by a single CPU that there is.
unsafe impl Platform for Silent {
    fn context_base(&self) -> ContextBase {
        self.0.context_base()
    }

    fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
        self.0.map_alias(page)
    }

    fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
        Ok(())
    }

    fn quiesce(&self, _: &[TextRange]) -> Result<(), CpuTimeout> {
        Ok(())
    }
}

/// Stands in for a call of a module's function.
///
/// # Safety
///
/// None: nothing is called.
unsafe fn succeed(_: TextAddr) -> i32 {
    0
}

// SAFETY: what reads or writes is passed on; caches that nobody fetches from need no maintenance.
unsafe impl Machine for Silent {
    unsafe fn load(&self, at: TextAddr) -> u32 {
        // SAFETY: our caller keeps the contract of this same method.
        unsafe { self.0.load(at) }
    }

    unsafe fn load_alias(&self, alias: NonNull<u32>) -> u32 {
        // SAFETY: as above.
        unsafe { self.0.load_alias(alias) }
    }

    unsafe fn store(&self, alias: NonNull<u32>, word: u32) {
        // SAFETY: as above.
        unsafe { self.0.store(alias, word) };
    }

    fn cache_type(&self) -> CacheType {
        self.0.cache_type()
    }

    unsafe fn clean_data_line(&self, _: TextAddr) {}

    unsafe fn clean_and_invalidate_data_line(&self, _: TextAddr) {}

    unsafe fn invalidate_instruction_line(&self, _: TextAddr) {}

    fn complete(&self) {}

    fn synchronize(&self) {}

    fn mask_interrupts(&self) -> InterruptMask {
        self.0.mask_interrupts()
    }

    unsafe fn restore_interrupts(&self, mask: InterruptMask) {
        // SAFETY: as above.
        unsafe { self.0.restore_interrupts(mask) };
    }
}

fn load(modules: &mut Modules<'_>, name: &str, file: &[u8]) -> Result<(), LoadError> {
    // SAFETY: nothing of a module is executed here.
    let id = unsafe { modules.load(name, file, Placement::Anywhere) }?;
    // SAFETY: as above.
    unsafe { modules.unload(id) }.map_err(|_| LoadError::Heap)
}

/// A file for each error that has a name in it, and one that is loaded.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let unresolved = {
        let mut maker = Maker::new();
        let text = maker.text();
        let names: Vec<String> = (0..30).map(|number| std::format!("missing_{}", number % 25)).collect();
        let (_, at) = maker.function(text, "caller", &[BL; 30]);
        for (offset, name) in (at + 8..).step_by(4).zip(names) {
            let symbol = maker.undefined(&name);
            maker.relocate(text, offset, 283, symbol, 0);
        }
        maker.write()
    };
    let taken = {
        let mut maker = Maker::new();
        let text = maker.text();
        let (function, _) = maker.function(text, "ticks", &[]);
        maker.export("printk", function);
        maker.write()
    };
    let writable_text = {
        let mut maker = Maker::new();
        let flags = elf::SHF_ALLOC | elf::SHF_WRITE | elf::SHF_EXECINSTR;
        let section = maker.section(".odd", SectionKind::Text, flags);
        maker.words(section, &[RET]);
        maker.write()
    };
    let misfit = {
        let mut maker = Maker::new();
        let text = maker.text();
        let printk = maker.undefined("printk");
        maker.words(text, &[RET]);
        maker.relocate(text, 0, 283, printk, 0);
        maker.write()
    };
    std::vec![
        ("sample", sample()),
        ("unresolved", unresolved),
        ("taken", taken),
        ("writable text", writable_text),
        ("misfit", misfit),
    ]
}

#[test]
fn out_of_memory_at_every_allocation_leaves_nothing() {
    let mut counts = Vec::new();
    // Miri takes thousands of times as long.
    let step = if cfg!(miri) { 23 } else { 1 };
    for (name, file) in files() {
        let host = Host::new(KERNEL + 0x1000_0000);
        let (spared, silent) = (Spared(&host), Silent(host.machine));
        let kernel = Kernel {
            memory: &spared,
            platform: &silent,
            machine: &silent,
            regions: &spared,
            erratum_843419: Erratum843419::Present,
            call: succeed,
        };
        let mut modules = Modules::new(kernel, Exports::new([("printk", PRINTK), ("jiffies", JIFFIES)]).unwrap());
        // Once before, so that what stays for the next module is there.
        let wanted = load(&mut modules, name, &file);
        for after in [After::Room, After::NoRoom] {
            let mut number = 0;
            loop {
                let before = heap::live();
                let (found, reached) = heap::without(number, after, || load(&mut modules, name, &file));
                if !reached {
                    assert_eq!(found, wanted, "{name}");
                    break;
                }
                assert_eq!(found, Err(LoadError::Heap), "{name}, allocation {number}, {after:?}");
                assert_eq!(heap::live(), before, "{name}, allocation {number}, {after:?}");
                assert_eq!(host.memory.lent_bytes(), 0, "{name}, allocation {number}");
                assert!(host.regions.regions.lock().unwrap().is_empty(), "{name}, allocation {number}");
                assert_eq!(modules.iter().count(), 0);
                number += step;
            }
            counts.push(number);
        }
    }
    // Lists of sections and symbols in each; names, veneers, entries and symbol tables in what is loaded.
    assert!(counts.iter().all(|count| *count >= 3) && counts[0] >= 20, "{counts:?}");
}

#[test]
fn a_table_of_names_is_freed_with_what_it_was_given_to() {
    let name = String::from("draw");
    let function = Function { name, addr: 0x1000, size: 0x40, convention: Convention::Base };
    let table = encode(&[function], 0).unwrap();
    let before = heap::live();
    assert!(OwnedSymbols::parse(table.clone().into_boxed_slice()).is_ok());
    assert!(OwnedSymbols::parse(table[1..].into()).is_err());
    assert_eq!(heap::live(), before);
}

#[test]
fn exports_may_find_the_heap_used_up() {
    let exports = || (0..100).map(|number| (["a", "b"][number % 2], number as u64));
    for number in 0.. {
        let (found, reached) = heap::without(number, After::NoRoom, || Exports::new(exports()).map(|_| ()));
        let wanted =
            if reached { LoadError::Heap } else { LoadError::DuplicateExport { name: String::from("a"), owner: None } };
        assert_eq!(found, Err(wanted), "allocation {number}");
        if !reached {
            assert!(number >= 5, "{number} allocations");
            break;
        }
    }
}
