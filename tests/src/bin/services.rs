//! The services that reach memory, the log and the statistics do what their
//! table says: for a kernel, and for programs no more than they may.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

extern crate alloc;

use abi::Errno;
use abi::call::{self, ARGUMENTS, MAY_FAULT, SERVICES, TRANSFER_MAX, Who};
use abi::record::{CpuRecord, ExitsRecord, Info, OddityRecord, ServiceRecord};
use alloc::boxed::Box;
use alloc::vec;
use tests::attempt::{Fault, PF};
use tests::call::{alive, call};
use tests::linear::{PRESENT_WRITABLE, Window};
use tests::machine::reserved_ranges;
use tests::sandbox::{CODE, CODE_OFFSET, DATA, DATA_PAGES, Ending, General, Place, Sandbox};
use tests::{Report, cpu};
use x86::exception::page_fault::{PRESENT, USER, WRITE};

tests::guest!(check);

const PAGE: u64 = 4096;

fn check(report: &mut Report) {
    told(report);
    copies(report);
    spaces(report);
    refusals(report);
    log(report);
    shared(report);
    counted(report);
    for bits in [64, 32] {
        program(report, bits);
    }
    report.holds("ping answers at the end", alive());
}

fn rax(number: u64, arguments: [u64; 5]) -> Result<i64, Fault> {
    call(number, arguments).map(|reply| reply.rax as i64)
}

fn address<T: ?Sized>(of: &T) -> u64 {
    core::ptr::from_ref(of).cast::<u8>() as u64
}

fn told(report: &mut Report) {
    let bytes = Box::new([0xaau8; Info::SIZE + 1]);
    let size = rax(call::INFO, [address(&*bytes), Info::SIZE as u64, 0, 0, 0]);
    report.equal("info", size, Ok(Info::SIZE as i64));
    report.equal(
        "info writes no more than its record",
        bytes[Info::SIZE],
        0xaa,
    );
    let info = Info::from_bytes(bytes.first_chunk().expect("as long"));
    let vendor = if cpu::is_intel() { 1 } else { 2 };
    report.equal(
        "info: vendor and ABI",
        (info.vendor, info.abi),
        (vendor, call::VERSION),
    );
    report.equal(
        "info: version",
        info.version.as_str(),
        env!("CARGO_PKG_VERSION"),
    );
    let used = (1..=info.memory).contains(&info.used);
    report.holds(
        format_args!("info: {} of {} bytes used", info.used, info.memory),
        used,
    );

    let rows = vec![0u8; SERVICES.len() * ServiceRecord::SIZE];
    let arguments = [address(rows.as_slice()), rows.len() as u64, 0, 0, 0];
    report.equal(
        "list",
        rax(call::LIST, arguments),
        Ok(SERVICES.len() as i64),
    );
    let (rows, _) = rows.as_chunks();
    let same = rows
        .iter()
        .zip(SERVICES)
        .all(|(row, service)| ServiceRecord::from_bytes(row) == ServiceRecord::from(service));
    report.holds("list tells the table", same);
}

#[repr(align(4096))]
struct Pages([[u8; PAGE as usize]; 4]);

impl Pages {
    /// Each page has other bytes.
    fn boxed() -> Box<Self> {
        Box::new(Self(core::array::from_fn(|page| {
            core::array::from_fn(|at| (at as u8).wrapping_mul(7).wrapping_add(page as u8))
        })))
    }

    fn entry(&self, page: usize) -> u64 {
        address(&self.0[page]) | PRESENT_WRITABLE
    }
}

/// The firmware maps memory one to one, so an address of a page of ours is a
/// guest-physical one, too.
fn copies(report: &mut Report) {
    let pages = Pages::boxed();
    let mut window = Window::open();
    window.set(0, pages.entry(3));
    window.set(1, pages.entry(1));
    let into = Box::new([0u8; 100]);
    let straddling = Window::address(1) - 40;
    let list = [address(&pages.0[3]), address(&pages.0[1])];
    let wanted = [&pages.0[3][PAGE as usize - 40..], &pages.0[1][..60]].concat();
    let buffer = address(&*into);
    for (what, number, arguments) in [
        (
            "by linear address",
            call::MEMORY_COPY,
            [buffer, straddling, 100, 0, 0],
        ),
        (
            "by a list of pages",
            call::MEMORY_READ_PAGES,
            [buffer, address(&list), 100, PAGE - 40, 0],
        ),
        (
            "by another space, our own",
            call::MEMORY_READ_SPACE,
            [buffer, straddling, 100, cpu::read_cr3(), 0],
        ),
    ] {
        // SAFETY: the buffer is ours, and 100 bytes long.
        unsafe { (buffer as *mut u8).write_bytes(0, 100) };
        let done = rax(number, arguments);
        report.equal(format_args!("a copy across pages {what}"), done, Ok(100));
        let same = into.as_slice() == wanted.as_slice();
        report.holds(format_args!("brings their bytes {what}"), same);
    }
    let physical = [buffer, address(&pages.0[2]) + 5, 90, 0, 0];
    report.equal(
        "a physical read",
        rax(call::MEMORY_READ_PHYSICAL, physical),
        Ok(90),
    );
    report.holds("brings its bytes", into[..90] == pages.0[2][5..95]);
    let physical = [straddling, address(&pages.0[0]), 100, 0, 0];
    report.equal(
        "a physical write",
        rax(call::MEMORY_WRITE_PHYSICAL, physical),
        Ok(100),
    );
    report.holds("brings its bytes, too", pages.0[0][..100] == *wanted);
}

fn spaces(report: &mut Report) {
    let pages = Pages::boxed();
    let mut window = Window::open();
    window.set(3, pages.entry(2));
    let at = Window::address(3) + 0x123;
    let reply = call(call::MEMORY_TRANSLATE, [at, cpu::read_cr3(), 0, 0, 0]);
    let found = reply.map(|reply| (reply.rax, reply.arguments[0]));
    let expected = (address(&pages.0[2]) + 0x123, PAGE - 0x123);
    report.equal("translate", found, Ok(expected));
    let bad = Errno::BadAddress.to_register();
    for (what, at, root) in [
        ("an absent page", Window::address(4), cpu::read_cr3()),
        ("no canonical address", 1 << 47, cpu::read_cr3()),
        ("tables where no memory is", at, 1 << 38),
        ("tables in a device", at, 0xfee0_0000),
    ] {
        let reply = call(call::MEMORY_TRANSLATE, [at, root, 0, 0, 0]);
        let found = reply.map(|reply| (reply.rax, reply.arguments[0]));
        report.equal(format_args!("translate {what}"), found, Ok((bad, at)));
    }
}

/// A call that fails says where, and writes nothing.
fn refusals(report: &mut Report) {
    let mut window = Window::open();
    let pages = Pages::boxed();
    window.set(0, pages.entry(0));
    let end = Window::address(1);
    let bad = Errno::BadAddress.to_register();
    let buffer = Box::new([0x55u8; 64]);
    let mut fails = |what: &str, number, arguments, at: u64| {
        let found = call(number, arguments).map(|reply| (reply.rax, reply.arguments[0]));
        report.equal(
            format_args!("{what} is a bad address"),
            found,
            Ok((bad, at)),
        );
    };
    let from = address(&*buffer);
    fails(
        "a target that ends absent",
        call::MEMORY_COPY,
        [end - 8, from, 16, 0, 0],
        end,
    );
    fails(
        "a source that ends absent",
        call::MEMORY_COPY,
        [from, end - 8, 16, 0, 0],
        end,
    );
    let apic = 0xfee0_0000;
    fails(
        "a device",
        call::MEMORY_READ_PHYSICAL,
        [from, apic, 16, 0, 0],
        apic,
    );
    for range in reserved_ranges() {
        let own = range.base;
        for number in [call::MEMORY_READ_PHYSICAL, call::MEMORY_WRITE_PHYSICAL] {
            fails("Underlay's memory", number, [from, own, 16, 0, 0], own);
        }
        fails(
            "Underlay's memory as a target",
            call::MEMORY_COPY,
            [own, from, 16, 0, 0],
            own,
        );
        let list = [own];
        let arguments = [from, address(&list), 16, 0, 0];
        fails(
            "Underlay's memory in a list",
            call::MEMORY_READ_PAGES,
            arguments,
            own,
        );
        let arguments = [from, end, 16, own, 0];
        fails(
            "a space whose tables it is",
            call::MEMORY_READ_SPACE,
            arguments,
            end,
        );
    }
    report.holds(
        "nothing was written",
        buffer.iter().all(|byte| *byte == 0x55),
    );
    let kept = Pages::boxed();
    report.holds("to the target neither", pages.0[0] == kept.0[0]);
    let number = call::MEMORY_COPY | MAY_FAULT;
    let fault = call(number, [end - 8, from, 16, 0, 0]).map_err(|f| (f.vector, f.error, f.cr2));
    let expected = Err((PF, WRITE, end));
    report.equal("a kernel that asks for it gets the fault", fault, expected);
}

fn log(report: &mut Report) {
    let text = "the services' test was here";
    let arguments = [address(text), text.len() as u64, 0, 0, 0];
    let written = rax(call::LOG_WRITE, arguments);
    report.equal("a line for the log", written, Ok(text.len() as i64));
    let room = vec![0u8; 8192];
    let (mut line, mut lost, mut found, mut calls) = (0, 0, false, 0);
    loop {
        let arguments = [address(room.as_slice()), room.len() as u64, line, 0, 0];
        let Ok(reply) = call(call::LOG_READ, arguments) else {
            break;
        };
        calls += 1;
        let bytes = room.get(..reply.rax as usize).unwrap_or(&[]);
        if bytes.is_empty() || calls > 100 {
            break;
        }
        let lines = bytes.split(|byte| *byte == b'\n').count() as u64 - 1;
        report.equal(
            "lines are counted",
            line + lines + reply.arguments[1],
            reply.arguments[0],
        );
        found |= bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes());
        (line, lost) = (reply.arguments[0], lost + reply.arguments[1]);
    }
    report.holds(
        format_args!("it is among the log's {line} lines, {lost} lost"),
        found,
    );
    let none = rax(call::LOG_LEVEL, [99, 0, 0, 0, 0]);
    report.equal(
        "no such level",
        none,
        Ok(Errno::InvalidArgument.to_register() as i64),
    );
}

/// The log by way of pages that are shared once.
fn shared(report: &mut Report) {
    let pages = Pages::boxed();
    let list = [address(&pages.0[2]), address(&pages.0[0])];
    let offset = PAGE - 16;
    let arguments = [address(&list), PAGE, offset, 0, 0];
    let handle = rax(call::BUFFER_SHARE, arguments);
    report.holds("a buffer is shared", handle.is_ok_and(|handle| handle > 0));
    let handle = handle.unwrap_or(0) as u64;
    let done = rax(call::LOG_FILL, [handle, 0, 0, 0, 0]);
    let filled = done.is_ok_and(|done| (16..=PAGE as i64).contains(&done));
    report.holds("the log's lines fill it", filled);
    report.equal("from where it begins", pages.0[2][offset as usize], b'[');
    let end = pages.0[0][done.unwrap_or(0).max(17) as usize - 17];
    report.equal("to the end of a line", end, b'\n');
    report.equal(
        "it is released",
        rax(call::BUFFER_RELEASE, [handle, 0, 0, 0, 0]),
        Ok(0),
    );
    let gone = rax(call::LOG_FILL, [handle, 0, 0, 0, 0]);
    report.equal(
        "and gone",
        gone,
        Ok(Errno::InvalidArgument.to_register() as i64),
    );
}

fn counted(report: &mut Report) {
    let room = vec![0u8; TRANSFER_MAX];
    let arguments = [address(room.as_slice()), room.len() as u64, 0, 0, 0];
    let calls = || {
        let kinds = rax(call::STATISTICS_READ, arguments).unwrap_or(0);
        let (rows, _) = room.as_chunks();
        let rows = rows
            .iter()
            .take(kinds as usize)
            .map(ExitsRecord::from_bytes);
        let mut row = rows.filter(|row| row.kind.as_str() == "hypercall");
        row.next().map_or(0, |row| row.count)
    };
    let (first, second) = (calls(), calls());
    report.equal("statistics count each call", second, first + 1);
    let total = rax(call::STATISTICS_RESET, [0; 5]);
    report.holds(
        "reset tells the total",
        total.is_ok_and(|total| total >= second as i64),
    );
    report.equal("and forgets it", calls(), 1);
    let cpus = rax(call::CPUS_READ, arguments).unwrap_or(0) as u64;
    let (rows, _) = room.as_chunks();
    let told = CpuRecord::from_bytes(&rows[0]);
    report.equal("the first CPU has number 0", told.number, 0);
    report.holds("and runs", cpus > 0 && told.state == 0 && told.exits > 0);
    report.equal(
        "behind the last CPU there is none",
        rax(call::STATISTICS_RESET, [cpus, 0, 0, 0, 0]),
        Ok(Errno::InvalidArgument.to_register() as i64),
    );
    let kinds = rax(call::ODDITIES_READ, arguments);
    report.holds("oddities are told", kinds.is_ok_and(|kinds| kinds > 0));
    let (rows, _) = room.as_chunks();
    let first = OddityRecord::from_bytes(&rows[0]);
    report.equal("by their names", first.name.as_str(), "access-to-underlay");
    let none = Ok(Errno::NoService.to_register() as i64);
    report.equal(
        "no trace without the config",
        rax(call::TRACE_READ, arguments),
        none,
    );
}

/// Numbers of registers in [`General`]: RAX, then the arguments.
const RAX: usize = 0;
const NUMBERS: [usize; ARGUMENTS.len()] = [3, 1, 2, 6, 7];

/// What becomes of a call by a program at ring 3.
fn called(sandbox: &mut Sandbox, bits: u8, number: u64, arguments: &[u64]) -> (Ending, General) {
    let mut general = [0; 16];
    general[RAX] = number;
    for (register, value) in NUMBERS.iter().zip(arguments) {
        general[*register] = *value;
    }
    let instruction = if cpu::is_intel() { 0xc1 } else { 0xd9 };
    let code = [0x0f, 0x01, instruction];
    (sandbox.go(Place::new(true, bits), &code, &general), general)
}

const BREAKPOINT: u8 = 3;

fn program(report: &mut Report, bits: u8) {
    let pages = Pages::boxed();
    let mut sandbox = Sandbox::new();
    for (at, word) in sandbox.data().enumerate() {
        *word = at as u64;
    }
    let end = DATA + DATA_PAGES * PAGE;
    let copy = |into, from| [into, from, 16];
    let across = copy(DATA + PAGE - 8, DATA + 16);
    let (ending, _) = called(&mut sandbox, bits, call::MEMORY_COPY, &across);
    let found = (ending.vector, ending.general[RAX]);
    report.equal(
        format_args!("{bits} bits: a program copies"),
        found,
        (BREAKPOINT, 16),
    );
    let moved: [u64; 2] = core::array::from_fn(|at| sandbox.data().nth(511 + at).map_or(0, |w| *w));
    report.equal(format_args!("{bits} bits: its bytes"), moved, [2, 3]);

    let state = Window::address(3);
    let mut faults = alloc::vec![
        ("an absent target", copy(end - 8, DATA), end, WRITE | USER),
        ("an absent source", copy(DATA, end - 8), end, USER),
        (
            "a read-only target",
            copy(CODE + 8, DATA),
            CODE + 8,
            PRESENT | WRITE | USER
        ),
    ];
    if bits == 64 {
        faults.push(("a kernel's page", copy(DATA, state), state, PRESENT | USER));
    }
    let before = sandbox
        .data()
        .fold(0u64, |sum, word| sum.rotate_left(1) ^ *word);
    for (what, arguments, at, error) in faults {
        let (ending, general) = called(&mut sandbox, bits, call::MEMORY_COPY, &arguments);
        let found = (ending.vector, ending.error, ending.cr2, ending.frame[0]);
        let expected = (PF, Some(u64::from(error)), at, CODE + CODE_OFFSET as u64);
        report.equal(format_args!("{bits} bits: {what} faults"), found, expected);
        let same = ending.general == general;
        report.holds(
            format_args!("{bits} bits: {what} changes no register"),
            same,
        );
    }
    let after = sandbox
        .data()
        .fold(0u64, |sum, word| sum.rotate_left(1) ^ *word);
    report.equal(
        format_args!("{bits} bits: nothing was written"),
        after,
        before,
    );

    sandbox.map(end, Some(address(&pages.0[0])));
    let (ending, _) = called(&mut sandbox, bits, call::MEMORY_COPY, &copy(end - 8, DATA));
    let found = (ending.vector, ending.general[RAX]);
    report.equal(
        format_args!("{bits} bits: the page came in"),
        found,
        (BREAKPOINT, 16),
    );
    for service in SERVICES.iter().filter(|service| service.who != Who::Any) {
        let (ending, _) = called(&mut sandbox, bits, service.number, &[DATA, DATA, 8, 0, 0]);
        let found = (ending.vector, ending.general[RAX]);
        let refused = (BREAKPOINT, Errno::NotPermitted.to_register());
        let what = service.name;
        report.equal(
            format_args!("{bits} bits: {what} is not for programs"),
            found,
            refused,
        );
    }
}
