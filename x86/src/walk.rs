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
/// In an entry that maps a large page: part of its memory type.
const PAGE_ATTRIBUTE: u64 = 1 << 12;
/// The address in an entry of long mode, on a CPU with all of its bits.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
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
    /// The entry of 8 bytes at `at`, or 0, as an absent entry is, where the guest
    /// has no memory.
    #[inline(always)]
    fn load_wide(&self, at: Gpa) -> u64 {
        self.load(at, 8).unwrap_or(0)
    }
    /// The 16 bytes at `at`, all in one page, the first lowest; those that are no
    /// memory of the guest's are 0.
    #[inline(always)]
    fn load_16(&self, at: Gpa) -> u128 {
        let [low, high] = [at, Gpa(at.0 + 8)].map(|at| u128::from(self.load_wide(at)));
        high << 64 | low
    }
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

/// What entries look like in a paging mode, the same at all levels.
#[derive(Clone, Copy)]
struct Mode {
    /// The bits that address the next table or page.
    address: u64,
    /// Bits that must be 0.
    reserved: u64,
    /// Bit n: an entry of 2^n bytes with bit 7 set is a page.
    large: u64,
    /// Reserved in addition in a page of a higher level, as far as it is inside
    /// of the page.
    reserved_large: u64,
    /// The bit that forbids execution, if there is one.
    no_execute: u64,
}

/// How often a walk starts again because an entry changed under it. More than
/// any kernel's page-table updates can cause; an entry that lies in a device's
/// registers may change at each look.
const ATTEMPTS: u32 = 64;

/// What the entries down to the page have in common.
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

    fn address_mask(&self) -> u64 {
        (1u64 << self.physical_bits.clamp(32, 52)) - 1
    }

    /// The mode with 8-byte entries. In PAE mode bits 52 to 62 are reserved, in
    /// long mode they are free.
    fn wide(&self) -> Mode {
        let mask = self.address_mask();
        let no_execute = if self.no_execute() { NO_EXECUTE } else { 0 };
        let high = if self.is_long() { 0 } else { 0x7ff << 52 };
        let gib_pages = self.gib_pages && self.is_long();
        Mode {
            address: mask & !0xfff,
            reserved: (((1u64 << 52) - 1) & !mask) | (NO_EXECUTE & !no_execute) | high,
            large: 1 << 21 | u64::from(gib_pages) << 30,
            reserved_large: !0x1fff,
            no_execute,
        }
    }

    /// 32-bit paging. A 4 MiB page has its address bits 32 to 39 in bits 13 to
    /// 20 (PSE-36).
    fn narrow(&self) -> Mode {
        let extra = self.physical_bits.saturating_sub(32).min(8);
        let pse36 = ((1u64 << extra) - 1) << 13;
        Mode {
            address: 0xffff_f000,
            reserved: 0,
            large: u64::from(self.cr4.contains(Cr4::PSE)) << 22,
            reserved_large: 0x3f_e000 & !pse36,
            no_execute: 0,
        }
    }
}

/// A walk under way: what a fault's error code depends on. Entries are WIDE, of
/// 8 bytes, or have 4.
struct Walk<'a, E: Entries, const WIDE: bool> {
    paging: &'a Paging,
    mode: Mode,
    intent: Intent,
    gva: Gva,
    entries: &'a E,
}

/// Translates `gva` with the rights of `intent`, and sets accessed and dirty
/// bits as the CPU would.
#[inline(never)]
pub fn walk<E: Entries>(
    paging: &Paging,
    intent: Intent,
    gva: Gva,
    entries: &E,
) -> Result<Translation, Denied> {
    match ordinary(paging, intent, gva, entries) {
        Some(found) => Ok(found),
        None => walk_each(paging, intent, gva, entries),
    }
}

/// The walk of almost every access: at most four levels of entries that are all
/// marked as accessed, to a page that may be used so. Anything else is None, and
/// left to [`walk_each`]; nothing was changed yet.
#[inline(always)]
pub fn ordinary<E: Entries>(
    paging: &Paging,
    intent: Intent,
    gva: Gva,
    entries: &E,
) -> Option<Translation> {
    let long = Cr4::PAE.bits() | Cr4::LA57.bits();
    let is_usual = paging.cr0.contains(Cr0::PG)
        && paging.is_long()
        && paging.cr4.bits() & long == Cr4::PAE.bits()
        && paging.efer.contains(Efer::NXE)
        && is_canonical(gva.0, 48);
    if !is_usual {
        return None;
    }
    let (mut entry, mut all, mut any) = (paging.cr3, u64::MAX, 0);
    let mut inside = 0xfff;
    for shift in [39, 30, 21, 12] {
        let at = Gpa((entry & ADDRESS) + (gva.0 >> shift & 0x1ff) * 8);
        entry = entries.load_wide(at);
        (all, any) = (all & entry, any | entry);
        let large = if shift == 12 { 0 } else { LARGE };
        if entry & (PRESENT | ACCESSED | large) != PRESENT | ACCESSED {
            inside = large_page(paging, entry, shift)?;
            break;
        }
    }
    let has_reserved = (any & ADDRESS).wrapping_shr(paging.physical_bits) != 0;
    if has_reserved || (intent.write && entry & DIRTY == 0) {
        return None;
    }
    let rights = Rights {
        writable: all & WRITABLE != 0,
        user: all & USER != 0,
        execute: any & NO_EXECUTE == 0,
    };
    let key = (entry >> 59 & 0xf) as u32;
    check_rights(paging, intent, rights, key).ok()?;
    let offset = gva.0 & inside;
    Some(Translation {
        gpa: Gpa(entry & ADDRESS & !inside | offset),
        left: inside + 1 - offset,
    })
}

/// The bits of an address inside of the page that `entry` maps at the level of
/// `shift`, if it is an ordinary one of 2 MiB or 1 GiB.
#[inline(always)]
fn large_page(paging: &Paging, entry: u64, shift: u32) -> Option<u64> {
    let inside = (1u64 << shift) - 1;
    let reserved = inside & ADDRESS & !PAGE_ATTRIBUTE;
    let has_size = shift == 21 || shift == 30 && paging.gib_pages;
    let bits = PRESENT | ACCESSED | LARGE;
    (has_size && entry & (bits | reserved) == bits).then_some(inside)
}

/// As [`walk`], but looks at each entry once only, unless it changes meanwhile.
#[inline(never)]
pub fn walk_each<E: Entries>(
    paging: &Paging,
    intent: Intent,
    gva: Gva,
    entries: &E,
) -> Result<Translation, Denied> {
    if !paging.cr0.contains(Cr0::PG) {
        let gpa = Gpa(gva.0 & 0xffff_ffff);
        return Ok(Translation {
            gpa,
            left: gpa.left_in_page(),
        });
    }
    if paging.is_long() && !is_canonical(gva.0, paging.cr4.linear_bits()) {
        return Err(Denied::NonCanonical(gva));
    }
    let gva = if paging.is_long() {
        gva
    } else {
        Gva(gva.0 & 0xffff_ffff)
    };
    if paging.is_wide() {
        Walk::<E, true> {
            paging,
            mode: paging.wide(),
            intent,
            gva,
            entries,
        }
        .run()
    } else {
        Walk::<E, false> {
            paging,
            mode: paging.narrow(),
            intent,
            gva,
            entries,
        }
        .run()
    }
}

impl<E: Entries, const WIDE: bool> Walk<'_, E, WIDE> {
    /// Bytes of an entry.
    const SIZE: u64 = if WIDE { 8 } else { 4 };
    /// How many bits of a linear address select one.
    const BITS: u32 = if WIDE { 9 } else { 10 };

    #[inline(always)]
    fn run(&self) -> Result<Translation, Denied> {
        for _ in 0..ATTEMPTS {
            if let Some(result) = self.attempt()? {
                return Ok(result);
            }
        }
        Err(Denied::Restless(self.gva))
    }

    /// One pass from the root to the page. None: an entry changed between
    /// being read and being marked, so the CPU would start again.
    #[inline(always)]
    fn attempt(&self) -> Result<Option<Translation>, Denied> {
        let (mut table, levels) = self.root()?;
        let mut shift = 12 + Self::BITS * (levels - 1);
        let (mut all, mut any) = (u64::MAX, 0);
        loop {
            let index = (self.gva.0 >> shift) & ((1 << Self::BITS) - 1);
            let at = Gpa(table + index * Self::SIZE);
            let Some(entry) = self.entries.load(at, Self::SIZE) else {
                return Err(Denied::NoMemory(at));
            };
            let is_page = match self.check_entry(entry, shift) {
                Ok(is_page) => is_page,
                Err(why) => return Err(self.fault(why)),
            };
            (all, any) = (all & entry, any | entry);
            if is_page {
                let key = (entry >> 59 & 0xf) as u32;
                let rights = self.rights(all, any);
                if let Err(why) = check_rights(self.paging, self.intent, rights, key) {
                    return Err(self.fault(why));
                }
            }
            if !self.mark(at, entry, is_page) {
                return Ok(None);
            }
            if is_page {
                return Ok(Some(self.page(shift, entry)));
            }
            table = entry & self.mode.address;
            shift -= Self::BITS;
        }
    }

    /// The first table and its level. In PAE mode the four entries above it
    /// were loaded with CR3, and carry no rights.
    #[inline(always)]
    fn root(&self) -> Result<(u64, u32), Denied> {
        let paging = self.paging;
        if paging.is_long() {
            let levels = if paging.cr4.contains(Cr4::LA57) { 5 } else { 4 };
            return Ok((paging.cr3 & self.mode.address, levels));
        }
        if !WIDE {
            return Ok((paging.cr3 & self.mode.address, 2));
        }
        self.loaded_root()
    }

    /// In PAE mode.
    fn loaded_root(&self) -> Result<(u64, u32), Denied> {
        let paging = self.paging;
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
        // The CPU checked the entries that it loaded when it loaded them. QEMU
        // marks those in memory as accessed, which a CPU would refuse: it never
        // has an entry with that bit that is in use.
        let reserved = (PDPTE_RESERVED & !ACCESSED) | !paging.address_mask();
        if loaded.is_none() && entry & reserved != 0 {
            return Err(self.fault(page_fault::PRESENT | page_fault::RESERVED));
        }
        Ok((entry & paging.address_mask() & !0xfff, 2))
    }

    #[cold]
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

    /// Whether the entry for 2^`shift` bytes is a page; else why it faults. Bit
    /// 7 is a large page, or reserved, or in 32-bit paging without them nothing.
    #[inline(always)]
    fn check_entry(&self, entry: u64, shift: u32) -> Result<bool, u32> {
        if entry & PRESENT == 0 {
            return Err(0);
        }
        let (mut reserved, mut is_page) = (self.mode.reserved, shift == 12);
        if entry & LARGE != 0 && !is_page {
            is_page = self.mode.large >> shift & 1 != 0;
            reserved |= match is_page {
                true => ((1u64 << shift) - 1) & self.mode.reserved_large,
                false if shift > 12 + Self::BITS => LARGE,
                false => 0,
            };
        }
        if entry & reserved != 0 {
            return Err(page_fault::PRESENT | page_fault::RESERVED);
        }
        Ok(is_page)
    }

    /// From the bits that all entries have, and those that any has.
    fn rights(&self, all: u64, any: u64) -> Rights {
        Rights {
            writable: all & WRITABLE != 0,
            user: all & USER != 0,
            execute: any & self.mode.no_execute == 0,
        }
    }

    /// Sets the accessed bit, and the dirty bit of a page that is written.
    #[inline(always)]
    fn mark(&self, at: Gpa, entry: u64, is_page: bool) -> bool {
        let dirty = if is_page && self.intent.write {
            DIRTY
        } else {
            0
        };
        let marked = entry | ACCESSED | dirty;
        marked == entry || self.entries.exchange(at, Self::SIZE, entry, marked)
    }

    fn page(&self, shift: u32, entry: u64) -> Translation {
        let inside = (1u64 << shift) - 1;
        let mut base = entry & self.mode.address & !inside;
        if !WIDE && shift > 12 {
            base |= (entry >> 13 & 0xff) << 32;
        }
        let offset = self.gva.0 & inside;
        Translation {
            gpa: Gpa(base | offset),
            left: inside + 1 - offset,
        }
    }
}

/// Whether a page with these rights and this key may be used so; else why it
/// faults. Intel SDM volume 3, "Access Rights" under "Determination of Access
/// Rights", and "Protection Keys".
#[inline(always)]
fn check_rights(paging: &Paging, intent: Intent, rights: Rights, key: u32) -> Result<(), u32> {
    let allowed = if intent.fetch {
        may_fetch(paging, intent, rights)
    } else {
        may_access(paging, intent, rights)
    };
    // The key is told of whatever else denies the access. Intel SDM volume 3,
    // "Page-Fault Exceptions".
    let key_denies = key_denies(paging, intent, rights, key);
    match (allowed, key_denies) {
        (true, false) => Ok(()),
        (false, false) => Err(page_fault::PRESENT),
        (_, true) => Err(page_fault::PRESENT | page_fault::KEY),
    }
}

#[inline(always)]
fn may_fetch(paging: &Paging, intent: Intent, rights: Rights) -> bool {
    let user_page_by_supervisor = !intent.user && rights.user;
    let smep = paging.cr4.contains(Cr4::SMEP);
    rights.execute && (!intent.user || rights.user) && !(user_page_by_supervisor && smep)
}

#[inline(always)]
fn may_access(paging: &Paging, intent: Intent, rights: Rights) -> bool {
    if intent.user {
        return rights.user && (!intent.write || rights.writable);
    }
    let smap = paging.cr4.contains(Cr4::SMAP) && !paging.alignment_check;
    if rights.user && smap {
        return false;
    }
    let protected = paging.cr0.contains(Cr0::WP);
    !intent.write || rights.writable || !protected
}

#[inline(always)]
fn key_denies(paging: &Paging, intent: Intent, rights: Rights, key: u32) -> bool {
    let keys = paging.is_long() && paging.cr4.contains(Cr4::PKE);
    if !keys || !rights.user || intent.fetch {
        return false;
    }
    let access_disable = paging.pkru >> (2 * key) & 1 != 0;
    let write_disable = paging.pkru >> (2 * key + 1) & 1 != 0;
    let writes_count = intent.user || paging.cr0.contains(Cr0::WP);
    access_disable || (intent.write && write_disable && writes_count)
}

#[cfg(test)]
mod tests;
