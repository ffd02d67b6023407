//! What an attacker aims at, and memory of its own that must not change.

use libc::{PROT_NONE, PROT_READ};

use call_load::Failed;
use call_load::mapping::{Mapping, check, private};
use call_load::pattern::{PAGE, Random, difference, fill};

/// Pages that calls may read and write.
const PAGES: usize = 4;
/// The seed of what is in them.
const SEED: u64 = 0x2222;
/// A page for programs that no program can read: old system calls are entered
/// there.
const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;
/// Where the kernel maps all memory, unless it chooses another place at boot,
/// which is in the same half.
const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
/// The first address that is not canonical.
const EDGE: u64 = 1 << 47;

/// All of it.
pub struct Targets {
    /// Between pages that nobody may touch.
    own: Mapping,
    read_only: Mapping,
    kernel: u64,
}

impl Targets {
    /// With `kernel`, an address of the kernel's.
    pub fn new(kernel: u64) -> Result<Self, Failed> {
        let (mut own, mut read_only) = (private(PAGES + 2)?, private(1)?);
        fill(own.bytes_mut(PAGE, PAGES * PAGE), SEED, 0);
        fill(read_only.bytes_mut(0, PAGE), SEED, 0);
        protect(own.address(), PROT_NONE)?;
        protect(own.address() + (PAGES + 1) * PAGE, PROT_NONE)?;
        protect(read_only.address(), PROT_READ)?;
        Ok(Self {
            own,
            read_only,
            kernel,
        })
    }

    /// An address of the attacker's own, with two pages behind it.
    pub const fn good(&self) -> u64 {
        (self.own.address() + 2 * PAGE) as u64
    }

    /// Addresses from which 16 bytes can be neither read nor written.
    pub const fn bad(&self) -> [u64; 14] {
        let own = self.own.address() as u64;
        [
            0,
            16,
            own + 8,
            own + PAGE as u64 - 1,
            own + ((PAGES + 1) * PAGE) as u64 - 1,
            self.kernel,
            self.kernel + 0x1238,
            DIRECT_MAP,
            DIRECT_MAP + 0x100_0000,
            EDGE - 8,
            EDGE,
            !0 << 47,
            VSYSCALL,
            u64::MAX - 0xfff,
        ]
    }

    /// The page that can only be read.
    pub const fn read_only(&self) -> u64 {
        self.read_only.address() as u64
    }

    /// An address of any sort.
    pub fn any(&self, random: &mut Random) -> u64 {
        let bad = self.bad();
        match random.below(4) {
            0 => bad[random.below(bad.len())],
            1 => random.word(),
            _ => self.own.address() as u64 + random.below((PAGES + 2) * PAGE) as u64,
        }
    }

    /// Whether what is the attacker's own is as it was.
    pub fn unchanged(&self) -> bool {
        let mut expected = vec![0; PAGES * PAGE];
        fill(&mut expected, SEED, 0);
        let own = self.own.pages(1, PAGES);
        let read_only = self.read_only.bytes();
        difference(own, &expected).is_none() && difference(read_only, &expected[..PAGE]).is_none()
    }

    /// Makes it so again.
    pub fn renew(&mut self) {
        fill(self.own.bytes_mut(PAGE, PAGES * PAGE), SEED, 0);
    }
}

fn protect(at: usize, protection: libc::c_int) -> Result<(), Failed> {
    // SAFETY: the page belongs to a mapping of the caller's, who does not touch
    // it in a way that it takes away.
    let done = unsafe { libc::mprotect(at as *mut _, PAGE, protection) };
    check("mprotect", done == 0)
}
