//! Numbers and bits of model-specific registers. Intel SDM volume 4,
//! "Model-Specific Registers"; AMD APM volume 2, "MSR Cross-Reference".
#![allow(missing_docs)]

pub const TSC: u32 = 0x10;
pub const APIC_BASE: u32 = 0x1B;
pub const FEATURE_CONTROL: u32 = 0x3A;
pub const MEMORY_CONTROL: u32 = 0x33;
pub const BIOS_UPDATE_TRIGGER: u32 = 0x79;
pub const SMM_MONITOR_CONTROL: u32 = 0x9B;
pub const MTRR_CAPABILITIES: u32 = 0xFE;
pub const SYSENTER_CS: u32 = 0x174;
pub const SYSENTER_ESP: u32 = 0x175;
pub const SYSENTER_EIP: u32 = 0x176;
pub const MCG_STATUS: u32 = 0x17A;
pub const MISC_ENABLE: u32 = 0x1A0;
pub const DEBUG_CONTROL: u32 = 0x1D9;
pub const MTRR_VARIABLE_BASE: u32 = 0x200;
pub const MTRR_FIXED_64K: u32 = 0x250;
pub const MTRR_FIXED_16K: u32 = 0x258;
pub const MTRR_FIXED_4K: u32 = 0x268;
pub const MTRR_FIXED_4K_LAST: u32 = 0x26F;
pub const PAT: u32 = 0x277;
pub const MTRR_DEFAULT_TYPE: u32 = 0x2FF;
pub const PEBS_ENABLE: u32 = 0x3F1;
pub const VMX_BASIC: u32 = 0x480;
pub const VMX_PIN_CONTROLS: u32 = 0x481;
pub const VMX_PROCESSOR_CONTROLS: u32 = 0x482;
pub const VMX_EXIT_CONTROLS: u32 = 0x483;
pub const VMX_ENTRY_CONTROLS: u32 = 0x484;
pub const VMX_MISC: u32 = 0x485;
pub const VMX_CR0_FIXED0: u32 = 0x486;
pub const VMX_CR0_FIXED1: u32 = 0x487;
pub const VMX_CR4_FIXED0: u32 = 0x488;
pub const VMX_CR4_FIXED1: u32 = 0x489;
pub const VMX_SECONDARY_CONTROLS: u32 = 0x48B;
pub const VMX_EPT_VPID: u32 = 0x48C;
pub const VMX_TRUE_PIN_CONTROLS: u32 = 0x48D;
pub const VMX_TRUE_PROCESSOR_CONTROLS: u32 = 0x48E;
pub const VMX_TRUE_EXIT_CONTROLS: u32 = 0x48F;
pub const VMX_TRUE_ENTRY_CONTROLS: u32 = 0x490;
pub const VMX_VM_FUNCTIONS: u32 = 0x491;
pub const VMX_TERTIARY_CONTROLS: u32 = 0x492;
pub const VMX_SECONDARY_EXIT_CONTROLS: u32 = 0x493;
pub const VMX_LAST: u32 = 0x493;
pub const RTIT_FIRST: u32 = 0x560;
pub const RTIT_LAST: u32 = 0x58F;
pub const DS_AREA: u32 = 0x600;
pub const CET_FIRST: u32 = 0x6A0;
pub const CET_LAST: u32 = 0x6A8;
pub const PKRS: u32 = 0x6E1;
pub const TME_ACTIVATE: u32 = 0x982;
pub const TME_LAST: u32 = 0x984;
pub const XSS: u32 = 0xDA0;
pub const USER_INTERRUPT_FIRST: u32 = 0x985;
pub const USER_INTERRUPT_LAST: u32 = 0x98A;
pub const ARCH_LBR_FIRST: u32 = 0x14CE;
pub const ARCH_LBR_LAST: u32 = 0x14CF;
pub const ARCH_LBR_RECORDS_FIRST: u32 = 0x1200;
pub const ARCH_LBR_RECORDS_LAST: u32 = 0x121F;
pub const ARCH_LBR_FROM_FIRST: u32 = 0x1500;
pub const ARCH_LBR_TO_LAST: u32 = 0x161F;
pub const HARDWARE_FEEDBACK_FIRST: u32 = 0x17D0;
pub const HARDWARE_FEEDBACK_LAST: u32 = 0x17D4;
pub const STAR: u32 = 0xC000_0081;
pub const KERNEL_GS_BASE: u32 = 0xC000_0102;
pub const TSC_AUX: u32 = 0xC000_0103;
pub const EFER: u32 = 0xC000_0080;
pub const LSTAR: u32 = 0xC000_0082;
pub const FS_BASE: u32 = 0xC000_0100;
pub const GS_BASE: u32 = 0xC000_0101;
pub const AMD_SYSCFG: u32 = 0xC001_0010;
pub const AMD_IORR_FIRST: u32 = 0xC001_0016;
pub const AMD_TOP_MEM: u32 = 0xC001_001A;
pub const AMD_TOP_MEM2: u32 = 0xC001_001D;
pub const AMD_PATCH_LOADER: u32 = 0xC001_0020;
pub const AMD_MMIO_CONFIG_BASE: u32 = 0xC001_0058;
pub const AMD_SMM_BASE: u32 = 0xC001_0111;
pub const AMD_SMM_ADDRESS: u32 = 0xC001_0112;
pub const AMD_SMM_MASK: u32 = 0xC001_0113;
pub const AMD_VM_CR: u32 = 0xC001_0114;
pub const AMD_VM_HSAVE_PA: u32 = 0xC001_0117;
pub const AMD_SVM_KEY: u32 = 0xC001_0118;
pub const AMD_SMM_KEY: u32 = 0xC001_0119;

/// IA32_FEATURE_CONTROL: locked until the next reset.
pub const FEATURE_CONTROL_LOCK: u64 = 1 << 0;
/// IA32_FEATURE_CONTROL: VMX inside SMX.
pub const FEATURE_CONTROL_VMX_IN_SMX: u64 = 1 << 1;
/// IA32_FEATURE_CONTROL: VMX outside SMX.
pub const FEATURE_CONTROL_VMX: u64 = 1 << 2;
/// IA32_FEATURE_CONTROL: SENTER enables (local functions and global).
pub const FEATURE_CONTROL_SENTER: u64 = 0xFF << 8;
/// VM_CR: SVM is disabled.
pub const VM_CR_SVMDIS: u64 = 1 << 4;
/// IA32_APIC_BASE: the address bits above the page offset.
pub const APIC_BASE_ADDRESS: u64 = !0xFFF;
/// IA32_MISC_ENABLE: branch-trace storage unavailable.
pub const MISC_ENABLE_NO_BTS: u64 = 1 << 11;
/// IA32_MISC_ENABLE: processor event based sampling unavailable.
pub const MISC_ENABLE_NO_PEBS: u64 = 1 << 12;
/// IA32_MISC_ENABLE: execute-disable is disabled.
pub const MISC_ENABLE_NO_XD: u64 = 1 << 34;
/// IA32_TME_ACTIVATE: encryption is on.
pub const TME_ENABLED: u64 = 1 << 1;
/// MSR_MEMORY_CTRL: locked accesses to uncacheable memory fault.
pub const MEMORY_CONTROL_NO_UC_LOCK: u64 = 1 << 28;
/// VM_CR: INIT becomes #SX, which takes it, instead of staying pending.
pub const VM_CR_R_INIT: u64 = 1 << 1;
/// SYSCFG: memory encryption is on.
pub const AMD_SYSCFG_ENCRYPTION: u64 = 1 << 23;
/// IA32_DEBUGCTL: the trap flag traps on branches only.
pub const DEBUG_CONTROL_BTF: u64 = 1 << 1;
/// VM_CR: SVMDIS is locked.
pub const VM_CR_LOCK: u64 = 1 << 3;
/// SYSCFG: the switches of the fixed-range MTRRs' extra bits.
pub const AMD_SYSCFG_FIXED_MTRRS: u64 = 3 << 18;
/// IA32_PAT after a reset.
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;
