//! The ways in which a kernel is built and booted, by name.
//!
//! This table is the one place that knows them: builds, boots, tests and the help text all read it.

use std::fmt;

use serde::Deserialize;

/// How much room a function has at its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nops {
    /// Two NOPs after the function's symbol.
    Two,
    /// Two NOPs after the function's symbol, and two before it, which can hold a pointer.
    TwoAndTwoBefore,
}

/// A defence that the compiler builds in and that callsites must live with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hardening {
    /// Landing pads for indirect branches, and signed return addresses.
    BtiPac,
    /// A type's hash before each function, checked by indirect calls.
    Kcfi,
}

/// How much the compiler optimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// One way to build and boot a kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) target: &'static str,
    pub(crate) nops: Nops,
    pub(crate) hardening: &'static [Hardening],
    pub(crate) profile: Profile,
    /// The CPU for QEMU.
    pub(crate) cpu: &'static str,
}

/// The target whose kernels use floating-point and vector registers freely.
pub(crate) const HARD_FLOAT: &str = "aarch64-unknown-none";
/// The target whose kernels never touch them.
pub(crate) const SOFT_FLOAT: &str = "aarch64-unknown-none-softfloat";

/// A CPU without branch targets and pointer authentication.
const PLAIN_CPU: &str = "cortex-a72";
/// A CPU with everything. The architected hash of pointer authentication is very slow in QEMU, so another one is taken.
const FULL_CPU: &str = "max,pauth-impdef=on";

use Hardening::{BtiPac, Kcfi};
use Nops::{Two, TwoAndTwoBefore};
use Profile::{Dev, Release};

/// Every variant. `cargo xtask test` builds and boots all of them in this order.
pub(crate) static VARIANTS: [Variant; 10] = [
    Variant::new("nop2-release", HARD_FLOAT, Two, &[], Release, PLAIN_CPU),
    Variant::new("nop2-dev", HARD_FLOAT, Two, &[], Dev, PLAIN_CPU),
    Variant::new("nop42-release", HARD_FLOAT, TwoAndTwoBefore, &[], Release, PLAIN_CPU),
    Variant::new("nop42-dev", HARD_FLOAT, TwoAndTwoBefore, &[], Dev, PLAIN_CPU),
    Variant::new("bti2-release", HARD_FLOAT, Two, &[BtiPac], Release, FULL_CPU),
    Variant::new("bti42-release", HARD_FLOAT, TwoAndTwoBefore, &[BtiPac], Release, FULL_CPU),
    Variant::new("kcfi2-release", HARD_FLOAT, Two, &[Kcfi], Release, PLAIN_CPU),
    Variant::new("kcfi42-release", HARD_FLOAT, TwoAndTwoBefore, &[Kcfi], Release, PLAIN_CPU),
    Variant::new("hardened42-release", HARD_FLOAT, TwoAndTwoBefore, &[BtiPac, Kcfi], Release, FULL_CPU),
    Variant::new("softfloat2-release", SOFT_FLOAT, Two, &[], Release, PLAIN_CPU),
];

/// A set of variants.
type Group = fn(&Variant) -> bool;

/// Sets of variants by name, for kernels that need not boot in all.
const GROUPS: [(&str, Group); 3] = [
    ("optimised", |variant| variant.profile == Release),
    // One of each way in which a callsite and what a stub saves are laid out.
    ("layouts", |variant| variant.profile == Release && !["bti42-release", "kcfi42-release"].contains(&variant.name)),
    // With and without floating-point registers to be saved.
    ("float-abis", |variant| ["nop2-release", "softfloat2-release"].contains(&variant.name)),
];

/// Which variants a kernel boots in: names of groups and of variants, and with `!` before them, of those that are left
/// out of what came before. All where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub(crate) struct Variants(Option<Vec<&'static str>>);

impl Variants {
    pub(crate) fn contains(&self, variant: &Variant) -> bool {
        self.0.as_ref().is_none_or(|names| names.contains(&variant.name))
    }
}

impl TryFrom<Vec<String>> for Variants {
    type Error = String;

    fn try_from(words: Vec<String>) -> Result<Self, String> {
        let mut names: Vec<&'static str> = Vec::new();
        for word in &words {
            let (is_out, name) = word.strip_prefix('!').map_or((false, word.as_str()), |name| (true, name));
            let members: Vec<&'static str> = match GROUPS.iter().find(|(group, _)| *group == name) {
                Some((_, group)) => {
                    VARIANTS.iter().filter(|variant| group(variant)).map(|variant| variant.name).collect()
                }
                None => vec![Variant::named(name)?.name],
            };
            names.retain(|name| !members.contains(name));
            if !is_out {
                names.extend(members);
            }
        }
        Ok(Self(Some(names)))
    }
}

impl Variant {
    const fn new(
        name: &'static str,
        target: &'static str,
        nops: Nops,
        hardening: &'static [Hardening],
        profile: Profile,
        cpu: &'static str,
    ) -> Self {
        Self { name, target, nops, hardening, profile, cpu }
    }

    /// The variant that is meant where none is named.
    pub(crate) fn default() -> &'static Self {
        &VARIANTS[0]
    }

    /// The variant of this name, as the command line gives it.
    pub(crate) fn named(name: &str) -> Result<&'static Self, String> {
        VARIANTS.iter().find(|variant| variant.name == name).ok_or_else(|| {
            let names: Vec<_> = VARIANTS.iter().map(|variant| variant.name).collect();
            format!("there is no variant of that name; there are: {}", names.join(", "))
        })
    }

    /// The compiler flags that come after those of `.cargo/config.toml`; of two that contradict, the later holds.
    pub(crate) fn rustflags(&self) -> Vec<&'static str> {
        let mut flags = vec![match self.nops {
            Two => "-Zpatchable-function-entry=2",
            TwoAndTwoBefore => "-Zpatchable-function-entry=4,2",
        }];
        for hardening in self.hardening {
            flags.extend_from_slice(match hardening {
                BtiPac => &["-Zbranch-protection=bti,pac-ret"],
                // LLVM merges functions of one body without comparing their types' hashes. Numbers have the hashes of C's.
                Kcfi => &["-Zsanitizer=kcfi", "-Zsanitizer-cfi-normalize-integers", "-Zmerge-functions=disabled"],
            });
        }
        flags
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_own_variant() {
        for variant in &VARIANTS {
            assert_eq!(Variant::named(variant.name), Ok(variant));
        }
        assert!(Variant::named("nop3").unwrap_err().contains("nop2-release"));
    }

    fn members(words: &[&str]) -> Result<Vec<&'static str>, String> {
        let variants = Variants::try_from(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())?;
        Ok(VARIANTS.iter().filter(|variant| variants.contains(variant)).map(|variant| variant.name).collect())
    }

    #[test]
    fn groups_and_names_make_a_set_of_variants() {
        let layouts =
            ["nop2", "nop42", "bti2", "kcfi2", "hardened42", "softfloat2"].map(|name| format!("{name}-release"));
        assert_eq!(members(&["layouts"]).unwrap(), layouts);
        assert_eq!(members(&["optimised"]).unwrap().len(), 8);
        let others = members(&["float-abis", "!softfloat2-release", "nop2-dev"]).unwrap();
        assert_eq!(others, ["nop2-release", "nop2-dev"]);
        assert!(VARIANTS.iter().all(|variant| Variants::default().contains(variant)));
        assert!(members(&["optimized"]).is_err() && members(&["!nop3"]).is_err());
    }

    #[test]
    fn names_say_what_the_variant_is() {
        for variant in &VARIANTS {
            assert_eq!(variant.name.ends_with("-dev"), variant.profile == Dev, "{variant}");
            assert_eq!(variant.name.contains("42-"), variant.nops == TwoAndTwoBefore, "{variant}");
            assert_eq!(variant.cpu == FULL_CPU, variant.hardening.contains(&BtiPac), "{variant}");
        }
    }
}
