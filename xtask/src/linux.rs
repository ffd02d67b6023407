//! What Linux in the guest gets of ours beside its init: tools and examples,
//! and the module for its kernel. What cargo does not build is built again
//! when a file that it is made of has changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::command::succeed;
use crate::paths;

/// A file for the guest.
pub struct Entry {
    /// Its path there, without the first slash.
    pub name: String,
    /// Where it is here.
    pub file: PathBuf,
}

/// Where the examples are in the guest.
const EXAMPLES: &str = "root/examples";

/// Builds the module, the examples in C, and copies without debug information
/// of `programs`, whose folder in the guest is given with each: Linux takes
/// everything into memory at its start, and an emulator is slow at that.
pub fn build(headers: &Path, programs: &[(&str, PathBuf)]) -> Result<Vec<Entry>> {
    let mut entries = vec![entry("lib/modules", module(headers)?)?];
    for source in paths::files(&paths::workspace().join("guest/examples"), ".c")? {
        entries.push(entry(EXAMPLES, example(&source)?)?);
    }
    entries.extend(self::programs(programs)?);
    Ok(entries)
}

/// Copies of `programs`, each with its folder in the guest, without debug
/// information.
pub fn programs(programs: &[(&str, PathBuf)]) -> Result<Vec<Entry>> {
    let entries = programs.iter();
    let entries = entries.map(|(folder, program)| entry(folder, stripped(program)?));
    entries.collect()
}

/// The examples in Rust, which cargo puts into `folder`.
pub fn rust_examples(folder: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let sources = paths::files(&paths::workspace().join("guest/examples"), ".rs")?;
    let names = sources.iter().filter_map(|source| source.file_stem());
    Ok(names.map(|name| (EXAMPLES, folder.join(name))).collect())
}

fn entry(folder: &str, file: PathBuf) -> Result<Entry> {
    let name = file.file_name().context("a file without a name")?;
    let name = format!("{folder}/{}", name.display());
    Ok(Entry { name, file })
}

/// Builds the module for the kernel that `headers` belong to, in a folder of
/// its own: the kernel's rules leave many files beside the sources.
fn module(headers: &Path) -> Result<PathBuf> {
    let folder = paths::underlay().join("module");
    let guest = paths::workspace().join("guest");
    let configured = headers.join("src/configured");
    let module = folder.join("underlay.ko");
    let mut sources = paths::files(&guest.join("linux"), ".c")?;
    sources.push(guest.join("linux/module.h"));
    sources.push(guest.join("linux/Kbuild"));
    let header = guest.join("include/underlay.h");
    let release = configured.join("include/generated/utsrelease.h");
    let inputs = sources.iter().chain([&header, &release]);
    if is_newer(&module, inputs)? {
        return Ok(module);
    }
    for (sources, name) in [(&sources, "linux"), (&vec![header], "include")] {
        paths::empty_dir(&folder.join(name))?;
        for source in sources {
            let place = source.file_name().context("a source without a name")?;
            fs::copy(source, folder.join(name).join(place))?;
        }
    }
    // Debian's makefile names the folder to which the package belongs.
    let mut make = Command::new("make");
    make.arg("-C").arg(headers.join("src/common"));
    make.arg(format!("O={}", configured.display()));
    make.arg(format!("M={}", folder.join("linux").display()));
    succeed(make.args(["--silent", "modules"]))?;
    strip("--strip-debug", &folder.join("linux/underlay.ko"), &module)?;
    Ok(module)
}

/// Builds one example. It is linked statically, for there are no libraries in
/// the guest.
fn example(source: &Path) -> Result<PathBuf> {
    let folder = paths::underlay().join("examples");
    let include = paths::workspace().join("guest/include");
    let name = source.file_stem().context("a source without a name")?;
    let program = folder.join(name);
    let header = include.join("underlay.h");
    if is_newer(&program, [source, &header])? {
        return Ok(program);
    }
    paths::create_dir(&folder)?;
    let mut compiler = Command::new("gcc");
    compiler.args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]);
    compiler.args(["-static", "-s", "-I"]);
    compiler.arg(include).arg(source).arg("-o").arg(&program);
    succeed(&mut compiler)?;
    Ok(program)
}

fn stripped(program: &Path) -> Result<PathBuf> {
    let folder = paths::underlay().join("stripped");
    let name = program.file_name().context("a program without a name")?;
    let copy = folder.join(name);
    if !is_newer(&copy, [program])? {
        paths::create_dir(&folder)?;
        strip("--strip-all", program, &copy)?;
    }
    Ok(copy)
}

fn strip(how: &str, from: &Path, into: &Path) -> Result<()> {
    let mut strip = Command::new("strip");
    succeed(strip.args([how, "-o"]).arg(into).arg(from))
}

/// Whether `output` is there and was made after the last change of `inputs`.
fn is_newer<P: AsRef<Path>>(output: &Path, inputs: impl IntoIterator<Item = P>) -> Result<bool> {
    let Ok(made) = changed(output) else {
        return Ok(false);
    };
    for input in inputs {
        if changed(input.as_ref())? >= made {
            return Ok(false);
        }
    }
    Ok(true)
}

fn changed(path: &Path) -> Result<SystemTime> {
    let about = fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    Ok(about.modified()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_old_as_its_sources_is_built_again() {
        let folder = std::env::temp_dir().join(format!("underlay-newer-{}", std::process::id()));
        paths::empty_dir(&folder).unwrap();
        let [source, output] = ["source", "output"].map(|name| folder.join(name));
        fs::write(&source, "").unwrap();
        assert!(!is_newer(&output, [&source]).unwrap());
        let made = changed(&source).unwrap();
        for (later, newer) in [(0, false), (1, true)] {
            let file = fs::File::create(&output).unwrap();
            let time = made + std::time::Duration::from_secs(later);
            file.set_modified(time).unwrap();
            assert_eq!(is_newer(&output, [&source]).unwrap(), newer);
        }
        assert!(is_newer(&output, [&folder.join("none")]).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
