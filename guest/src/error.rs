//! Why a call to a service failed, and what to do about it.

use crate::call::{Failure, Reply};
use abi::Errno;
use abi::call::{Service, Who};
use core::fmt;

/// A service that was called in vain.
#[derive(Clone, Copy, Debug)]
pub struct Error {
    /// The service.
    pub service: &'static Service,
    /// Why it failed.
    pub failure: Failure,
    /// Where [`Errno::BadAddress`] happened.
    pub address: u64,
}

impl Error {
    pub(crate) fn new(service: &'static Service, failure: Failure, reply: &Reply) -> Self {
        let [address, ..] = reply.results;
        Self {
            service,
            failure,
            address,
        }
    }

    /// Whether the call was refused for this reason.
    pub fn is(&self, errno: Errno) -> bool {
        self.failure == Failure::Errno(errno)
    }
}

/// One line: the service, the reason, and what would help.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.service.name, self.failure)?;
        let Failure::Errno(errno) = self.failure else {
            return Ok(());
        };
        match (errno, self.service.who) {
            (Errno::NotPermitted, Who::Owner) => {
                f.write_str(": it is for the machine's owner; run this as root")
            }
            (Errno::NotPermitted, Who::Compat) => f.write_str(
                ": it is for the machine's owner, or with `compat = bitvisor` in underlay.conf for all",
            ),
            (Errno::NotPermitted, Who::Kernel) => f.write_str(": it is for kernels, not programs"),
            (Errno::NoService, _) => not_offered(self.service, f),
            (Errno::BadAddress, _) => write!(f, " {:#x}: no memory that can be used", self.address),
            (Errno::TryAgain, _) => f.write_str(": too many of late; wait a second"),
            _ => Ok(()),
        }
    }
}

/// Some services are there only if the config says so.
fn not_offered(service: &Service, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(": the Underlay beneath does not offer it")?;
    let family = service.name.split('_').next().unwrap_or_default();
    match family {
        "vm" => f.write_str("; say `pool = 256M` in underlay.conf and boot again"),
        "trace" | "print" => write!(f, "; say `{family} = on` in underlay.conf and boot again"),
        _ => Ok(()),
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::call::{self, SERVICES};

    fn text(number: u64, errno: Errno) -> String {
        let reply = Reply {
            rax: errno.to_register(),
            results: [0x1234, 0, 0, 0, 0],
        };
        let service = &SERVICES[number as usize];
        Error::new(service, Failure::Errno(errno), &reply).to_string()
    }

    #[test]
    fn an_error_names_its_service_and_says_what_helps() {
        let refused = text(call::LOG_READ, Errno::NotPermitted);
        assert!(refused.starts_with("log_read: not permitted"), "{refused}");
        assert!(refused.contains("root"), "{refused}");
        assert!(text(call::LOG_FILL, Errno::NotPermitted).contains("kernels"));
        assert!(text(call::TRACE_READ, Errno::NoService).contains("`trace = on`"));
        assert!(text(call::PRINT, Errno::NoService).contains("`print = on`"));
        assert!(!text(call::LIST, Errno::NoService).contains(" = on"));
        assert!(text(call::MEMORY_TRANSLATE, Errno::BadAddress).contains("0x1234"));
    }

    #[test]
    fn every_error_of_every_service_is_one_line() {
        for service in SERVICES {
            for errno in Errno::all() {
                assert_eq!(text(service.number, errno).lines().count(), 1);
            }
        }
    }
}
