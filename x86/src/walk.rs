//! The page-table walk: from a guest-virtual address to a guest-physical one
//! with exactly the rights of whoever asks, in all paging modes. It is the
//! algorithm of the CPU, as a function of the guest's state and of the entries
//! that it reads, so that it runs on the desk. Intel SDM volume 3, "Paging";
//! AMD APM volume 2, "Page Translation and Protection".

use crate::address::is_canonical;
use crate::control::{Cr0, Cr4, Efer};
use crate::exception::{Exception, page_fault};
use crate::{Gpa, Gva};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// In an entry of PAE mode's top level: bits 1, 2 and 5 to 8.
const PDPTE_RESERVED: u64 = 0x1e6;

/// Who accesses memory, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// At CPL 3.
    pub user: bool,
    /// A data write.
    pub write: bool,
    /// An instruction fetch.
    pub fetch: bool,
}

/// The state of a guest CPU that decides over translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// CR0.
    pub cr0: Cr0,
    /// CR3, with the address bits as the mode has them.
    pub cr3: u64,
    /// CR4.
    pub cr4: Cr4,
    /// IA32_EFER.
    pub efer: Efer,
    /// RFLAGS.AC.
    pub alignment_check: bool,
    /// PKRU, where CR4.PKE is set.
    pub pkru: u32,
    /// Width of physical addresses in bits.
    pub physical_bits: u32,
    /// Whether the CPU has 1 GiB pages.
    pub gib_pages: bool,
    /// The page-directory-pointer entries that a CPU in PAE mode has loaded.
    pub pdptes: Option<[u64; 4]>,
}

/// Where entries are read, and their accessed and dirty bits written.
pub trait Entries {
    /// The entry of `size` bytes (4 or 8) at `at`, read in one access, or None
    /// if that is no memory of the guest's.
    fn load(&self, at: Gpa, size: u64) -> Option<u64>;
    /// Replaces the entry at `at` by `new` if it still is `old`, atomically;
    /// false if it was not.
    fn exchange(&self, at: Gpa, size: u64, old: u64, new: u64) -> bool;
}

/// Where a page of a guest-virtual address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The guest-physical address.
    pub gpa: Gpa,
    /// Bytes from there to the end of its page.
    pub left: u64,
}

/// Why there is no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The access raises #PF with this error code.
    PageFault {
        /// The linear address.
        address: Gva,
        /// The error code.
        code: u32,
    },
    /// The address is not canonical.
    NonCanonical(Gva),
    /// A page-table entry lies where the guest has no memory.
    NoMemory(Gpa),
    /// A page-table entry changed at each look.
    Restless(Gva),
}

impl Denied {
    /// The exception that an ordinary instruction would have raised.
    pub fn exception(self) -> Exception {
        match self {
            Self::PageFault { address, code } => Exception::PageFault {
                address: address.0,
                code,
            },
            Self::NonCanonical(_) | Self::NoMemory(_) | Self::Restless(_) => {
                Exception::GeneralProtection(0)
            }
        }
    }
}

/// One level of tables.
#[derive(Clone, Copy)]
struct Level {
    /// Lowest bit of the linear address that selects an entry.
    shift: u32,
    /// How many bits select it.
    bits: u32,
    /// A set bit 7 makes the entry a page.
    large: bool,
    /// The bits that address the next table or page.
    address: u64,
    /// Bits that must be 0.
    reserved: u64,
    /// Reserved in addition in an entry that is a large page.
    reserved_large: u64,
    /// Bytes of an entry.
    size: u64,
}

/// How often a walk starts again because an entry changed under it. More than
/// any kernel's page-table updates can cause; an entry that lies in a device's
/// registers may change at each look.
const ATTEMPTS: u32 = 64;

/// What the entries above the page have allowed so far.
#[derive(Clone, Copy)]
struct Rights {
    writable: bool,
    user: bool,
    execute: bool,
}

impl Paging {
    fn is_long(&self) -> bool {
        self.efer.contains(Efer::LMA)
    }

    fn is_wide(&self) -> bool {
        self.is_long() || self.cr4.contains(Cr4::PAE)
    }

    /// Whether four entries above the tables are loaded along with CR3.
    pub fn loads_pdptes(&self) -> bool {
        self.cr0.contains(Cr0::PG) && self.is_wide() && !self.is_long()
    }

    /// The entries that loading `cr3` loads, or None where the CPU refuses
    /// with #GP. Intel SDM volume 3, "PDPTE Registers".
    pub fn load_pdptes(&self, cr3: u64, entries: &impl Entries) -> Option<[u64; 4]> {
        let reserved = PDPTE_RESERVED | !self.address_mask();
        let mut loaded = [0; 4];
        for (entry, number) in loaded.iter_mut().zip(0..) {
            *entry = entries.load(Gpa((cr3 & 0xffff_ffe0) + number * 8), 8)?;
            if *entry & PRESENT != 0 && *entry & reserved != 0 {
                return None;
            }
        }
        Some(loaded)
    }

    fn no_execute(&self) -> bool {
        self.efer.contains(Efer::NXE) && self.is_wide()
    }

    /// Bits of a linear address in 64-bit mode.
    fn linear_bits(&self) -> u32 {
        if self.cr4.contains(Cr4::LA57) { 57 } else { 48 }
    }

    fn address_mask(&self) -> u64 {
        (1u64 << self.physical_bits.clamp(32, 52)) - 1
    }

    /// Level `number` (1 = page table) of a mode with 8-byte entries.
    fn wide_level(&self, number: u32) -> Level {
        let address = self.address_mask() & !0xfff;
        let above = (((1u64 << 52) - 1) & !self.address_mask())
            | if self.no_execute() { 0 } else { NO_EXECUTE };
        let shift = 12 + 9 * (number - 1);
        // In PAE mode bits 52 to 62 are reserved, in long mode they are free.
        let high = if self.is_long() { 0 } else { 0x7ff << 52 };
        let large = number == 2 || (number == 3 && self.gib_pages && self.is_long());
        let never_large = if number >= 3 && !large { LARGE } else { 0 };
        Level {
            shift,
            bits: 9,
            large,
            address,
            reserved: above | high | never_large,
            reserved_large: ((1u64 << shift) - 1) & !0x1fff,
            size: 8,
        }
    }

    /// Level 2 or 1 of 32-bit paging. A 4 MiB page has its address bits 32 to
    /// 39 in bits 13 to 20 (PSE-36).
    fn narrow_level(&self, number: u32) -> Level {
        let extra = self.physical_bits.saturating_sub(32).min(8);
        let pse36 = ((1u64 << extra) - 1) << 13;
        Level {
            shift: 12 + 10 * (number - 1),
            bits: 10,
            large: number == 2 && self.cr4.contains(Cr4::PSE),
            address: 0xffff_f000,
            reserved: 0,
            reserved_large: 0x3f_e000 & !pse36,
            size: 4,
        }
    }

    fn level(&self, number: u32) -> Level {
        if self.is_wide() {
            self.wide_level(number)
        } else {
            self.narrow_level(number)
        }
    }
}

/// A walk under way: what a fault's error code depends on.
struct Walk<'a, E: Entries> {
    paging: &'a Paging,
    intent: Intent,
    gva: Gva,
    entries: &'a E,
}

/// Translates `gva` with the rights of `intent`, and sets accessed and dirty
/// bits as the CPU would.
pub fn walk(
    paging: &Paging,
    intent: Intent,
    gva: Gva,
    entries: &impl Entries,
) -> Result<Translation, Denied> {
    if !paging.cr0.contains(Cr0::PG) {
        let gpa = Gpa(gva.0 & 0xffff_ffff);
        return Ok(Translation {
            gpa,
            left: 4096 - gpa.page_offset(),
        });
    }
    if paging.is_long() && !is_canonical(gva.0, paging.linear_bits()) {
        return Err(Denied::NonCanonical(gva));
    }
    let gva = if paging.is_long() {
        gva
    } else {
        Gva(gva.0 & 0xffff_ffff)
    };
    let walk = Walk {
        paging,
        intent,
        gva,
        entries,
    };
    for _ in 0..ATTEMPTS {
        if let Some(result) = walk.attempt()? {
            return Ok(result);
        }
    }
    Err(Denied::Restless(gva))
}

impl<E: Entries> Walk<'_, E> {
    /// One pass from the root to the page. None: an entry changed between
    /// being read and being marked, so the CPU would start again.
    fn attempt(&self) -> Result<Option<Translation>, Denied> {
        let (mut table, mut number) = self.root()?;
        let mut rights = Rights {
            writable: true,
            user: true,
            execute: true,
        };
        loop {
            let level = self.paging.level(number);
            let index = (self.gva.0 >> level.shift) & ((1 << level.bits) - 1);
            let at = Gpa(table + index * level.size);
            let entry = self
                .entries
                .load(at, level.size)
                .ok_or(Denied::NoMemory(at))?;
            let is_page = number == 1 || (level.large && entry & LARGE != 0);
            self.check_entry(&level, entry, is_page && number > 1)?;
            rights = self.narrow(rights, entry);
            if is_page {
                let key = (entry >> 59 & 0xf) as u32;
                self.check_rights(rights, key)?;
            }
            if !self.mark(at, &level, entry, is_page) {
                return Ok(None);
            }
            if is_page {
                return Ok(Some(self.page(&level, entry)));
            }
            table = entry & level.address;
            number -= 1;
        }
    }

    /// The first table and its level. In PAE mode the four entries above it
    /// were loaded with CR3, and carry no rights.
    fn root(&self) -> Result<(u64, u32), Denied> {
        let paging = self.paging;
        if paging.is_long() {
            let levels = if paging.cr4.contains(Cr4::LA57) { 5 } else { 4 };
            return Ok((paging.cr3 & paging.address_mask() & !0xfff, levels));
        }
        if !paging.is_wide() {
            return Ok((paging.cr3 & 0xffff_f000, 2));
        }
        let index = self.gva.0 >> 30 & 3;
        let at = Gpa((paging.cr3 & 0xffff_ffe0) + index * 8);
        let loaded = paging
            .pdptes
            .and_then(|all| all.get(index as usize).copied());
        let entry = match loaded {
            Some(entry) => entry,
            None => self.entries.load(at, 8).ok_or(Denied::NoMemory(at))?,
        };
        if entry & PRESENT == 0 {
            return Err(self.fault(0));
        }
        // The CPU checked the entries that it loaded when it loaded them.
        if loaded.is_none() && entry & (PDPTE_RESERVED | !paging.address_mask()) != 0 {
            return Err(self.fault(page_fault::PRESENT | page_fault::RESERVED));
        }
        Ok((entry & paging.address_mask() & !0xfff, 2))
    }

    fn fault(&self, why: u32) -> Denied {
        let paging = self.paging;
        let smep_or_nx = paging.no_execute() || paging.cr4.contains(Cr4::SMEP);
        let mut code = why;
        if self.intent.write {
            code |= page_fault::WRITE;
        }
        if self.intent.user {
            code |= page_fault::USER;
        }
        if self.intent.fetch && smep_or_nx {
            code |= page_fault::FETCH;
        }
        Denied::PageFault {
            address: self.gva,
            code,
        }
    }

    fn check_entry(&self, level: &Level, entry: u64, large: bool) -> Result<(), Denied> {
        if entry & PRESENT == 0 {
            return Err(self.fault(0));
        }
        let reserved = level.reserved | if large { level.reserved_large } else { 0 };
        if entry & reserved != 0 {
            return Err(self.fault(page_fault::PRESENT | page_fault::RESERVED));
        }
        Ok(())
    }

    fn narrow(&self, rights: Rights, entry: u64) -> Rights {
        let denied = self.paging.no_execute() && entry & NO_EXECUTE != 0;
        Rights {
            writable: rights.writable && entry & WRITABLE != 0,
            user: rights.user && entry & USER != 0,
            execute: rights.execute && !denied,
        }
    }

    /// Intel SDM volume 3, "Access Rights" under "Determination of Access
    /// Rights", and "Protection Keys".
    fn check_rights(&self, rights: Rights, key: u32) -> Result<(), Denied> {
        let allowed = if self.intent.fetch {
            self.may_fetch(rights)
        } else {
            self.may_access(rights)
        };
        if !allowed {
            return Err(self.fault(page_fault::PRESENT));
        }
        if self.key_denies(rights, key) {
            return Err(self.fault(page_fault::PRESENT | page_fault::KEY));
        }
        Ok(())
    }

    fn may_fetch(&self, rights: Rights) -> bool {
        let user_page_by_supervisor = !self.intent.user && rights.user;
        let smep = self.paging.cr4.contains(Cr4::SMEP);
        rights.execute && (!self.intent.user || rights.user) && !(user_page_by_supervisor && smep)
    }

    fn may_access(&self, rights: Rights) -> bool {
        if self.intent.user {
            return rights.user && (!self.intent.write || rights.writable);
        }
        let smap = self.paging.cr4.contains(Cr4::SMAP) && !self.paging.alignment_check;
        if rights.user && smap {
            return false;
        }
        let protected = self.paging.cr0.contains(Cr0::WP);
        !self.intent.write || rights.writable || !protected
    }

    fn key_denies(&self, rights: Rights, key: u32) -> bool {
        let keys = self.paging.is_long() && self.paging.cr4.contains(Cr4::PKE);
        if !keys || !rights.user || self.intent.fetch {
            return false;
        }
        let access_disable = self.paging.pkru >> (2 * key) & 1 != 0;
        let write_disable = self.paging.pkru >> (2 * key + 1) & 1 != 0;
        let writes_count = self.intent.user || self.paging.cr0.contains(Cr0::WP);
        access_disable || (self.intent.write && write_disable && writes_count)
    }

    /// Sets the accessed bit, and the dirty bit of a page that is written.
    fn mark(&self, at: Gpa, level: &Level, entry: u64, is_page: bool) -> bool {
        let dirty = if is_page && self.intent.write {
            DIRTY
        } else {
            0
        };
        let marked = entry | ACCESSED | dirty;
        marked == entry || self.entries.exchange(at, level.size, entry, marked)
    }

    fn page(&self, level: &Level, entry: u64) -> Translation {
        let inside = (1u64 << level.shift) - 1;
        let mut base = entry & level.address & !inside;
        if level.size == 4 && level.shift > 12 {
            base |= (entry >> 13 & 0xff) << 32;
        }
        let offset = self.gva.0 & inside;
        Translation {
            gpa: Gpa(base | offset),
            left: inside + 1 - offset,
        }
    }
}

#[cfg(test)]
mod tests;
