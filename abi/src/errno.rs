//! Errors of a call: negative Linux errno values in RAX, as Xen and KVM do.

macro_rules! errors {
    ($($(#[doc = $about:literal])* $error:ident $value:literal $name:literal $words:literal,)*) => {
        /// Why a call failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Errno { $($(#[doc = $about])* $error,)* }

        impl Errno {
            /// All of them.
            pub fn all() -> impl Iterator<Item = Self> {
                [$(Self::$error),*].into_iter()
            }

            /// The Linux errno.
            const fn value(self) -> i64 {
                match self { $(Self::$error => $value,)* }
            }

            /// Its name in C.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$error => $name,)* }
            }

            /// Its meaning in words.
            const fn words(self) -> &'static str {
                match self { $(Self::$error => $words,)* }
            }
        }
    };
}

errors! {
    /// The caller may not use this service.
    NotPermitted 1 "EPERM" "not permitted",
    /// There is nothing of this name or number.
    NotFound 2 "ENOENT" "there is no such thing",
    /// The caller has used this service too often of late.
    TryAgain 11 "EAGAIN" "try again later",
    /// A memory argument is not accessible to the caller; its address is in RBX.
    BadAddress 14 "EFAULT" "bad address",
    /// It is in use.
    Busy 16 "EBUSY" "in use",
    /// There is one of this name.
    Exists 17 "EEXIST" "there is one already",
    /// An argument has no meaning.
    InvalidArgument 22 "EINVAL" "invalid argument",
    /// There is no room for more of these.
    NoSpace 28 "ENOSPC" "no room for more",
    /// A name is longer than 255 bytes.
    NameTooLong 36 "ENAMETOOLONG" "name too long",
    /// There is no service with this number.
    NoService 38 "ENOSYS" "no such service",
}

impl Errno {
    /// The value in RAX: the negated Linux errno.
    pub const fn to_register(self) -> u64 {
        self.value().wrapping_neg() as u64
    }

    /// The error that `rax` names, if it is one of ours.
    pub fn from_register(rax: u64) -> Option<Self> {
        Self::all().find(|error| error.to_register() == rax)
    }
}

impl core::fmt::Display for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_survives_the_register() {
        for error in Errno::all() {
            assert!((-4095..0).contains(&(error.to_register() as i64)));
            assert_eq!(Errno::from_register(error.to_register()), Some(error));
        }
        assert_eq!(Errno::from_register(1), None);
    }

    #[test]
    fn values_are_linux_own() {
        let values = [Errno::NotPermitted, Errno::BadAddress, Errno::NoService];
        assert_eq!(
            values.map(|error| error.to_register() as i64),
            [-1, -14, -38]
        );
    }
}
