//! Becoming the machine's owner: Linux shows the table with the token to root,
//! or the module's device makes the calls of whoever may open it.

use crate::device::Device;
use crate::{Underlay, Way};
use abi::token::{LINUX_PATH, Token};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::OnceLock;

/// Why this program cannot act for the machine's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOwner {
    /// Linux shows the table to root alone.
    NotRoot,
    /// Linux shows no such table.
    NoTable,
    /// The table is not as Underlay publishes it.
    Damaged,
    /// It cannot be read.
    Unreadable(ErrorKind),
}

impl fmt::Display for NotOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRoot => write!(f, "only root may read the owner token in {LINUX_PATH}"),
            Self::NoTable => write!(
                f,
                "there is no owner token: {LINUX_PATH} does not exist; mount /sys, see that the kernel uses ACPI, or load the module underlay.ko"
            ),
            Self::Damaged => write!(f, "{LINUX_PATH} holds no owner token"),
            Self::Unreadable(kind) => write!(f, "reading {LINUX_PATH}: {kind}"),
        }
    }
}

impl std::error::Error for NotOwner {}

impl Underlay {
    /// The same, for calls that only the machine's owner may make: with the
    /// token, or else by the Linux module's device.
    ///
    /// # Errors
    ///
    /// Why this program cannot act for the owner.
    pub fn as_owner(self) -> Result<Self, NotOwner> {
        match token() {
            Ok(token) => Ok(self.with_token(token)),
            Err(reason) => Self::by_device().ok_or(reason),
        }
    }

    /// By way of the Linux module's device, if it is there and may be opened.
    pub fn by_device() -> Option<Self> {
        static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
        let device = DEVICE.get_or_init(|| Device::open().ok()).as_ref()?;
        Some(Self {
            way: Way::Device(device),
        })
    }
}

/// The owner token.
///
/// # Errors
///
/// Why this program cannot have it.
pub fn token() -> Result<Token, NotOwner> {
    token_at(Path::new(LINUX_PATH))
}

fn token_at(path: &Path) -> Result<Token, NotOwner> {
    let table = std::fs::read(path).map_err(reason)?;
    Token::from_table(&table).ok_or(NotOwner::Damaged)
}

fn reason(error: io::Error) -> NotOwner {
    match error.kind() {
        ErrorKind::PermissionDenied => NotOwner::NotRoot,
        ErrorKind::NotFound => NotOwner::NoTable,
        kind => NotOwner::Unreadable(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_gives_its_token_and_everything_else_a_reason() {
        let folder = std::env::temp_dir().join(format!("underlay-owner-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("ULAY");
        assert_eq!(token_at(&path), Err(NotOwner::NoTable));
        std::fs::write(&path, Token([1, 2]).table()).unwrap();
        assert_eq!(token_at(&path), Ok(Token([1, 2])));
        std::fs::write(&path, b"ULAY").unwrap();
        assert_eq!(token_at(&path), Err(NotOwner::Damaged));
        assert!(matches!(token_at(&folder), Err(NotOwner::Unreadable(_))));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(
            reason(ErrorKind::PermissionDenied.into()),
            NotOwner::NotRoot
        );
    }
}
