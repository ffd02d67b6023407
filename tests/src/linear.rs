//! Page-table entries of the guest's own: mapping an address that the firmware
//! does not use to any page, or pointing a table at any page.

use crate::cpu::{read_cr0, read_cr3, write_cr0, write_cr3};
use alloc::boxed::Box;

/// Entry bits: present, writable.
pub const PRESENT_WRITABLE: u64 = 0b11;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const CR0_WP: u64 = 1 << 16;

/// A page-table page.
#[repr(align(4096))]
pub struct Table(pub [u64; 512]);

impl Table {
    /// An empty one.
    pub fn boxed() -> Box<Self> {
        Box::new(Self([0; 512]))
    }

    /// An entry that points at this table. The firmware maps memory one to one.
    pub fn entry(&self) -> u64 {
        core::ptr::from_ref(self) as u64 | PRESENT_WRITABLE
    }
}

/// 2 MiB of linear addresses at the top of the lower half, mapped by one table
/// of our own or by whatever page is made that table.
pub struct Window {
    root_slot: *mut u64,
    root_before: u64,
    directory: Box<Table>,
    pointers: Box<Table>,
    /// The table that maps the window's 512 pages.
    pub pages: Box<Table>,
}

impl Window {
    /// The entry of the root table that leads to it.
    pub const SLOT: u64 = 200;
    /// Its first address.
    pub const BASE: u64 = Self::SLOT << 39;

    /// Opens an empty window with 4-level paging, which UEFI guests run with.
    pub fn open() -> Self {
        let (mut pointers, mut directory, pages) = (Table::boxed(), Table::boxed(), Table::boxed());
        directory.0[0] = pages.entry();
        pointers.0[0] = directory.entry();
        let root_slot = ((read_cr3() & ADDRESS) + Self::SLOT * 8) as *mut u64;
        // SAFETY: the root table of the firmware, which uses far fewer slots.
        let root_before = unsafe { root_slot.read_volatile() };
        let mut window = Self {
            root_slot,
            root_before,
            directory,
            pointers,
            pages,
        };
        window.set_root(window.pointers.entry());
        window
    }

    /// Maps page `index` of the window to `entry`.
    pub fn set(&mut self, index: usize, entry: u64) {
        // SAFETY: the table is ours; the CPU reads it behind the compiler's back.
        unsafe { (&raw mut self.pages.0[index]).write_volatile(entry) };
        flush();
    }

    /// Makes the page at `table` the window's page table, or ours again.
    pub fn set_table(&mut self, table: Option<u64>) {
        let entry = table.map_or(self.pages.entry(), |at| at | PRESENT_WRITABLE);
        // SAFETY: as above.
        unsafe { (&raw mut self.directory.0[0]).write_volatile(entry) };
        flush();
    }

    /// What a root table of the guest's own needs in [`Self::SLOT`].
    pub fn root_entry(&self) -> u64 {
        self.pointers.entry()
    }

    /// The address of page `index`.
    pub fn address(index: usize) -> u64 {
        Self::BASE + index as u64 * 4096
    }

    fn set_root(&mut self, entry: u64) {
        let cr0 = read_cr0();
        // SAFETY: the firmware may have made its tables read-only; the slot is
        // one that it does not use.
        unsafe {
            write_cr0(cr0 & !CR0_WP);
            self.root_slot.write_volatile(entry);
            write_cr0(cr0);
        }
        flush();
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.set_root(self.root_before);
    }
}

/// Forgets cached translations, all but global ones, which we do not make.
pub fn flush() {
    // SAFETY: CR3 keeps its value.
    unsafe { write_cr3(read_cr3()) };
}
