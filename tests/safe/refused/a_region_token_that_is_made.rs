//! A token says that the engine has a region, which can be taken out once.
use fentry::module::RegionToken;

fn made() -> RegionToken {
    RegionToken(7)
}

fn main() {}
