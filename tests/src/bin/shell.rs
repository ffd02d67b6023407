//! The debug shell talks, line by line and as BitVisor's clients talk to it;
//! their log and status come, too. Programs are let in as the config says.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

extern crate alloc;

use abi::Errno;
use abi::call;
use alloc::string::String;
use alloc::vec;
use tests::attempt::Fault;
use tests::call::{Registers, alive, call};
use tests::linear::{PRESENT_WRITABLE, Window};
use tests::sandbox::{DATA, General, Place, Sandbox};
use tests::{Report, cpu};

tests::guest!(check);

const EPERM: u64 = Errno::NotPermitted.to_register();
const EINVAL: u64 = Errno::InvalidArgument.to_register();
/// The end of a session of BitVisor's.
const END: u64 = 0x10a;
/// -1 in 32 bits.
const NOTHING: u64 = 0xffff_ffff;

fn check(report: &mut Report) {
    lines(report);
    memory(report);
    bytes(report);
    log(report);
    status(report);
    program(report);
    report.holds("ping answers at the end", alive());
}

fn address<T: ?Sized>(of: &T) -> u64 {
    core::ptr::from_ref(of).cast::<u8>() as u64
}

fn answer(number: u64, arguments: [u64; 5]) -> u64 {
    let reply: Result<Registers, Fault> = call(number, arguments);
    reply.map_or(u64::MAX, |reply| reply.rax)
}

/// The text of a line, taken in parts of `room` bytes.
fn say(handle: u64, line: &str, room: usize) -> String {
    let into = vec![0u8; room];
    let (mut text, mut line) = (String::new(), line.as_bytes());
    loop {
        let bytes = line.len() as u64;
        let arguments = [handle, address(line), bytes, address(&*into), room as u64];
        let Ok(reply) = call(call::SHELL_LINE, arguments) else {
            return text;
        };
        let part = into.get(..reply.rax as usize).unwrap_or(b"?");
        text += core::str::from_utf8(part).unwrap_or("?");
        if reply.arguments[0] != 1 {
            return text;
        }
        line = b"";
    }
}

/// Shows what was said only where it is wrong: the console is slow.
fn said(report: &mut Report, what: &str, text: &str, holds: bool) {
    report.holds(what, holds);
    if !holds {
        report.say(format_args!("it said: {text}"));
    }
}

fn lines(report: &mut Report) {
    let handle = answer(call::SHELL_OPEN, [0; 5]);
    let other = answer(call::SHELL_OPEN, [0; 5]);
    report.holds("two sessions are two", handle != other && handle as i64 > 0);
    for (line, wanted) in [
        ("help", "walk ADDRESS"),
        ("info", "version 1 of the call interface"),
        ("cpus", "this is cpu0"),
        ("regs", "privilege level 0, 64-bit code"),
        ("stat", "hypercall"),
        ("trace", "underlay.conf"),
        ("log level", "level "),
        ("nonsense", "no command is called `nonsense`"),
    ] {
        let text = say(handle, line, 4096);
        said(report, line, &text, text.contains(wanted));
    }
    let (own, root) = match cpu::is_intel() {
        true => ("vmcs guest_cr3", "GUEST_CR3 "),
        false => ("vmcb save.cr3", "save.cr3 "),
    };
    let wanted = alloc::format!("{root}{:#x}\n", cpu::read_cr3());
    report.equal(own, say(handle, own, 4096), wanted);
    let whole = say(handle, own.split(' ').next().unwrap_or(""), 4096);
    let parts = say(handle, own.split(' ').next().unwrap_or(""), 33);
    let rows = whole.lines().count();
    report.holds(format_args!("all of {rows} fields"), rows > 60);
    report.equal("in small parts as many", parts.lines().count(), rows);
    let closed = answer(call::SHELL_CLOSE, [other, 0, 0, 0, 0]);
    report.equal("a session is closed", closed, 0);
    let gone = answer(call::SHELL_CLOSE, [other, 0, 0, 0, 0]);
    report.equal("and gone", gone, EINVAL);
}

fn memory(report: &mut Report) {
    let handle = answer(call::SHELL_OPEN, [0; 5]);
    let text = *b"A text in memory";
    let mut window = Window::open();
    let at = address(&text);
    window.set(1, (at & !0xfff) | PRESENT_WRITABLE);
    let linear = Window::address(1) + (at & 0xfff);
    for line in [
        alloc::format!("dump {linear:x} 16"),
        alloc::format!("dump -p {at:x} 16"),
    ] {
        let shown = say(handle, &line, 4096);
        let bytes: String = shown.lines().filter_map(|l| l.get(67..)).collect();
        said(report, &line, &shown, bytes == "A text in memory");
    }
    let walk = say(handle, &alloc::format!("walk {linear:x}"), 4096);
    let found = alloc::format!("lies at guest-physical {at:#x},");
    let holds = walk.contains(&found) && walk.contains("nested tables, level");
    said(report, "a walk", &walk, holds);
    let absent = Window::address(2);
    let dump = say(handle, &alloc::format!("dump {absent:x}"), 4096);
    said(
        report,
        "an absent page",
        &dump,
        dump.ends_with(" not present\n"),
    );
    for range in tests::machine::reserved_ranges() {
        let own = range.base;
        let dump = say(handle, &alloc::format!("dump -p {own:x}"), 4096);
        let refused = dump.ends_with("no memory of the guest's\n");
        said(report, "Underlay's own memory", &dump, refused);
    }
}

/// Talks to `dbgsh` by `byte` until it waits with nothing left to type.
fn talk(byte: &mut dyn FnMut(u64) -> u64, keys: &str) -> String {
    let (mut shown, mut keys, mut answer) = (String::new(), keys.bytes(), NOTHING);
    for _ in 0..100_000 {
        answer = match byte(answer) {
            0 => match keys.next() {
                Some(key) => u64::from(key),
                None => return shown,
            },
            END => return shown + "<end>",
            EPERM => return String::from("refused"),
            byte => {
                shown.push(char::from(byte as u8));
                0
            }
        };
    }
    shown + "<endless>"
}

/// The number of a name, as BitVisor's clients ask for it.
fn resolve(name: &str) -> u64 {
    answer(call::RESOLVE, [address(name), 0, 0, 0, 0])
}

fn bytes(report: &mut Report) {
    let number = resolve("dbgsh\0");
    report.equal("dbgsh", number, call::DBGSH);
    let mut byte = |byte| answer(number, [byte, 0, 0, 0, 0]);
    let greeting = talk(&mut byte, "");
    report.holds(format_args!("{greeting}"), greeting.ends_with("\n> "));
    let text = talk(&mut byte, "infp\x7fo\r");
    let holds = text.starts_with("infp\x08 \x08o\nUnderlay ") && text.ends_with("\n> ");
    report.holds(format_args!("{text:?}"), holds);
    report.equal("exit", talk(&mut byte, "exit\n").as_str(), "exit\n<end>");
    byte(0);
    report.holds("and anew", talk(&mut byte, "").ends_with("\n> "));
}

/// A buffer as `log_set_buf` wants it: a count, and a ring.
#[repr(C, align(4096))]
struct LogBuffer {
    count: u32,
    ring: [u8; 252],
}

impl LogBuffer {
    fn count(&self) -> usize {
        // SAFETY: reads a number of ours that the hypervisor changes.
        unsafe { core::ptr::from_ref(&self.count).read_volatile() as usize }
    }
}

fn log(report: &mut Report) {
    let number = resolve("log_set_buf\0");
    let mut buffer = alloc::boxed::Box::new(LogBuffer {
        count: 0,
        ring: [b'.'; 252],
    });
    let bytes = size_of::<LogBuffer>() as u64;
    report.equal("room is for the page", bytes, 4096);
    let at = address(&*buffer);
    report.equal("log_set_buf", answer(number, [at, 256, 0, 0, 0]), 0);
    let write = |text: &str| {
        let arguments = [address(text), text.len() as u64, 0, 0, 0];
        answer(call::LOG_WRITE, arguments)
    };
    write("for the buffer");
    let count = buffer.count();
    let line = buffer.ring.get(..count).unwrap_or(b"?");
    let line = String::from_utf8_lossy(line).into_owned();
    report.holds(
        format_args!("the line: {line}"),
        line.ends_with("writes: for the buffer\n"),
    );
    write("unread");
    write("unread and more than there is room for, as long as nobody reads the buffer out");
    let filled = buffer.count();
    report.holds(
        format_args!("{filled} bytes are no more than there is room"),
        filled <= 252,
    );
    buffer.count = 0;
    write("around the end");
    let count = buffer.count();
    let ring = buffer.ring.iter().cycle().skip(filled).take(count);
    let line: String = ring.map(|byte| char::from(*byte)).collect();
    report.holds(
        format_args!("goes around: {line}"),
        line.ends_with("writes: around the end\n"),
    );
    report.equal("log_set_buf of nothing", answer(number, [0; 5]), 0);
    write("not for the buffer");
    report.equal("nothing comes any more", buffer.count(), count);
    for range in tests::machine::reserved_ranges() {
        let own = answer(number, [range.base, 4096, 0, 0, 0]);
        report.equal("Underlay's own memory is no buffer", own, EINVAL);
    }
    let apic = answer(number, [0xfee0_0000, 4096, 0, 0, 0]);
    report.equal("nor is a device", apic, EINVAL);
}

fn status(report: &mut Report) {
    let number = resolve("get_status\0");
    let buffer = vec![0u8; 1024];
    let reply = call(number, [address(&*buffer), 1024, 0, 0, 0]);
    let length = reply.map_or(0, |reply| reply.arguments[1] as usize);
    report.equal("get_status", reply.map(|reply| reply.rax), Ok(0));
    let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or(&[])).into_owned();
    report.holds(format_args!("{text}"), text.starts_with("Underlay "));
    let reply = call(number, [address(&*buffer), length as u64 - 1, 0, 0, 0]);
    report.equal("it must fit", reply.map(|reply| reply.rax), Ok(1));
}

/// Numbers of registers in [`General`].
const RAX: usize = 0;
const ARGUMENTS: [usize; 5] = [3, 1, 2, 6, 7];

fn program(report: &mut Report) {
    let mut sandbox = Sandbox::new();
    let instruction = if cpu::is_intel() { 0xc1 } else { 0xd9 };
    let code = [0x0f, 0x01, instruction];
    let mut call = |number: u64, arguments: [u64; 5]| {
        let mut general: General = [0; 16];
        general[RAX] = number;
        for (register, value) in ARGUMENTS.iter().zip(arguments) {
            general[*register] = value;
        }
        sandbox.go(Place::new(true, 64), &code, &general).general[RAX]
    };
    for number in [
        call::SHELL_OPEN,
        call::SHELL_LINE,
        call::SHELL_CLOSE,
        call::LOG_SET_BUF,
    ] {
        let found = call(number, [DATA, 64, 0, 0, 0]);
        report.equal(format_args!("{number} is not for programs"), found, EPERM);
    }
    let status = call(call::GET_STATUS, [DATA, 512, 0, 0, 0]);
    let shown = talk(
        &mut |byte| call(call::DBGSH, [byte, 0, 0, 0, 0]),
        "log level\n",
    );
    let refused = status == EPERM && shown == "refused";
    let served = status == 0 && shown.ends_with("INFO\n> ");
    report.holds(
        format_args!("status {status:#x}, shell {shown:?}"),
        refused || served,
    );
    let how = if refused { "refused" } else { "served" };
    report.say(format_args!("programs that know no token are {how}"));
}
