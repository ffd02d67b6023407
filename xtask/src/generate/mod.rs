//! `cargo xtask generate`: what is made from the tables in `abi`, and from what
//! was measured, so that it cannot say anything else.

mod costs;
mod header;
mod plot;
mod reference;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::bench::cost;
use crate::bench::loads;
use crate::paths;

/// Make the reference page and the C header from the table of services, and the
/// tables and the plot in bench/ from what was measured there.
#[derive(clap::Args)]
pub struct Args {}

/// A file and its text.
type Made = (PathBuf, String);

/// Everything.
fn files() -> Result<Vec<Made>> {
    let root = paths::workspace();
    let mut files = vec![
        (root.join("docs/SERVICES.md"), reference::text()),
        (root.join("guest/include/underlay.h"), header::text()),
    ];
    files.extend(measured()?);
    Ok(files)
}

/// What shows what was measured.
fn measured() -> Result<[Made; 2]> {
    let folder = paths::workspace().join("bench");
    let costs = cost::baseline()?;
    let rates = cost::saved(&loads::saved_path())?;
    let readme = folder.join("README.md");
    let text = fs::read_to_string(&readme)?;
    let text = costs::page(&text, &costs, &rates)?;
    Ok([
        (readme, text),
        (folder.join("costs.svg"), plot::text(&costs)),
    ])
}

fn write((path, text): &Made) -> Result<()> {
    if let Some(dir) = path.parent() {
        paths::create_dir(dir)?;
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    println!("{}", paths::shown(path));
    Ok(())
}

/// `cargo xtask generate`.
pub fn command(_: &Args) -> Result<()> {
    files()?.iter().try_for_each(write)
}

/// Makes those files again that show what was measured.
pub fn costs() -> Result<()> {
    measured()?.iter().try_for_each(write)
}

/// Those files that are not what they are made from.
pub fn stale() -> Result<Vec<String>> {
    let stale = files()?.into_iter().filter(|(path, text)| {
        let found = fs::read_to_string(path);
        !found.is_ok_and(|found| found == *text)
    });
    Ok(stale
        .map(|(path, _)| format!("{}: run cargo xtask generate", paths::shown(&path)))
        .collect())
}
