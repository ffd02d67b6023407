//! What a kernel finds when it starts: itself, its initrd, its command line, what
//! the boot protocol calls the zero page, and a vCPU in 64-bit mode. Linux,
//! "The Linux/x86 Boot Protocol", "64-bit Boot Protocol".

use crate::layout;
use crate::ram::Ram;
use crate::tables;
use anyhow::{Context, Result, bail, ensure};
use linux_loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::cmdline::Cmdline;
use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::bzimage::BzImage;
use linux_loader::loader::{KernelLoader, load_cmdline};
use std::fs::File;
use std::path::{Path, PathBuf};
use underlay_vm::Vcpu;
use vm_memory::{Bytes, GuestAddress};

/// Files and words that a VM boots with.
#[derive(Clone, Debug)]
pub struct Boot {
    /// A bzImage.
    pub kernel: PathBuf,
    /// Its first file system.
    pub initrd: Option<PathBuf>,
    /// Its command line.
    pub command_line: String,
}

/// Where a kernel is entered in 64-bit mode, behind its begin.
const ENTRY_64: u64 = 0x200;

impl Boot {
    /// Puts everything into `ram`. Gives the address of the kernel's entry.
    pub fn load(&self, ram: &Ram, vcpus: u8, has_disk: bool) -> Result<u64> {
        let (mut header, kernel) = self.load_kernel(ram)?;
        self.load_initrd(ram, &mut header)?;
        let mut line = Cmdline::new(layout::COMMAND_LINE_SIZE)?;
        line.insert_str(&self.command_line)
            .context("this command line cannot be given to a kernel")?;
        load_cmdline(&ram.view, GuestAddress(layout::COMMAND_LINE), &line)?;
        header.cmd_line_ptr = layout::COMMAND_LINE as u32;
        let tables = tables::all(vcpus, has_disk);
        ram.view.write_slice(&tables, GuestAddress(layout::TABLES))?;
        write_zero_page(ram, header)?;
        write_page_tables(ram)?;
        Ok(kernel + ENTRY_64)
    }

    fn load_kernel(&self, ram: &Ram) -> Result<(setup_header, u64)> {
        const HAS_ENTRY_64: u16 = 1;
        let mut file = open("--kernel", &self.kernel)?;
        let at = GuestAddress(layout::HIGH_BEGIN);
        let loaded = BzImage::load(&ram.view, None, &mut file, Some(at));
        let loaded = loaded.with_context(|| {
            format!(
                "{} is not a bzImage that fits into this memory",
                self.kernel.display()
            )
        })?;
        let header = loaded.setup_header.context("a kernel without a header")?;
        let (flags, needed) = (header.xloadflags, header.init_size);
        ensure!(flags & HAS_ENTRY_64 != 0, "not a 64-bit kernel");
        let least = header.pref_address + u64::from(needed);
        ensure!(
            least <= ram.size(),
            "this kernel needs {} MiB of --memory to unpack itself",
            least.div_ceil(1 << 20)
        );
        Ok((header, loaded.kernel_load.0))
    }

    /// At the end of memory, where the kernel expects no harm to it.
    fn load_initrd(&self, ram: &Ram, header: &mut setup_header) -> Result<()> {
        const PAGE: u64 = 0x1000;
        let Some(path) = &self.initrd else {
            return Ok(());
        };
        let mut file = open("--initrd", path)?;
        let size = file.metadata()?.len();
        let end = ram.size().min(u64::from(header.initrd_addr_max) + 1);
        let at = end.checked_sub(size).map(|at| at / PAGE * PAGE);
        let least = header.pref_address + u64::from(header.init_size);
        let Some(at) = at.filter(|at| *at >= least) else {
            bail!("{} does not fit into this memory", path.display());
        };
        let size = u32::try_from(size)?;
        ram.view
            .read_exact_volatile_from(GuestAddress(at), &mut file, size as usize)?;
        (header.ramdisk_image, header.ramdisk_size) = (u32::try_from(at)?, size);
        Ok(())
    }
}

fn open(option: &str, path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("{option}: {}", path.display()))
}

fn write_zero_page(ram: &Ram, mut header: setup_header) -> Result<()> {
    const USABLE: u32 = 1;
    const RESERVED: u32 = 2;
    /// Who loads it has no number of its own.
    const OTHER_LOADER: u8 = 0xff;
    header.type_of_loader = OTHER_LOADER;
    let mut page = boot_params {
        hdr: header,
        acpi_rsdp_addr: layout::TABLES,
        ..boot_params::default()
    };
    let ranges = [
        (0, layout::LOW_END, USABLE),
        (layout::LOW_END, layout::HIGH_BEGIN, RESERVED),
        (layout::HIGH_BEGIN, ram.size(), USABLE),
    ];
    for (place, (begin, end, kind)) in page.e820_table.iter_mut().zip(ranges) {
        *place = boot_e820_entry {
            addr: begin,
            size: end - begin,
            r#type: kind,
        };
        page.e820_entries += 1;
    }
    let page = BootParams::new(&page, GuestAddress(layout::ZERO_PAGE));
    Ok(LinuxBootConfigurator::write_bootparams(&page, &ram.view)?)
}

/// The first 4 GiB where they are, in pages of 2 MiB.
fn write_page_tables(ram: &Ram) -> Result<()> {
    const PAGE: u64 = 0x1000;
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    let entry = |at: u64, value: u64| ram.view.write_obj(value, GuestAddress(at));
    let pointers = layout::PAGE_TABLES + PAGE;
    entry(layout::PAGE_TABLES, pointers | PRESENT_WRITABLE)?;
    for gib in 0..4 {
        let directory = pointers + PAGE + gib * PAGE;
        entry(pointers + gib * 8, directory | PRESENT_WRITABLE)?;
        for number in 0..512 {
            let at = (gib * 512 + number) << 21;
            entry(directory + number * 8, at | LARGE | PRESENT_WRITABLE)?;
        }
    }
    for (number, descriptor) in (0..).zip(DESCRIPTORS) {
        entry(layout::DESCRIPTORS + number * 8, descriptor)?;
    }
    Ok(())
}

const CODE: u64 = 0x10;
const DATA: u64 = 0x18;
/// None, none, 64-bit code, data: all memory, for the kernel.
const DESCRIPTORS: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// A segment of `DESCRIPTORS`, as registers hold its rights.
const fn rights(descriptor: u64) -> u64 {
    descriptor >> 40 & 0xf0ff
}

/// Gives `vcpu` the registers with which a kernel that is entered at `entry`
/// wants to begin.
pub fn prepare(vcpu: &mut Vcpu, entry: u64) -> Result<()> {
    const ZERO_PAGE: usize = 6;
    const CODE_SEGMENT: usize = 1;
    const PROTECTED_AND_PAGED: u64 = 1 << 31 | 1;
    const PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
    const LONG_MODE: u64 = 1 << 8 | 1 << 10;
    let mut registers = vcpu.registers()?;
    registers.general[ZERO_PAGE] = layout::ZERO_PAGE;
    registers.rip = entry;
    registers.cr0 |= PROTECTED_AND_PAGED;
    registers.cr3 = layout::PAGE_TABLES;
    registers.cr4 = PHYSICAL_ADDRESS_EXTENSION;
    registers.efer = LONG_MODE;
    for segment in 0..6 {
        let [_, _, code, data] = DESCRIPTORS;
        let (selector, descriptor) = match segment {
            CODE_SEGMENT => (CODE, code),
            _ => (DATA, data),
        };
        registers.selectors[segment] = selector;
        registers.bases[segment] = 0;
        registers.limits[segment] = u32::MAX.into();
        registers.rights[segment] = rights(descriptor);
    }
    registers.gdt_base = layout::DESCRIPTORS;
    registers.gdt_limit = (DESCRIPTORS.len() * 8 - 1) as u64;
    Ok(vcpu.set_registers(&registers)?)
}
