//! What a kernel finds when it starts: itself, its initrd, its command line, what
//! the boot protocol calls the zero page, and a vCPU in 64-bit mode. Linux,
//! "The Linux/x86 Boot Protocol", "64-bit Boot Protocol".

use crate::layout::{self, Place};
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
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

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
    /// Puts everything into `memory`, for a VM with devices of virtio's at these
    /// places. Gives the address of the kernel's entry.
    pub fn load(&self, memory: &GuestMemoryMmap, vcpus: u8, places: &[Place]) -> Result<u64> {
        let (mut header, kernel) = self.load_kernel(memory)?;
        self.load_initrd(memory, &mut header)?;
        let mut line = Cmdline::new(layout::COMMAND_LINE_SIZE)?;
        line.insert_str(&self.command_line)
            .context("this command line cannot be given to a kernel")?;
        load_cmdline(memory, GuestAddress(layout::COMMAND_LINE), &line)?;
        header.cmd_line_ptr = layout::COMMAND_LINE as u32;
        let tables = tables::all(vcpus, places);
        memory.write_slice(&tables, GuestAddress(layout::TABLES))?;
        write_zero_page(memory, header)?;
        write_page_tables(memory)?;
        Ok(kernel + ENTRY_64)
    }

    fn load_kernel(&self, memory: &GuestMemoryMmap) -> Result<(setup_header, u64)> {
        const HAS_ENTRY_64: u16 = 1;
        let mut file = open("--kernel", &self.kernel)?;
        let at = GuestAddress(layout::HIGH_BEGIN);
        let loaded = BzImage::load(memory, None, &mut file, Some(at));
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
            least <= end_of(memory),
            "this kernel needs {} MiB of --memory to unpack itself",
            least.div_ceil(1 << 20)
        );
        Ok((header, loaded.kernel_load.0))
    }

    /// At the end of memory, where the kernel expects no harm to it.
    fn load_initrd(&self, memory: &GuestMemoryMmap, header: &mut setup_header) -> Result<()> {
        const PAGE: u64 = 0x1000;
        let Some(path) = &self.initrd else {
            return Ok(());
        };
        let mut file = open("--initrd", path)?;
        let size = file.metadata()?.len();
        let end = end_of(memory).min(u64::from(header.initrd_addr_max) + 1);
        let at = end.checked_sub(size).map(|at| at / PAGE * PAGE);
        let least = header.pref_address + u64::from(header.init_size);
        let Some(at) = at.filter(|at| *at >= least) else {
            bail!("{} does not fit into this memory", path.display());
        };
        let size = u32::try_from(size)?;
        memory.read_exact_volatile_from(GuestAddress(at), &mut file, size as usize)?;
        (header.ramdisk_image, header.ramdisk_size) = (u32::try_from(at)?, size);
        Ok(())
    }
}

/// Where memory ends, which begins at 0.
fn end_of(memory: &GuestMemoryMmap) -> u64 {
    (memory.last_addr().raw_value() + 1).min(layout::MEMORY_END)
}

fn open(option: &str, path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("{option}: {}", path.display()))
}

fn write_zero_page(memory: &GuestMemoryMmap, mut header: setup_header) -> Result<()> {
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
        (layout::HIGH_BEGIN, end_of(memory), USABLE),
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
    Ok(LinuxBootConfigurator::write_bootparams(&page, memory)?)
}

/// The first 4 GiB where they are, in pages of 2 MiB.
fn write_page_tables(memory: &GuestMemoryMmap) -> Result<()> {
    const PAGE: u64 = 0x1000;
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    let entry = |at: u64, value: u64| memory.write_obj(value, GuestAddress(at));
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const MEMORY: usize = 8 << 20;
    const SECTOR: usize = 512;
    const HEADER: usize = 0x1f1;

    /// A kernel of one sector behind one of set-up, as the boot protocol has it.
    fn kernel(flags: u16, needed: u32) -> Vec<u8> {
        let header = setup_header {
            setup_sects: 1,
            header: u32::from_le_bytes(*b"HdrS"),
            version: 0x20c,
            loadflags: 1,
            code32_start: 0x10_0000,
            xloadflags: flags,
            init_size: needed,
            pref_address: 0x10_0000,
            initrd_addr_max: 0x7fff_ffff,
            ..setup_header::default()
        };
        let mut image = vec![0x90; 3 * SECTOR];
        let mut begin = vec![0; 4096];
        // The header is read back from where the loader would find it.
        let page = boot_params {
            hdr: header,
            ..boot_params::default()
        };
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 8192)]).unwrap();
        let page = BootParams::new(&page, GuestAddress(0));
        LinuxBootConfigurator::write_bootparams::<GuestMemoryMmap>(&page, &memory).unwrap();
        memory.read_slice(&mut begin, GuestAddress(0)).unwrap();
        let end = HEADER + size_of::<setup_header>();
        image[HEADER..end].copy_from_slice(&begin[HEADER..end]);
        image
    }

    fn load(name: &str, kernel: &[u8], initrd: usize) -> Result<(GuestMemoryMmap, u64)> {
        let folder =
            std::env::temp_dir().join(format!("underlay-run-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let boot = Boot {
            kernel: folder.join("kernel"),
            initrd: Some(folder.join("initrd")),
            command_line: "console=ttyS0".to_owned(),
        };
        fs::write(&boot.kernel, kernel)?;
        fs::write(folder.join("initrd"), vec![7; initrd])?;
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)])?;
        let entry = boot.load(&memory, 1, &[]);
        fs::remove_dir_all(folder)?;
        Ok((memory, entry?))
    }

    #[test]
    fn a_kernel_finds_all_that_it_boots_with() {
        let (memory, entry) = load("whole", &kernel(1, 1 << 20), 5000).unwrap();
        assert_eq!(entry, 0x10_0200);
        assert_eq!(
            memory.read_obj::<u8>(GuestAddress(0x10_0000)).unwrap(),
            0x90
        );
        let page: boot_params = memory.read_obj(GuestAddress(layout::ZERO_PAGE)).unwrap();
        let (at, size) = (page.hdr.ramdisk_image, page.hdr.ramdisk_size);
        assert_eq!((at, size), (MEMORY as u32 - 0x2000, 5000));
        assert_eq!(memory.read_obj::<u8>(GuestAddress(at.into())).unwrap(), 7);
        let mut line = [0; 14];
        let at = GuestAddress(u64::from(page.hdr.cmd_line_ptr));
        memory.read_slice(&mut line, at).unwrap();
        assert_eq!(&line, b"console=ttyS0\0");
        let last = page.e820_table[usize::from(page.e820_entries) - 1];
        let (begin, size) = (last.addr, last.size);
        assert_eq!((begin, begin + size), (0x10_0000, MEMORY as u64));
    }

    #[test]
    fn the_first_tables_lead_to_the_same_address() {
        let (memory, _) = load("tables", &kernel(1, 1 << 20), 1).unwrap();
        let entry = |table: u64, number: u64| {
            let at = (table & !0xfff) + number * 8;
            memory.read_obj::<u64>(GuestAddress(at)).unwrap()
        };
        let address: u64 = 3 << 30 | 5 << 21;
        let pointers = entry(layout::PAGE_TABLES, 0);
        let page = entry(entry(pointers, address >> 30), address >> 21 & 511);
        assert_eq!(page, address | 0x83);
    }

    #[test]
    fn what_does_not_fit_or_is_no_kernel_is_refused() {
        let refused =
            |kernel: &[u8], initrd| load("refused", kernel, initrd).err().unwrap().to_string();
        assert!(refused(b"no kernel", 1).contains("is not a bzImage"));
        assert!(refused(&kernel(0, 1 << 20), 1).contains("64-bit"));
        assert!(refused(&kernel(1, 9 << 20), 1).contains("needs 10 MiB"));
        assert!(refused(&kernel(1, 1 << 20), 7 << 20).contains("does not fit"));
    }
}
