//! The call into the hypervisor. Newer firmware maps reserved memory
//! no-execute, so the no-execute bits over the region are cleared for the
//! duration of the call and set again after it: the hypervisor makes its own
//! page tables, and the firmware's are the guest's business.

use alloc::vec::Vec;
use core::ops::Range;

use abi::Handoff;
use abi::handoff::ROLE_FIRST;
use x86_64::VirtAddr;
use x86_64::instructions::{interrupts, tlb};
use x86_64::registers::control::{Cr0, Cr0Flags, Cr3, Cr4, Cr4Flags};

use super::failure::Failure;
use super::others::Others;
use super::region::Region;

const PAGE: u64 = 4096;
const PRESENT: u64 = 1 << 0;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The hypervisor's entry point: see `abi::handoff`.
pub(super) type Entry = extern "sysv64" fn(*mut Handoff, u64) -> u64;

/// What came of the call.
pub(super) struct Answer {
    /// What the entry point returned here.
    pub(super) code: u64,
    /// Whether all other CPUs are back from it, too.
    pub(super) all_back: bool,
}

/// Calls the entry point at this offset of the region, on every CPU. Interrupts
/// are off meanwhile: a handler of the firmware must see neither half-changed
/// page tables nor the middle of the change from machine to guest.
pub(super) fn call(region: &Region, entry: u64, handoff: &mut Handoff) -> Result<Answer, Failure> {
    let address = region.base() + entry;
    let forbidding = forbidding(region)?;
    if !forbidding.is_empty() && Cr4::read().contains(Cr4Flags::CONTROL_FLOW_ENFORCEMENT) {
        // CR0.WP cannot be cleared then ("MOV - Move to/from Control
        // Registers", #GP).
        return Err(Failure::NotMapped(address));
    }
    // SAFETY: `Image::parse` found the offset to be code of the hypervisor, and
    // `Image::load` put it at this address; `forbidding` found it mapped.
    let entry = unsafe { core::mem::transmute::<*const (), Entry>(address as *const ()) };
    interrupts::without_interrupts(|| change(&forbidding, region, |entry| entry & !NO_EXECUTE));
    let pages = region.base()..region.base() + region.size();
    let others = Others::send(handoff.cpus.saturating_sub(1), entry, handoff, pages);
    let answer = others.map(|others| {
        let code = interrupts::without_interrupts(|| entry(handoff, ROLE_FIRST));
        let all_back = others.wait();
        Answer { code, all_back }
    });
    // One that is late still runs there.
    if answer.as_ref().map_or(true, |answer| answer.all_back) {
        interrupts::without_interrupts(|| change(&forbidding, region, |entry| entry | NO_EXECUTE));
    }
    answer.map_err(|error| Failure::NoOthers(error.status()))
}

/// Addresses of the page-table entries, of any level, that keep some page of
/// the region from being executed.
fn forbidding(region: &Region) -> Result<Vec<u64>, Failure> {
    let mut found = Vec::new();
    let end = region.base() + region.size();
    let mut address = region.base();
    while address < end {
        let mapped = walk(address, &mut found).ok_or(Failure::NotMapped(address))?;
        address = (address - address % mapped).saturating_add(mapped);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Follows one address through the tables and notes the entries that forbid
/// execution. Returns how many bytes the last of them maps.
fn walk(address: u64, found: &mut Vec<u64>) -> Option<u64> {
    let top = if Cr4::read().contains(Cr4Flags::L5_PAGING) {
        5
    } else {
        4
    };
    let mut table = Cr3::read_raw().0.start_address().as_u64();
    for level in (1..=top).rev() {
        let shift = 12 + 9 * (level - 1);
        let place = table + (address >> shift & 511) * 8;
        let entry = read(place);
        if entry & PRESENT == 0 {
            return None;
        }
        if entry & NO_EXECUTE != 0 {
            found.push(place);
        }
        if level == 1 || (level <= 3 && entry & LARGE != 0) {
            return Some(1 << shift);
        }
        table = entry & ADDRESS;
    }
    None
}

fn read(place: u64) -> u64 {
    // SAFETY: an aligned entry of a table that CR3 leads to, so it is memory;
    // firmware maps memory at its physical address, and page tables of its own
    // making are never changed by the device or CPU but for two status bits.
    unsafe { (place as *const u64).read_volatile() }
}

/// Rewrites entries of the tables in use. Newer firmware maps its page tables
/// read-only, hence CR0.WP.
fn change(places: &[u64], region: &Region, new: impl Fn(u64) -> u64) {
    if places.is_empty() {
        return;
    }
    let cr0 = Cr0::read_raw();
    // SAFETY: with interrupts off nothing but this function runs until WP is
    // back; it writes only to the entries. `call` made sure that CET, which
    // needs WP, is off.
    unsafe { Cr0::write_raw(cr0 & !Cr0Flags::WRITE_PROTECT.bits()) };
    for place in places {
        let entry = new(read(*place));
        // SAFETY: `walk` found the entry present; it keeps its address and all
        // its bits but no-execute, so that no mapping of data changes.
        unsafe { (*place as *mut u64).write_volatile(entry) };
    }
    // SAFETY: the value that the firmware had.
    unsafe { Cr0::write_raw(cr0) };
    forget(region.base()..region.base() + region.size());
}

/// Drops this CPU's translations of `pages`. Page by page, because reloading
/// CR3 alone leaves global entries.
pub(super) fn forget(pages: Range<u64>) {
    for page in pages.step_by(PAGE as usize) {
        tlb::flush(VirtAddr::new_truncate(page));
    }
}
