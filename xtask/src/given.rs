//! Files that a person names on the command line, checked before anything is
//! built.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::artefacts;
use crate::paths;

/// How an EFI program begins, and a Linux kernel that is one.
const EFI_MAGIC: &[u8; 2] = b"MZ";

/// An error unless `path`, the value of `option`, is a file that can be read.
pub fn file(option: &str, path: &Path) -> Result<()> {
    open(option, path).map(drop)
}

/// An error unless `path`, the value of `option`, is an EFI program.
pub fn efi_program(option: &str, path: &Path) -> Result<()> {
    let mut begin = [0; EFI_MAGIC.len()];
    let read = open(option, path)?.read_exact(&mut begin);
    ensure!(
        read.is_ok() && begin == *EFI_MAGIC,
        "{option}: {} is not an EFI program: it does not begin with `MZ`",
        path.display()
    );
    Ok(())
}

/// An error unless the folder of `path`, the value of `option`, is there.
pub fn folder_of(option: &str, path: &Path) -> Result<()> {
    let folder = std::path::absolute(path)?;
    let folder = folder.parent().unwrap_or(&folder);
    let shown = path.display();
    ensure!(!path.is_dir(), "{option}: {shown} is a folder");
    ensure!(
        folder.is_dir(),
        "{option}: the folder of {shown} is not there"
    );
    Ok(())
}

fn open(option: &str, path: &Path) -> Result<File> {
    let what = || format!("{option}: {}{}", path.display(), advice(path));
    let file = File::open(path).with_context(what)?;
    ensure!(
        file.metadata()?.is_file(),
        "{option}: {} is not a file",
        path.display()
    );
    Ok(file)
}

/// What to do about a missing file of ours.
fn advice(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_default();
    if path.exists() || !path.starts_with(paths::target().join(artefacts::UEFI)) {
        return String::new();
    }
    format!(
        " (`cargo build --release -p tests --bins --target {}` makes the test guests)",
        artefacts::UEFI
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(result: Result<()>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn only_efi_programs_pass() {
        let source = Path::new(file!()).file_name().unwrap();
        let source = paths::workspace().join("xtask/src").join(source);
        assert!(file("--initrd", &source).is_ok());
        let said = refusal(efi_program("--kernel", &source));
        assert!(said.starts_with("--kernel: ") && said.ends_with("`MZ`"));
        assert!(refusal(file("--initrd", Path::new("/tmp"))).ends_with("is not a file"));
    }

    #[test]
    fn a_missing_test_guest_says_how_it_is_made() {
        let guest = paths::target().join("x86_64-unknown-uefi/release/none.efi");
        assert!(refusal(efi_program("--efi", &guest)).contains("cargo build --release -p tests"));
        assert!(!refusal(efi_program("--efi", Path::new("/none.efi"))).contains("cargo"));
    }

    #[test]
    fn a_file_to_write_needs_its_folder() {
        assert!(folder_of("--log", Path::new("log.txt")).is_ok());
        assert!(folder_of("--log", Path::new("/none/log.txt")).is_err());
        assert!(folder_of("--log", Path::new("/tmp")).is_err());
    }
}
