//! Code in reserved memory, where firmware parks the CPUs that a system does not
//! start: the CPU runs it, and no hypervisor need see it.

/// Where the page is.
pub const ADDRESS: u64 = 0x1000_0000;

/// Where in it [`CPUID`] and [`RDMSR`] begin.
pub const CPUID: u64 = 0;
/// See [`CPUID`].
pub const RDMSR: u64 = 16;

/// Two functions of the System V ABI: EAX of CPUID's leaf EDI, and EAX of RDMSR
/// of register EDI.
pub static CODE: [u8; 21] = [
    0x53, // push rbx
    0x89, 0xf8, // mov eax, edi
    0x31, 0xc9, // xor ecx, ecx
    0x0f, 0xa2, // cpuid
    0x5b, // pop rbx
    0xc3, // ret
    0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, //
    0x89, 0xf9, // mov ecx, edi
    0x0f, 0x32, // rdmsr
    0xc3, // ret
];
