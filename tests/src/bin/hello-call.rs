//! Underlay announces itself in CPUID, and every call of ABI 1 does what it
//! says, to its registers and to no others.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use abi::call::{HELLO, NAME_MAX, PING, RESOLVE, SERVICES, STATISTICS, TRACE, VERSION};
use abi::{Errno, discovery};
extern crate alloc;

use alloc::boxed::Box;
use tests::attempt::UD;
use tests::call::{Registers, alive, call, call_with};
use tests::linear::Window;
use tests::{Report, cpu};

tests::guest!(check);

fn check(report: &mut Report) {
    leaves(report);
    results(report);
    names(report);
    bad_pointers(report);
    registers(report);
    wrong_instruction(report);
    report.holds("ping answers at the end", alive());
}

fn leaves(report: &mut Report) {
    let leaf = cpu::cpuid(discovery::LEAF_SIGNATURE);
    let signature = [leaf.ebx, leaf.ecx, leaf.edx];
    let expected = discovery::signature_registers();
    report.equal("leaf 0x40000000: signature", signature, expected);
    report.equal(
        "leaf 0x40000000: highest leaf",
        leaf.eax,
        discovery::LEAF_MAX,
    );

    let leaf = cpu::cpuid(discovery::LEAF_FEATURES);
    let feature = match cpu::is_intel() {
        true => discovery::FEATURE_VMCALL,
        false => discovery::FEATURE_VMMCALL,
    };
    report.equal("leaf 0x40000001: ABI version", leaf.eax, VERSION);
    report.equal("leaf 0x40000001: features", leaf.ebx, feature);
    report.equal(
        "leaf 0x40000001: the rest is 0",
        (leaf.ecx, leaf.edx),
        (0, 0),
    );
    let leaf = cpu::cpuid(discovery::LEAF_PRINT);
    let registers = [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx];
    report.equal("leaf 0x40000002: printing is off", registers, [0; 4]);
    let bit = cpu::cpuid(1).ecx >> 31;
    report.equal("leaf 1: the hypervisor bit is clear", bit, 0);
}

fn rax(number: u64, rbx: u64) -> Result<u64, tests::Fault> {
    call(number, [rbx, 0, 0, 0, 0]).map(|registers| registers.rax)
}

fn results(report: &mut Report) {
    report.equal(
        "ping returns the version",
        rax(PING, 0),
        Ok(u64::from(VERSION)),
    );
    let (first, second) = (rax(HELLO, 0), rax(HELLO, 0));
    let next = first.map(|count| count + 1);
    report.equal("hello counts up", second, next);
    report.holds("hello counts from 1", first.is_ok_and(|count| count >= 1));
    let unused = SERVICES.len() as u64;
    for number in [
        unused,
        0x7fff_ffff,
        1 << 32,
        1 << 32 | PING,
        1 << 63,
        u64::MAX,
    ] {
        let expected = Errno::NoService.to_register();
        report.equal(
            format_args!("number {number:#x} is unknown"),
            rax(number, 0),
            Ok(expected),
        );
    }
}

fn resolve(name: *const u8) -> Result<u64, tests::Fault> {
    rax(RESOLVE, name as u64)
}

fn names(report: &mut Report) {
    report.equal("resolve ping", resolve(c"ping".as_ptr().cast()), Ok(PING));
    report.equal(
        "resolve hello",
        resolve(c"hello".as_ptr().cast()),
        Ok(HELLO),
    );
    report.equal(
        "resolve resolve",
        resolve(c"resolve".as_ptr().cast()),
        Ok(RESOLVE),
    );
    for unknown in [c"", c"pin", c"pings", c"Ping", c"no such service"] {
        report.equal(
            format_args!("resolve {unknown:?} finds nothing"),
            resolve(unknown.as_ptr().cast()),
            Ok(0),
        );
    }
    name_lengths(report);
    names_across_pages(report);
}

fn name_lengths(report: &mut Report) {
    let too_long = Ok(Errno::NameTooLong.to_register());
    let mut name = [b'x'; 301];
    name[300] = 0;
    report.equal(
        "a name of 300 bytes is too long",
        resolve(name.as_ptr()),
        too_long,
    );
    name[NAME_MAX + 1] = 0;
    report.equal("and one of 256", resolve(name.as_ptr()), too_long);
    name[NAME_MAX] = 0;
    report.equal("but not one of 255", resolve(name.as_ptr()), Ok(0));
}

/// Two pages of the window that are not neighbours in memory.
fn names_across_pages(report: &mut Report) {
    let pages = Box::new(Pages([[0; 4096]; 3]));
    let at = |page: usize| (&raw const pages.0[page]) as u64 | tests::linear::PRESENT_WRITABLE;
    let mut window = Window::open();
    window.set(0, at(2));
    window.set(1, at(0));
    let end = Window::address(1);
    for before in [0u64, 1, 2, 4, 5] {
        let name = (end - before) as *mut u8;
        for (i, byte) in b"ping\0".iter().enumerate() {
            // SAFETY: both pages of the window are mapped to our own.
            unsafe { name.add(i).write_volatile(*byte) };
        }
        report.equal(
            format_args!("a name with {before} bytes before a page's end"),
            resolve(name),
            Ok(PING),
        );
    }
    window.set(1, 0);
    let name = (end - 5) as *const u8;
    report.equal("a name that ends with its page", resolve(name), Ok(PING));
    let name = end - 2;
    for at in [name, end - 1] {
        // SAFETY: the window's first page is still mapped to our own.
        unsafe { (at as *mut u8).write_volatile(b'p') };
    }
    let fault = call(RESOLVE, [name, 0, 0, 0, 0]).map(|r| (r.rax, r.arguments[0]));
    let expected = Ok((Errno::BadAddress.to_register(), end));
    report.equal("a name that runs into an absent page", fault, expected);
}

#[repr(align(4096))]
struct Pages([[u8; 4096]; 3]);

fn bad_pointers(report: &mut Report) {
    let bad = [
        ("not mapped", Window::BASE),
        ("not canonical", 0x8000_0000_0000_0000),
        ("at the edge of canonical", 0x0000_8000_0000_0000),
        ("all ones", u64::MAX),
        // Reads of devices are no business of the hypervisor's: the local APIC
        // takes aligned 4 bytes only, others change by being read.
        ("a device's", 0xfee0_0000),
    ];
    let _window = Window::open();
    for (what, address) in bad {
        let reply = call(RESOLVE, [address, 0, 0, 0, 0]);
        let found = reply.map(|r| (r.rax, r.arguments[0]));
        let expected = Ok((Errno::BadAddress.to_register(), address));
        report.equal(
            format_args!("a name at an address that is {what}"),
            found,
            expected,
        );
    }
}

fn registers(report: &mut Report) {
    let arguments = [0x1111, 0x2222, 0x3333, 0x4444, 0x5555];
    for number in [PING, HELLO, STATISTICS, TRACE, 0xdead] {
        let found = call(number, arguments);
        let expected = Registers {
            rax: found.map_or(0, |r| r.rax),
            arguments,
            others: core::array::from_fn(|i| 0x5a5a_0000_0000_0000 | i as u64),
            flags: 0x8d7,
            stack_moved: 0,
        };
        report.equal(
            format_args!("call {number:#x} changes no register but RAX"),
            found,
            Ok(expected),
        );
    }
}

fn wrong_instruction(report: &mut Report) {
    let reply = call_with(!cpu::is_intel(), PING, [0; 5]);
    report.raises("the other vendor's instruction", UD, reply);
}
