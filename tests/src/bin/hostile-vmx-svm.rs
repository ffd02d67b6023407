//! The instructions of both vendors' virtualisation, and others that a
//! hypervisor must watch, in rings 0 and 3 and in 64-, 32- and 16-bit code,
//! with operands that lead anywhere, Underlay's own memory among them; control
//! registers with odd values; and calls with any number and any pointer.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use abi::call::{RESOLVE, SERVICES, Who};
use core::arch::asm;
use core::fmt::Write;
use tests::alloc::string::String;
use tests::call::alive;
use tests::cpu::{rdmsr, read_cr0, read_cr4, write_cr0, write_cr4, wrmsr, xgetbv, xsetbv};
use tests::machine;
use tests::random::Random;
use tests::sandbox::{DATA, Ending, General, Place, RSP, Sandbox, general};
use tests::transcript::Options;
use tests::{Fault, Report, attempt};

tests::guest!(check);

/// Calls, if the command line does not say.
const RANDOM: u64 = 20_000;

/// Name and bytes; `MEMORY` ends those that take an operand in memory.
const INSTRUCTIONS: [(&str, &[u8]); 39] = [
    ("VMCALL", &[0x0f, 0x01, 0xc1]),
    ("VMLAUNCH", &[0x0f, 0x01, 0xc2]),
    ("VMRESUME", &[0x0f, 0x01, 0xc3]),
    ("VMXOFF", &[0x0f, 0x01, 0xc4]),
    ("VMFUNC", &[0x0f, 0x01, 0xd4]),
    ("VMPTRLD", &[0x0f, 0xc7, 0x30]),
    ("VMPTRST", &[0x0f, 0xc7, 0x38]),
    ("VMCLEAR", &[0x66, 0x0f, 0xc7, 0x30]),
    ("VMXON", &[0xf3, 0x0f, 0xc7, 0x30]),
    ("VMREAD", &[0x0f, 0x78, 0x00]),
    ("VMREAD-register", &[0x0f, 0x78, 0xc8]),
    ("VMWRITE", &[0x0f, 0x79, 0x00]),
    ("VMWRITE-register", &[0x0f, 0x79, 0xc8]),
    ("INVEPT", &[0x66, 0x0f, 0x38, 0x80, 0x00]),
    ("INVVPID", &[0x66, 0x0f, 0x38, 0x81, 0x00]),
    ("INVPCID", &[0x66, 0x0f, 0x38, 0x82, 0x00]),
    ("GETSEC", &[0x0f, 0x37]),
    ("SEAMCALL", &[0x66, 0x0f, 0x01, 0xcf]),
    ("ENCLS", &[0x0f, 0x01, 0xcf]),
    ("VMRUN", &[0x0f, 0x01, 0xd8]),
    ("VMMCALL", &[0x0f, 0x01, 0xd9]),
    ("VMLOAD", &[0x0f, 0x01, 0xda]),
    ("VMSAVE", &[0x0f, 0x01, 0xdb]),
    ("STGI", &[0x0f, 0x01, 0xdc]),
    ("CLGI", &[0x0f, 0x01, 0xdd]),
    ("SKINIT", &[0x0f, 0x01, 0xde]),
    ("INVLPGA", &[0x0f, 0x01, 0xdf]),
    ("RSM", &[0x0f, 0xaa]),
    ("INVD", &[0x0f, 0x08]),
    ("WBINVD", &[0x0f, 0x09]),
    ("INVLPG", &[0x0f, 0x01, 0x38]),
    ("MONITOR", &[0x0f, 0x01, 0xc8]),
    ("RDPMC", &[0x0f, 0x33]),
    ("CLTS", &[0x0f, 0x06]),
    ("SMSW", &[0x0f, 0x01, 0x20]),
    ("SMSW-register", &[0x0f, 0x01, 0xe0]),
    ("MOV-to-CR1", &[0x0f, 0x22, 0xc8]),
    ("MOV-to-CR5", &[0x0f, 0x22, 0xe8]),
    ("MOV-from-CR15", &[0x44, 0x0f, 0x20, 0xf8]),
];

/// A page of the sandbox that is laid over Underlay's memory.
const ALIAS: u64 = 0x4_0000;
const LOCAL_APIC: u64 = 0xfee0_0000;

fn check(report: &mut Report) {
    let options = Options::of_this_guest();
    let reserved = machine::reserved_ranges();
    let underlay = reserved.first().map_or(0x3000_0000, |range| range.base);
    report.say(format_args!("aimed at {underlay:#x}"));
    {
        let mut sandbox = Sandbox::new();
        sandbox.map(ALIAS, Some(underlay));
        for (name, code) in INSTRUCTIONS {
            for place in Place::ALL {
                instruction(report, &mut sandbox, name, code, place, underlay);
            }
        }
        sandbox.map(ALIAS, None);
    }
    control_registers(report);
    extended_control(report);
    if alive() {
        calls(report, &options);
        report.holds("ping answers after everything", alive());
    }
    report.holds("the guest goes on", true);
}

/// With each target in all registers, and in the words that they point at.
fn instruction(
    report: &mut Report,
    sandbox: &mut Sandbox,
    name: &str,
    code: &[u8],
    place: Place,
    underlay: u64,
) {
    let targets = [
        underlay,
        underlay + 0x1000,
        ALIAS,
        DATA,
        0,
        0x7_0000,
        LOCAL_APIC,
        0x8000_0000_0000_0000,
        u64::MAX,
        0x123,
    ];
    let mut line = String::new();
    for target in targets {
        for word in sandbox.data() {
            *word = underlay;
        }
        let mut registers: General = [target - place.data_base().min(target); 16];
        registers[RSP] = DATA - place.data_base() + 0x800;
        let ending = sandbox.step(place, code, &registers);
        // The string cannot fail.
        let _ = write!(line, " {}", Shown(ending));
    }
    report.say_to_port(format_args!("finding {name}-{place}{line}"));
}

struct Shown(Ending);

impl core::fmt::Display for Shown {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.0.vector)?;
        self.0
            .error
            .map_or(Ok(()), |error| write!(f, "({error:x})"))
    }
}

/// Each bit of CR0, CR4, CR8 and EFER turned over for a moment; QEMU takes
/// nonsense there, and repeats a bad write of CR4 for ever.
fn control_registers(report: &mut Report) {
    if !machine::checks_what_is_written() {
        return report.skip("control registers", "QEMU does not check them");
    }
    const EFER: u32 = 0xc000_0080;
    for bit in 0..64 {
        let flip = 1u64 << bit;
        // SAFETY: the old value comes back at once; the CPU refuses what would
        // end long mode.
        let found = attempt(|| unsafe {
            let old = read_cr0();
            write_cr0(old ^ flip);
            let new = read_cr0();
            write_cr0(old);
            old ^ new
        });
        tell(report, "cr0", bit, found);
        // SAFETY: as above.
        let found = attempt(|| unsafe {
            let old = read_cr4();
            write_cr4(old ^ flip);
            let new = read_cr4();
            write_cr4(old);
            old ^ new
        });
        tell(report, "cr4", bit, found);
        // SAFETY: as above; execute-disable is switched off only in what maps
        // nothing that needs it.
        let found = attempt(|| unsafe {
            const NXE: u64 = 1 << 11;
            let old = rdmsr(EFER);
            if flip == NXE {
                return 0;
            }
            wrmsr(EFER, old ^ flip);
            let new = rdmsr(EFER);
            wrmsr(EFER, old);
            old ^ new
        });
        tell(report, "efer", bit, found);
        tell(report, "cr8", bit, attempt(|| priority(flip)));
        tell(report, "dr6", bit, attempt(|| debug_status(flip)));
    }
}

fn priority(value: u64) -> u64 {
    let (old, new): (u64, u64);
    // SAFETY: interrupts are off, and CR8 comes back.
    unsafe {
        asm!(
            "mov {old}, cr8", "mov cr8, {value}", "mov {new}, cr8", "mov cr8, {old}",
            old = out(reg) old, new = out(reg) new, value = in(reg) value,
        );
    }
    let _ = old;
    new
}

fn debug_status(value: u64) -> u64 {
    let new: u64;
    // SAFETY: DR6 enables nothing.
    unsafe {
        asm!(
            "mov dr6, {value}", "mov {new}, dr6",
            new = out(reg) new, value = in(reg) value,
        );
    }
    new
}

fn tell(report: &mut Report, name: &str, bit: u32, found: Result<u64, Fault>) {
    match found {
        Ok(value) => report.say_to_port(format_args!("finding {name}-{bit}- {value:#x}")),
        Err(fault) => report.say_to_port(format_args!(
            "finding {name}-{bit}- #{} ({:#x})",
            fault.vector, fault.error
        )),
    }
}

/// Extended control registers that are not there, and values that are wrong.
fn extended_control(report: &mut Report) {
    const OSXSAVE: u64 = 1 << 18;
    let before = read_cr4();
    // SAFETY: switches the instruction on for a moment.
    let found = attempt(|| unsafe {
        write_cr4(before | OSXSAVE);
        xgetbv()
    });
    for (index, value) in [
        (0, 0),
        (0, 2),
        (0, 4),
        (0, 5),
        (0, 1 << 63),
        (1, 1),
        (77, 3),
    ] {
        if let Ok(old) = found {
            // SAFETY: the old value comes back at once.
            let found = attempt(|| unsafe {
                xsetbv(index, value);
                let new = xgetbv();
                xsetbv(0, old);
                new
            });
            tell(
                report,
                &tests::alloc::format!("xcr{index}-{value:x}"),
                0,
                found,
            );
        }
    }
    // SAFETY: the value from before.
    unsafe { write_cr4(before) };
}

/// None may do anything but answer, or raise what a bad pointer raises. In ring 0
/// what only a kernel may call is left to `hostile-calls`, which knows where it
/// would write.
fn calls(report: &mut Report, options: &Options) {
    let calls = options.random(RANDOM);
    let mut sandbox = Sandbox::new();
    let code: &[u8] = if tests::cpu::is_intel() {
        &[0x0f, 0x01, 0xc1]
    } else {
        &[0x0f, 0x01, 0xd9]
    };
    let mut vectors = [0u32; 256];
    for index in 0..calls {
        let mut random = Random::of(4, index);
        let place = Place::ALL[random.below(6) as usize];
        let mut registers = general(&mut random, place);
        registers[0] = random.below(SERVICES.len() as u64 + 8);
        if !place.user && is_restricted(registers[0]) {
            registers[0] = RESOLVE;
        }
        let ending = sandbox.step(place, code, &registers);
        vectors[usize::from(ending.vector)] += 1;
    }
    drop(sandbox);
    let [debug, protection, page] = [1, 13, 14].map(|vector: usize| vectors[vector]);
    report.say(format_args!(
        "in the sandbox {debug} answered, {protection} raised #GP, {page} raised #PF"
    ));
    let all = u64::from(debug + protection + page);
    report.equal("nothing else came of a call", all, calls);
}

/// Whether not everybody may call this one.
fn is_restricted(number: u64) -> bool {
    let service = SERVICES.get(number as usize);
    service.is_some_and(|service| service.who != Who::Any)
}
