//! What the loader finds out about the machine for the hypervisor, which has
//! no firmware to ask.

use alloc::vec::Vec;

use abi::Refusal;
use abi::discovery::{LEAF_SIGNATURE, signature_registers};
use loader::memory::{Kind, Range};
use raw_cpuid::{CpuId, cpuid};
use uefi::boot::{self, MemoryDescriptor, MemoryType};
use uefi::mem::memory_map::MemoryMap;
use uefi::proto::pi::mp::MpServices;

use super::protocol;

/// Physical address bits of a CPU that does not say.
const PHYSICAL_BITS_DEFAULT: u8 = 36;
const IA32_MTRRCAP: u32 = 0xfe;

/// The facts that decide how much memory the hypervisor needs.
pub(super) struct Survey {
    pub(super) cpus: u32,
    /// CPUs beyond those, which the firmware keeps in a loop of its own.
    pub(super) disabled: u32,
    pub(super) map: Vec<Range>,
    pub(super) physical_bits: u32,
    pub(super) gib_pages: bool,
    pub(super) variable_mtrrs: u32,
}

impl Survey {
    /// Looks around.
    pub(super) fn new() -> Self {
        let cpuid = CpuId::new();
        let capacity = cpuid.get_processor_capacity_feature_info();
        let extended = cpuid.get_extended_processor_and_feature_identifiers();
        let (cpus, disabled) = cpus();
        Self {
            cpus,
            disabled,
            map: map(),
            physical_bits: capacity
                .map_or(PHYSICAL_BITS_DEFAULT, |c| c.physical_address_bits())
                .into(),
            gib_pages: extended.is_some_and(|e| e.has_1gib_pages()),
            variable_mtrrs: variable_mtrrs(&cpuid),
        }
    }
}

/// Refuses a machine that Underlay is beneath already: two of them would take
/// each other for hardware. One that hides cannot be found here, but it hides
/// VMX and SVM, too, and the hypervisor refuses for want of these.
pub(super) fn check_not_beneath() -> Result<(), Refusal> {
    let leaf = cpuid!(LEAF_SIGNATURE);
    match [leaf.ebx, leaf.ecx, leaf.edx] == signature_registers() {
        true => Err(Refusal::AlreadyRunning),
        false => Ok(()),
    }
}

/// The name of the CPU's kind of virtualisation.
pub(super) fn vendor() -> &'static str {
    let vendor = CpuId::new().get_vendor_info();
    match vendor.as_ref().map(|vendor| vendor.as_str()) {
        Some("AuthenticAMD" | "HygonGenuine") => "AMD-V",
        _ => "VT-x",
    }
}

/// CPUs that the firmware has enabled, and those that it has not. Where it does
/// not say, as firmware for machines with one CPU may leave the service out,
/// what CPUID allows for: one too many is a refusal, one too few would run
/// outside the hypervisor.
fn cpus() -> (u32, u32) {
    let counted = || {
        let handle = boot::get_handle_for_protocol::<MpServices>().ok()?;
        let services = protocol::open::<MpServices>(handle).ok()?;
        let count = services.get()?.get_number_of_processors().ok()?;
        let enabled = u32::try_from(count.enabled).ok()?;
        let total = u32::try_from(count.total).ok()?;
        Some((enabled.max(1), total.saturating_sub(enabled)))
    };
    counted().unwrap_or_else(|| (possible_cpus().max(1), 0))
}

/// Logical CPUs of this package that CPUID leaf 1 allows for.
fn possible_cpus() -> u32 {
    let features = CpuId::new().get_feature_info();
    let several = features.filter(|features| features.has_htt());
    several.map_or(1, |features| features.max_logical_processor_ids().into())
}

/// The memory map; empty, so that no region is found in it, if the firmware
/// does not give one.
fn map() -> Vec<Range> {
    let map = boot::memory_map(MemoryType::LOADER_DATA);
    map.map_or_else(|_| Vec::new(), |map| map.entries().map(range).collect())
}

fn range(descriptor: &MemoryDescriptor) -> Range {
    let size = descriptor.page_count.saturating_mul(4096);
    Range {
        start: descriptor.phys_start,
        end: descriptor.phys_start.saturating_add(size),
        kind: kind(descriptor.ty),
    }
}

/// Reserved ranges do not count as memory: above 4 GiB they may be holes, and
/// those below do not move the end.
fn kind(ty: MemoryType) -> Kind {
    match ty {
        MemoryType::CONVENTIONAL => Kind::Free,
        MemoryType::LOADER_CODE
        | MemoryType::LOADER_DATA
        | MemoryType::BOOT_SERVICES_CODE
        | MemoryType::BOOT_SERVICES_DATA
        | MemoryType::RUNTIME_SERVICES_CODE
        | MemoryType::RUNTIME_SERVICES_DATA
        | MemoryType::ACPI_RECLAIM
        | MemoryType::ACPI_NON_VOLATILE
        | MemoryType::PERSISTENT_MEMORY => Kind::Used,
        _ => Kind::Other,
    }
}

fn variable_mtrrs(cpuid: &CpuId<raw_cpuid::CpuIdReaderNative>) -> u32 {
    if !cpuid.get_feature_info().is_some_and(|info| info.has_mtrr()) {
        return 0;
    }
    // SAFETY: CPUID says that the CPU has MTRRs, and with them this MSR;
    // reading it changes nothing.
    let capabilities = unsafe { x86_64::registers::model_specific::Msr::new(IA32_MTRRCAP).read() };
    (capabilities & 0xff) as u32
}
