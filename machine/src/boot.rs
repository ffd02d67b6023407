//! From the loader's call to the hypervisor's own world and, where this
//! machine cannot run it, back again.
//!
//! The first half runs on the firmware's stack and tables: it lays out the
//! region. Then the CPU moves to the hypervisor's own tables, stack and
//! descriptors, and `main` goes on from there. It returns only with a refusal,
//! for which everything is put back.

use crate::child::boarding;
use crate::descriptors::Descriptors;
use crate::firmware::{Caller, Firmware};
use crate::instructions::{cpuid, read_cr4, write_cr0, write_cr4, write_msr};
use crate::memory::GuestMemory;
use crate::nested::{Format, Nested, Plan};
use crate::percpu::PerCpu;
use crate::port::Port;
use crate::region::{Exhausted, Region};
use crate::tables::{OwnTables, Rights};
use crate::{apic, backtrace, guarded, heap, log, mtrrs};
use ::log::LevelFilter;
use abi::handoff::{self, Handoff, LogLevel, LogPort, footprint};
use abi::refusal::Refusal;
use core::arch::naked_asm;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use x86::control::{Cr0, Cr4, Efer};
use x86::cpuid::Vendor;
use x86::{Gpa, Hpa, PAGE_SIZE, cpuid, msr};

/// How many CPUs are handled.
pub const CPUS_MAX: u64 = handoff::CPUS_MAX as u64;

/// What `main` has to work with.
pub struct Boot {
    /// Which CPU this is: 0 is the one on which the loader runs.
    pub number: u32,
    /// What the loader said.
    pub handoff: Handoff,
    /// The CPU state with which the guest goes on.
    pub firmware: Firmware,
    pub(crate) region: Region,
    pub(crate) percpu: &'static PerCpu,
    pub(crate) descriptors: Descriptors,
    pub(crate) own: OwnState,
}

/// The control registers that the hypervisor runs with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnState {
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
}

/// The policy's entry point: returns why this machine cannot run it, or not.
pub type Main = fn(Boot) -> Refusal;

impl From<Exhausted> for Refusal {
    fn from(exhausted: Exhausted) -> Self {
        Self::TooLittleMemory {
            wanted: exhausted.wanted,
            given: 0,
        }
    }
}

/// How this CPU virtualises, if it does.
pub(crate) fn vendor() -> Option<Vendor> {
    if cpuid(cpuid::FEATURES, 0).ecx & cpuid::ECX1_VMX != 0 {
        return Some(Vendor::Intel);
    }
    let extended = cpuid(0x8000_0000, 0).eax >= cpuid::SVM;
    let svm = extended && cpuid(cpuid::AMD_FEATURES, 0).ecx & cpuid::AMD_ECX_SVM != 0;
    svm.then_some(Vendor::Amd)
}

impl Boot {
    /// How this CPU virtualises, if it does.
    pub fn vendor(&self) -> Option<Vendor> {
        vendor()
    }

    /// Bytes of the region that are used.
    pub fn used(&self) -> u64 {
        self.region.used()
    }

    /// Lets the other CPUs in, each into its own `main`.
    pub fn let_others_in(&self) {
        DOOR.store(OPEN, Ordering::Release);
    }

    /// This CPU stays with the hypervisor: no refusal comes any more, but from
    /// its first entry.
    pub fn settle(&self, vcpu: &mut impl crate::Vcpu) {
        self.descriptors.load_task();
        vcpu.settle();
    }

    /// A value of its own in the region, for as long as the machine runs.
    pub fn place<T>(&mut self, value: T) -> Result<&'static T, Refusal> {
        Ok(self.region.place(value)?)
    }

    /// `size` bytes of the region as words that several CPUs can reach, all 0.
    pub fn words(&mut self, size: u64) -> Result<&'static [AtomicU64], Refusal> {
        Ok(self.region.words(size)?)
    }

    /// The guest's memory, with nested tables in a vendor's format that follow
    /// the MTRRs.
    pub fn guest_memory(
        &mut self,
        format: Format,
        gib_pages: bool,
    ) -> Result<GuestMemory, Refusal> {
        let bits = footprint::nested_bits(address_bits(), gib_pages);
        let bytes = footprint::nested_tables(bits, gib_pages, mtrrs::variable_count());
        let pool = self.region.tables((bytes / PAGE_SIZE) as usize)?;
        let base = Hpa(pool.as_ptr() as u64);
        let [scrap_table] = self.region.tables(1)? else {
            return Err(self.too_small());
        };
        let scrap_table_at = Hpa(core::ptr::from_ref(scrap_table) as u64);
        let scrap_page = Hpa(self.region.pages(1)?.as_ptr() as u64);
        let reserved = self.region.base().0..self.region.base().0 + self.region.size();
        let plan = Plan {
            format,
            bits,
            gib_pages,
            reserved: reserved.clone(),
        };
        let nested = Nested::new(
            plan,
            &mtrrs::read(),
            (base, pool),
            (scrap_table_at, scrap_table),
            scrap_page,
        )
        .map_err(|_| self.too_small())?;
        let reserved = Gpa(reserved.start)..Gpa(reserved.end);
        // SAFETY: `prepare` mapped guest memory up to the end of the last range
        // without the region, and the plan leaves out the same range.
        Ok(unsafe { GuestMemory::new(nested, reserved, self.handoff.memory) })
    }

    /// The refusal for a region in which not everything fits.
    pub fn too_small(&self) -> Refusal {
        let given = self.region.size();
        Refusal::TooLittleMemory {
            wanted: given + handoff::REGION_ALIGN,
            given,
        }
    }
}

/// Bits of a physical address that say where memory is: without those at the
/// top that choose an encryption key, which would show the same memory again
/// under other addresses. Intel SDM volume 4, "IA32_TME_ACTIVATE"; AMD APM
/// volume 2, "Secure Memory Encryption".
fn address_bits() -> u32 {
    let has_tme = cpuid(cpuid::EXTENDED_FEATURES, 0).ecx & cpuid::ECX7_TME != 0;
    let has_sme = cpuid(0x8000_0000, 0).eax >= cpuid::MEMORY_ENCRYPTION
        && cpuid(cpuid::MEMORY_ENCRYPTION, 0).eax & 1 != 0;
    let mut keys = 0;
    if has_tme {
        let activate = guarded::read_msr(msr::TME_ACTIVATE).unwrap_or(0);
        if activate & msr::TME_ENABLED != 0 {
            keys = (activate >> 32 & 0xf) as u32;
        }
    }
    if has_sme {
        let configuration = guarded::read_msr(msr::AMD_SYSCFG).unwrap_or(0);
        if configuration & msr::AMD_SYSCFG_ENCRYPTION != 0 {
            keys = cpuid(cpuid::MEMORY_ENCRYPTION, 0).ebx >> 6 & 0x3f;
        }
    }
    physical_bits().saturating_sub(keys)
}

/// Bits of a physical address on this CPU.
pub fn physical_bits() -> u32 {
    if cpuid(0x8000_0000, 0).eax < cpuid::ADDRESS_WIDTHS {
        return 36;
    }
    (cpuid(cpuid::ADDRESS_WIDTHS, 0).eax & 0xff).clamp(32, 52)
}

/// Whether ordinary tables may have 1 GiB pages on this CPU.
pub fn has_gib_pages() -> bool {
    cpuid(cpuid::AMD_FEATURES, 0).edx & cpuid::AMD_EDX_GIB_PAGES != 0
}

/// What the CPU switch needs; lies in the region, which both tables map.
#[repr(C)]
struct Switch {
    stack_top: u64,
    own_cr3: u64,
    firmware_cr3: u64,
    firmware_rsp: u64,
    boot: Option<Boot>,
    main: Main,
    answer: Refusal,
}

/// What each CPU finds its part of the region by. Written by the first CPU
/// before it opens the door.
static SWITCHES: [AtomicPtr<Switch>; CPUS_MAX as usize] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; CPUS_MAX as usize];

/// The numbers that CPUs have taken: each takes the next when it arrives.
static ARRIVED: AtomicU32 = AtomicU32::new(1);

/// Whether others may come in. Written by the first CPU.
static DOOR: AtomicU32 = AtomicU32::new(CLOSED);
const CLOSED: u32 = 0;
const OPEN: u32 = 1;
const REFUSED: u32 = 2;

/// The entry point's Rust half: called with the loader's arguments and what the
/// entry point pushed. Returns a refusal's code, or not at all.
///
/// # Safety
/// Called by [`entry!`](crate::entry) only, from the loader as
/// [`abi::handoff`] describes.
// `main` only passes through the entry point's assembly as an address.
#[allow(improper_ctypes_definitions)]
pub unsafe extern "sysv64" fn start(
    handoff: *mut Handoff,
    caller: *const Caller,
    main: Main,
    role: u64,
) -> u64 {
    if role != handoff::ROLE_FIRST {
        // SAFETY: as for this function.
        let (code, _) = unsafe { join(caller) }.encode();
        return code;
    }
    // SAFETY: the loader passes a handoff of its own version at least as far
    // as the magic and version, which are checked before anything else.
    let answer = unsafe { checked(handoff) }.and_then(|known| {
        // SAFETY: as for this function.
        let firmware = unsafe { Firmware::capture(caller) };
        // SAFETY: the handoff was checked, and the loader reserved its region.
        unsafe { prepare(known, firmware, main) }
    });
    let refusal = match answer {
        Ok(switch) => run(switch),
        Err(refusal) => refusal,
    };
    // Those that are in already have their own refusals.
    let _ = DOOR.compare_exchange(CLOSED, REFUSED, Ordering::AcqRel, Ordering::Acquire);
    let (code, detail) = refusal.encode();
    // SAFETY: the loader's handoff is valid until its call returns.
    unsafe { (*handoff).detail = detail };
    code
}

/// Another CPU arrives: it waits for the door, on the firmware's stack, and
/// goes in to its own part of the region.
///
/// # Safety
/// As for [`start`].
unsafe fn join(caller: *const Caller) -> Refusal {
    let number = ARRIVED.fetch_add(1, Ordering::AcqRel);
    while DOOR.load(Ordering::Acquire) == CLOSED {
        core::hint::spin_loop();
    }
    let place = SWITCHES.get(number as usize);
    let switch = place.map_or(core::ptr::null_mut(), |place| place.load(Ordering::Acquire));
    // SAFETY: `prepare` stored the address of a static switch for this number,
    // which no other CPU has.
    let switch = unsafe { switch.as_mut() };
    let Some(switch) = switch.filter(|_| DOOR.load(Ordering::Acquire) == OPEN) else {
        return Refusal::NotTogether {
            number: u64::from(number),
        };
    };
    // SAFETY: as for this function.
    let firmware = unsafe { Firmware::capture(caller) };
    switch.firmware_cr3 = firmware.cr3;
    if let Some(boot) = &mut switch.boot {
        boot.firmware = firmware;
        boot.own = OwnState {
            cr3: boot.own.cr3,
            ..own_registers(&firmware)
        };
    }
    run(switch)
}

/// # Safety
/// `handoff` is valid for reading.
unsafe fn checked(handoff: *const Handoff) -> Result<Handoff, Refusal> {
    // SAFETY: as the caller promises; these two fields never move.
    let (magic, version) = unsafe { ((*handoff).magic, (*handoff).version) };
    if magic != handoff::MAGIC || version != handoff::VERSION {
        return Err(Refusal::VersionMismatch {
            loader: u64::from(version),
            hypervisor: u64::from(handoff::VERSION),
        });
    }
    // SAFETY: the version says that the rest is there too.
    let known = unsafe { handoff.read() };
    if u64::from(known.cpus) > CPUS_MAX {
        return Err(Refusal::TooManyCpus {
            enabled: u64::from(known.cpus),
            handled: CPUS_MAX,
        });
    }
    Ok(known)
}

fn start_log(region: &mut Region, handoff: &Handoff) -> Result<(), Exhausted> {
    let text = region.bytes(footprint::LOG)?;
    let port = match LogPort::from_code(handoff.log_port).unwrap_or_default() {
        LogPort::Com1 => Port::Serial(0x3f8),
        LogPort::Com2 => Port::Serial(0x2f8),
        LogPort::Debugcon => Port::Debugcon,
        LogPort::None => Port::None,
    };
    let level = match LogLevel::from_code(handoff.log_level).unwrap_or_default() {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    };
    log::start(text, port, level, handoff.loader_tsc, handoff.tsc_hz);
    Ok(())
}

/// Lays out the region, up to the moment before the CPU changes tables.
///
/// # Safety
/// The handoff is the loader's and its region is the hypervisor's alone.
unsafe fn prepare(
    handoff: Handoff,
    firmware: Firmware,
    main: Main,
) -> Result<&'static mut Switch, Refusal> {
    let (base, size) = (handoff.region_base, handoff.region_size);
    backtrace::set_region(base..base + size);
    // SAFETY: as the caller promises; the image is the region's first part.
    let mut region = unsafe { Region::new(base, size, handoff.image_size) };
    start_log(&mut region, &handoff)?;
    heap::start(region.bytes(footprint::HEAP)?);
    boarding::start(&handoff, &mut region);
    let mut tables = own_tables(&mut region, &handoff, &firmware)?;
    let own = OwnState {
        cr3: tables.root(),
        ..own_registers(&firmware)
    };
    for number in (0..handoff.cpus.max(1)).rev() {
        let (percpu, guards) = PerCpu::new(tables.region(), number)?;
        for guard in guards {
            tables.protect(guard, Rights::None)?;
        }
        let descriptors = Descriptors::new(tables.region(), percpu.exception_stacks)?;
        let switch = tables.region().place(Switch {
            stack_top: percpu.stack_top,
            own_cr3: own.cr3,
            firmware_cr3: firmware.cr3,
            firmware_rsp: 0,
            boot: None,
            main,
            answer: Refusal::NoVirtualisation,
        })?;
        let boot = |region| Boot {
            number,
            handoff,
            firmware,
            region,
            percpu,
            descriptors,
            own,
        };
        if number == 0 {
            switch.boot = Some(boot(region));
            return Ok(switch);
        }
        let share = tables.region().split(SHARE + handoff.trace_size)?;
        switch.boot = Some(boot(share));
        if let Some(place) = SWITCHES.get(number as usize) {
            place.store(switch, Ordering::Release);
        }
    }
    Err(Refusal::NoVirtualisation)
}

/// Of a CPU's part of the region, what its vCPU and statistics take.
const SHARE: u64 = 20 * PAGE_SIZE;

fn own_tables<'a>(
    region: &'a mut Region,
    handoff: &Handoff,
    firmware: &Firmware,
) -> Result<OwnTables<'a>, Refusal> {
    let base = region.base().0;
    let ends = handoff.memory.iter().map(|range| range.end);
    let memory_end = ends.max().unwrap_or(0);
    let memory_end = memory_end.next_multiple_of(handoff::REGION_ALIGN);
    let levels = if firmware.cr4 & Cr4::LA57.bits() != 0 {
        5
    } else {
        4
    };
    let mut tables = OwnTables::new(region, levels, has_gib_pages())?;
    tables.map_region()?;
    for segment in handoff.segments.iter().filter(|segment| segment.size > 0) {
        let rights = match segment.flags {
            flags if flags & handoff::SEGMENT_EXECUTE != 0 => Rights::Execute,
            flags if flags & handoff::SEGMENT_WRITE != 0 => Rights::Write,
            _ => Rights::Read,
        };
        let start = base + segment.offset;
        let end = (start + segment.size).next_multiple_of(PAGE_SIZE);
        tables.protect(start..end, rights)?;
    }
    tables.map_guest(memory_end)?;
    tables.map_device(apic::WINDOW, x86::apic::PAGE)?;
    Ok(tables)
}

/// The control registers that the hypervisor wants: the least that it needs.
fn own_registers(firmware: &Firmware) -> OwnState {
    let features = cpuid(cpuid::FEATURES, 0);
    let extended = cpuid(cpuid::EXTENDED_FEATURES, 0);
    let mut cr4 = Cr4::PAE | Cr4::MCE;
    cr4 |= Cr4::from_bits_retain(firmware.cr4) & Cr4::LA57;
    cr4.set(Cr4::OSXSAVE, features.ecx & cpuid::ECX1_XSAVE != 0);
    cr4.set(Cr4::PKE, extended.ecx & cpuid::ECX7_PKU != 0);
    let mut cr0 = Cr0::from_bits_retain(firmware.cr0);
    cr0.insert(Cr0::WP | Cr0::NE);
    cr0.remove(Cr0::TS | Cr0::EM);
    let efer = Efer::LME | Efer::LMA | Efer::NXE | Efer::SCE;
    OwnState {
        cr0: cr0.bits(),
        cr3: 0,
        cr4: cr4.bits(),
        efer: efer.bits(),
    }
}

/// Runs `main` in the hypervisor's own world. Comes back with a refusal only.
fn run(switch: &'static mut Switch) -> Refusal {
    let Some(boot) = &switch.boot else {
        return Refusal::NoVirtualisation;
    };
    let firmware = boot.firmware;
    // SAFETY: a 64-bit CPU with no-execute pages, which every CPU with VT-x or
    // AMD-V is, takes this value; the own tables use the bit. Descriptors and
    // stacks for exceptions lie in the region, which both tables map: an NMI
    // finds its handler at any moment.
    unsafe {
        write_msr(msr::EFER, firmware.efer | Efer::NXE.bits());
        boot.descriptors.load();
        boot.percpu.install();
    }
    // SAFETY: the switch lies in the region, which the own tables map at the
    // same addresses, as they do this code.
    unsafe { switch_tables(switch) };
    // SAFETY: the firmware's tables are back, and `main` returns only with
    // VMX or SVM switched off again.
    unsafe { firmware.restore() };
    switch.answer
}

#[unsafe(naked)]
unsafe extern "sysv64" fn switch_tables(switch: *mut Switch) {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "mov [rdi + {firmware_rsp}], rsp",
        "mov rbx, rdi",
        "mov rsp, [rdi + {stack_top}]",
        "mov rax, [rdi + {own_cr3}]",
        "mov cr3, rax",
        "xor ebp, ebp",
        "call {inside}",
        "mov rax, [rbx + {firmware_cr3}]",
        "mov cr3, rax",
        "mov rsp, [rbx + {firmware_rsp}]",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        firmware_rsp = const core::mem::offset_of!(Switch, firmware_rsp),
        stack_top = const core::mem::offset_of!(Switch, stack_top),
        own_cr3 = const core::mem::offset_of!(Switch, own_cr3),
        firmware_cr3 = const core::mem::offset_of!(Switch, firmware_cr3),
        inside = sym inside,
    )
}

extern "sysv64" fn inside(switch: &mut Switch) {
    let Some(boot) = switch.boot.take() else {
        return;
    };
    // SAFETY: the values come from `own_registers`, which sets only what this
    // CPU has and keeps paging and its mode; the own tables are in use. CR4
    // without PGE drops the firmware's global translations.
    unsafe {
        write_cr0(boot.own.cr0);
        write_cr4(boot.own.cr4 | (read_cr4() & Cr4::LA57.bits()));
    }
    boot.percpu.set_apic(apic::address().id);
    switch.answer = (switch.main)(boot);
}

/// Makes a function of type [`Main`] the hypervisor's entry point.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        /// The entry point of the ELF file: the loader calls it with its
        /// handoff in RDI and the CPU's role in RSI. What a called function
        /// must preserve is pushed in the order of `Caller`.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "sysv64" fn _start(handoff: *mut $crate::Handoff, role: u64) -> u64 {
            core::arch::naked_asm!(
                "push rbx",
                "push rbp",
                "push r12",
                "push r13",
                "push r14",
                "push r15",
                "mov rcx, rsi",
                "mov rsi, rsp",
                "lea rdx, [rip + {main}]",
                "sub rsp, 8",
                "call {start}",
                "add rsp, 8",
                "pop r15",
                "pop r14",
                "pop r13",
                "pop r12",
                "pop rbp",
                "pop rbx",
                "ret",
                main = sym $main,
                start = sym $crate::boot::start,
            )
        }
    };
}
