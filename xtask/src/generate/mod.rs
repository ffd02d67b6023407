//! `cargo xtask generate`: what is made from the tables in `abi`, so that it
//! cannot say anything else.

mod header;
mod reference;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::paths;

/// Make the reference page and the C header from the table of services.
#[derive(clap::Args)]
pub struct Args {}

/// Each file and its text.
fn files() -> [(PathBuf, String); 2] {
    let root = paths::workspace();
    [
        (root.join("docs/SERVICES.md"), reference::text()),
        (root.join("guest/include/underlay.h"), header::text()),
    ]
}

/// `cargo xtask generate`.
pub fn command(_: &Args) -> Result<()> {
    for (path, text) in files() {
        if let Some(dir) = path.parent() {
            paths::create_dir(dir)?;
        }
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        println!("{}", paths::shown(&path));
    }
    Ok(())
}

/// Those files that are not what the tables say.
pub fn stale() -> Result<Vec<String>> {
    let stale = files().into_iter().filter(|(path, text)| {
        let found = fs::read_to_string(path);
        !found.is_ok_and(|found| found == *text)
    });
    Ok(stale
        .map(|(path, _)| format!("{}: run cargo xtask generate", paths::shown(&path)))
        .collect())
}
