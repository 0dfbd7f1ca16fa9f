//! stub
use super::tools::Tools;
use anyhow::Result;
pub(super) fn renew(_: &Tools) -> Result<()> {
    Ok(())
}
