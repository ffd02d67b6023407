//! Errors of a call: negative Linux errno values in RAX, as Xen and KVM do.

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// The caller may not use this service.
    NotPermitted,
    /// A memory argument is not accessible to the caller; its address is in RBX.
    BadAddress,
    /// An argument has no meaning.
    InvalidArgument,
    /// A name is longer than 255 bytes.
    NameTooLong,
    /// There is no service with this number.
    NoService,
}

impl Errno {
    const ALL: [(Self, i64, &'static str); 5] = [
        (Self::NotPermitted, 1, "not permitted"),
        (Self::BadAddress, 14, "bad address"),
        (Self::InvalidArgument, 22, "invalid argument"),
        (Self::NameTooLong, 36, "name too long"),
        (Self::NoService, 38, "no such service"),
    ];

    /// The value in RAX: the negated Linux errno.
    pub const fn to_register(self) -> u64 {
        let errno: i64 = match self {
            Self::NotPermitted => 1,
            Self::BadAddress => 14,
            Self::InvalidArgument => 22,
            Self::NameTooLong => 36,
            Self::NoService => 38,
        };
        errno.wrapping_neg() as u64
    }

    /// The error that `rax` names, if it is one of ours.
    pub fn from_register(rax: u64) -> Option<Self> {
        let known = Self::ALL.iter();
        known.map(|row| row.0).find(|e| e.to_register() == rax)
    }
}

impl core::fmt::Display for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let row = Self::ALL.iter().find(|row| row.0 == *self);
        f.write_str(row.map_or("unknown error", |row| row.2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_survives_the_register() {
        for (error, errno, _) in Errno::ALL {
            assert_eq!(error.to_register() as i64, -errno);
            assert_eq!(Errno::from_register(error.to_register()), Some(error));
        }
        assert_eq!(Errno::from_register(1), None);
    }
}
