//! The debug shell, line by line and byte by byte.

use super::*;
use crate::vm::Cpu;
use abi::call::{SHELL_LINE_MAX, SHELL_TEXT_MAX};
use abi::handoff::Compat;
use x86::Gpa;

const LINE: u64 = 0x5000;
const TEXT: u64 = 0x6000;
const WRONG: Option<Errno> = Some(Errno::InvalidArgument);
const WAITS: u64 = 0;
const END: u64 = 0x10a;

fn machine() -> Vm<FakeMemory> {
    let mut vm = vm(Presence::Leaf);
    vm.token = TOKEN;
    vm
}

/// The registers after a line, and its text.
fn line_in(vm: &Vm<FakeMemory>, handle: u64, line: &[u8], room: u64) -> ([u64; 3], String) {
    vm.memory.put(LINE, line);
    let arguments = [handle, LINE, line.len() as u64, TEXT, room];
    let cpu = OWNER.calls(vm, call::SHELL_LINE, arguments);
    assert_eq!(error(&cpu), None);
    let Registers { rax, rbx, rcx, .. } = cpu.registers;
    ([rax, rbx, rcx], text_of(vm, rax))
}

fn text_of(vm: &Vm<FakeMemory>, length: u64) -> String {
    let mut bytes = vec![0; length as usize];
    vm.memory.read(Gpa(TEXT), &mut bytes).expect("in memory");
    String::from_utf8(bytes).expect("text")
}

fn open(vm: &Vm<FakeMemory>) -> u64 {
    OWNER.calls(vm, call::SHELL_OPEN, [0; 5]).registers.rax
}

/// All the text of a line, taken in parts of `room` bytes.
fn in_parts(vm: &Vm<FakeMemory>, handle: u64, line: &str, room: u64) -> String {
    let mut all = String::new();
    let mut typed = line.as_bytes();
    loop {
        let ([done, more, _], text) = line_in(vm, handle, typed, room);
        assert!(done <= room.min(SHELL_TEXT_MAX as u64));
        all += &text;
        if more == 0 {
            return all;
        }
        typed = b"";
    }
}

fn says(line: &str) -> String {
    let vm = machine();
    let handle = open(&vm);
    in_parts(&vm, handle, line, 4096)
}

#[test]
fn help_has_a_line_for_each_command_and_each_answers() {
    let help = says("help");
    let names: Vec<_> = help.lines().filter_map(|l| l.split(' ').next()).collect();
    for name in [
        "help", "info", "cpus", "regs", "stat", "trace", "dump", "walk", "vmcs", "vmcb", "log",
        "exit",
    ] {
        assert!(names.contains(&name), "{help}");
    }
    for name in names.iter().filter(|name| **name != "exit") {
        let said = says(name);
        assert!(!said.is_empty() && !said.contains("no command"), "{name}");
    }
}

#[test]
fn the_page_has_every_command() {
    let page = include_str!("../../../../docs/SHELL.md");
    for line in says("help").lines() {
        let (usage, sentence) = line.split_at(28);
        assert!(page.contains(usage.trim()), "{usage}");
        assert!(!sentence.trim().is_empty());
    }
}

#[test]
fn mistakes_get_a_helpful_line() {
    for (line, said) in [
        ("hepl", "no command is called `hepl`; `help` lists them\n"),
        ("walk", "an address is hexadecimal; usage: walk ADDRESS\n"),
        (
            "walk xyz",
            "an address is hexadecimal; usage: walk ADDRESS\n",
        ),
        ("walk 1 2", "usage: walk ADDRESS\n"),
        ("trace 1 x", "usage: trace [COUNT [CPU]]\n"),
        ("trace 1 0 0", "usage: trace [COUNT [CPU]]\n"),
        ("stat x", "usage: stat [CPU]\n"),
        ("stat 0 0", "usage: stat [CPU]\n"),
        ("stat 1", "there is no cpu1; `cpus` lists them\n"),
        ("trace 5 64", "there is no cpu64; `cpus` lists them\n"),
        ("trace -1", "usage: trace [COUNT [CPU]]\n"),
        (
            "log level loud",
            "a level is off, error, warn, info, debug or trace, or 0 to 5\n",
        ),
        ("log", "usage: log level [LEVEL]\n"),
        ("vmcb", "this CPU has VT-x: try `vmcs`\n"),
        (
            "vmcs nonsense",
            "no field's name contains `nonsense`; `vmcs` lists all\n",
        ),
        ("  \t ", ""),
    ] {
        assert_eq!(says(line), said);
    }
    assert!(says("dump 10 99999999").ends_with("usage: dump [-p] ADDRESS [BYTES]\n"));
    assert!(says("dump").ends_with("usage: dump [-p] ADDRESS [BYTES]\n"));
}

#[test]
fn registers_are_those_of_this_call() {
    let text = says("regs");
    let handle = text.split("rbx ").nth(1).expect("shown")[..16].to_owned();
    assert_ne!(u64::from_str_radix(&handle, 16), Ok(0));
    for part in [
        "rax 000000000000001c",
        "rsi 0000000000006000",
        "r8  0000000000007070",
        "rip 0000000000001000",
        "privilege level 3",
        "cr3 0000000000100000",
        "cs   0010 base 0000000000000000 limit ffffffff rights 0c093",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn memory_is_dumped_by_both_kinds_of_addresses() {
    let vm = machine();
    let handle = open(&vm);
    vm.memory.put(0x7ff8, b"ABCDEFGHIJ\x00\xff");
    vm.memory.remap(0x9000, 0x7000 | 3);
    let row = |at: u64, bytes: &str, text: &str| format!("{at:016x}  {bytes:<47}  {text}\n");
    let first = "41 42 43 44 45 46 47 48";
    let text = in_parts(&vm, handle, "dump 9ff8 8", 4096);
    assert_eq!(text, row(0x9ff8, first, "ABCDEFGH"));
    let text = in_parts(&vm, handle, "dump -p 0x7ff8 0xc", 4096);
    let second = row(0x8000, "49 4a 00 ff", "IJ..");
    assert_eq!(text, row(0x7ff8, first, "ABCDEFGH") + &second);
}

#[test]
fn what_cannot_be_shown_is_a_line_a_page() {
    let vm = machine();
    let handle = open(&vm);
    vm.memory.unmap(0x9000);
    vm.memory.remap(0xa000, FakeMemory::RESERVED.start.0 | 7);
    let text = in_parts(&vm, handle, "dump 8ff0 8224", 4096);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[1].ends_with("0000000000009000  not present"));
    assert_eq!(lines[2], "000000000000a000  no memory of the guest's");
    assert!(lines[3].starts_with("000000000000b000  00"));
    let own = format!("dump -p {:x} 1048576", FakeMemory::RESERVED.start.0);
    let text = in_parts(&vm, handle, &own, 4096);
    assert!(
        text.lines()
            .all(|l| l.ends_with("no memory of the guest's"))
    );
    assert_eq!(text.lines().count(), 256);
    let end = in_parts(&vm, handle, "dump -p fffffffffffffff0 64", 4096);
    assert_eq!(end.lines().count(), 1);
}

#[test]
fn a_walk_shows_each_entry_and_changes_none() {
    let vm = machine();
    let handle = open(&vm);
    vm.memory.remap(0x9000, 0x7000 | 1 << 63 | 3);
    line_in(&vm, handle, b"help", 4096);
    let before = vm.memory.snapshot();
    let text = in_parts(&vm, handle, "walk 9123", 4096);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[3],
        "level 1, entry at 0x103048: 0x8000000000007003 present writable no-execute"
    );
    assert_eq!(
        lines[4],
        "0x9123 lies at guest-physical 0x7123, 3805 bytes of its page follow"
    );
    assert_eq!(
        lines[5],
        "nested tables, level 1: 0x0000000000007007 read write execute"
    );
    let after = vm.memory.snapshot();
    assert!(before[0x10_0000..] == after[0x10_0000..], "tables changed");
    let text = in_parts(&vm, handle, "walk 1000000000000000", 4096);
    let nowhere = "0x1000000000000000 leads nowhere: no canonical address\n";
    assert_eq!(text, nowhere);
    vm.memory.remap(0xa000, FakeMemory::RESERVED.start.0 | 7);
    let text = in_parts(&vm, handle, "walk a000", 4096);
    assert!(
        text.ends_with("nested tables, level 2: 0x0000000000000000 nothing\n"),
        "{text}"
    );
}

#[test]
fn fields_are_found_by_a_part_of_their_names() {
    assert_eq!(says("vmcs cr3"), "GUEST_CR3 0x100000\nHOST_CR3 0x77\n");
    assert_eq!(says("vmcs ssp"), "GUEST_SSP is not in this CPU\n");
    assert_eq!(says("vmcs").lines().count(), 3);
}

#[test]
fn statistics_and_trace_are_those_of_this_cpu() {
    let vm = machine();
    let handle = open(&vm);
    PROGRAM.calls(&vm, call::LOG_LEVEL, [0; 5]);
    for (line, wanted) in [
        ("stat", "invd"),
        ("stat", "odd: refused-call"),
        ("trace 3", "invd"),
    ] {
        vm.memory.put(LINE, line.as_bytes());
        let arguments = [handle, LINE, line.len() as u64, TEXT, 4096];
        let mut cpu = Cpu::new(OWNER.at_call(call::SHELL_LINE, arguments));
        let invd = Exit::Instruction(Instruction::Invd);
        cpu.vcpu.exits = [invd, invd, Exit::Hypercall].into();
        assert_eq!(run(&vm, &mut cpu), Stop::Reset);
        let text = text_of(&vm, cpu.vcpu.registers.rax);
        assert!(text.contains(wanted), "{text}");
        let lines = if line == "stat" { 3 } else { 2 };
        assert_eq!(text.lines().count(), lines, "{text}");
    }
}

#[test]
fn text_is_the_same_in_parts_of_any_size() {
    let vm = machine();
    let handle = open(&vm);
    let whole = in_parts(&vm, handle, "dump -p 0 300", 4096);
    for room in [1, 7, 100, 1 << 40] {
        assert_eq!(in_parts(&vm, handle, "dump -p 0 300", room), whole);
    }
    let long = in_parts(&vm, handle, "dump -p 0 100000", 1 << 40);
    assert_eq!(long.lines().count(), 6250);
    let ([done, more, _], _) = line_in(&vm, handle, b"dump -p 0 100000", 0);
    assert_eq!((done, more), (0, 1));
    let ([_, more, _], text) = line_in(&vm, handle, b"vmcs cr0", 4096);
    assert_eq!((more, text.as_str()), (0, "GUEST_CR0 0x80010001\n"));
}

#[test]
fn sessions_are_eight_and_the_oldest_gives_way() {
    let vm = machine();
    let handles: Vec<u64> = (0..8).map(|_| open(&vm)).collect();
    line_in(&vm, handles[0], b"dump -p 0 100000", 10);
    let ninth = open(&vm);
    let gone = OWNER.calls(&vm, call::SHELL_LINE, [handles[1], LINE, 0, TEXT, 10]);
    assert_eq!(error(&gone), WRONG);
    let ([done, more, _], _) = line_in(&vm, handles[0], b"", 10);
    assert_eq!((done, more), (10, 1));
    let close = |handle| OWNER.calls(&vm, call::SHELL_CLOSE, [handle, 0, 0, 0, 0]);
    assert_eq!(close(ninth).registers.rax, 0);
    for handle in [0, 1, ninth, handles[1], 1 << 32, u64::MAX] {
        assert_eq!(error(&close(handle)), WRONG, "{handle:#x}");
    }
    let tenth = open(&vm);
    assert!(handles.iter().all(|handle| *handle != tenth));
}

#[test]
fn a_session_that_has_ended_is_gone() {
    let vm = machine();
    let handle = open(&vm);
    assert_eq!(line_in(&vm, handle, b"exit", 10).0, [0, 0, 1]);
    let gone = OWNER.calls(&vm, call::SHELL_LINE, [handle, LINE, 0, TEXT, 10]);
    assert_eq!(error(&gone), WRONG);
}

#[test]
fn a_line_that_is_too_long_or_not_there_runs_nothing() {
    let vm = machine();
    let handle = open(&vm);
    let long = SHELL_LINE_MAX as u64 + 1;
    let cpu = OWNER.calls(&vm, call::SHELL_LINE, [handle, LINE, long, TEXT, 10]);
    assert_eq!(error(&cpu), WRONG);
    vm.memory.unmap(0x9000);
    for arguments in [[handle, 0x9000, 4, TEXT, 10], [handle, LINE, 4, 0x8ffc, 10]] {
        let cpu = OWNER.calls(&vm, call::SHELL_LINE, arguments);
        assert_eq!(page_fault_of(&cpu).0, 0x9000);
    }
    assert_eq!(line_in(&vm, handle, b"", 10).0, [0, 0, 0]);
}

#[test]
fn the_shell_is_the_owners() {
    let mut vm = machine();
    for compat in [Compat::None, Compat::BitVisor] {
        vm.compat = compat;
        for number in [call::SHELL_OPEN, call::SHELL_LINE, call::SHELL_CLOSE] {
            let cpu = PROGRAM.calls(&vm, number, [0; 5]);
            assert_eq!(error(&cpu), Some(Errno::NotPermitted));
            let cpu = KERNEL.calls(&vm, number, [0; 5]);
            assert_ne!(error(&cpu), Some(Errno::NotPermitted));
        }
    }
}

/// Talks as BitVisor's client does, until the shell waits for a byte again.
fn typed(vm: &Vm<FakeMemory>, keys: &[u8]) -> String {
    let say = |byte: u64| {
        KERNEL
            .calls(vm, call::DBGSH, [byte, 0, 0, 0, 0])
            .registers
            .rax
    };
    let mut shown = String::new();
    let mut keys = keys.iter();
    let mut answer = u64::from(u32::MAX);
    for _ in 0..10_000 {
        let byte = say(answer);
        answer = match byte {
            WAITS => match keys.next() {
                Some(key) => u64::from(*key),
                None => return shown,
            },
            END => return shown + "<end>",
            byte => {
                shown.push(char::from(byte as u8));
                0
            }
        };
    }
    panic!("never waits: {shown}");
}

#[test]
fn bitvisors_shell_shows_what_is_typed_and_answers_a_byte_at_a_time() {
    let vm = machine();
    let shown = typed(&vm, b"");
    assert!(shown.ends_with("\n> "), "{shown}");
    assert_eq!(typed(&vm, b""), "");
    assert_eq!(
        typed(&vm, b"vmcs cr4\x7f0\r"),
        "vmcs cr4\x08 \x080\nGUEST_CR0 0x80010001\n> "
    );
    assert_eq!(typed(&vm, b"\x08\x00\x01\xff"), "");
    assert_eq!(typed(&vm, b"half\x15\r"), "half\n> \n> ");
    assert_eq!(typed(&vm, b"exit\n"), "exit\n<end>");
    assert_eq!(typed(&vm, b""), "<end>");
    let say = |byte: u64| {
        KERNEL
            .calls(&vm, call::DBGSH, [byte, 0, 0, 0, 0])
            .registers
            .rax
    };
    assert_eq!(say(0), u64::from(b'U'));
    let waits = typed(&vm, b"");
    assert!(waits.ends_with("> "));
    let long = vec![b'x'; 500];
    assert_eq!(typed(&vm, &long).len(), SHELL_LINE_MAX);
}

#[test]
fn bitvisors_session_is_one_of_the_eight() {
    let vm = machine();
    typed(&vm, b"half");
    let handles: Vec<u64> = (0..7).map(|_| open(&vm)).collect();
    assert_eq!(typed(&vm, b""), "");
    handles
        .iter()
        .for_each(|handle| drop(line_in(&vm, *handle, b"", 1)));
    open(&vm);
    assert!(typed(&vm, b"").ends_with("\n> "));
    let gone = OWNER.calls(&vm, call::SHELL_CLOSE, [handles[0], 0, 0, 0, 0]);
    assert_eq!(error(&gone), WRONG);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_line_gets_an_answer_that_ends(line in prop::collection::vec(any::<u8>(), 0..120)) {
        let vm = machine();
        let handle = open(&vm);
        line_in(&vm, handle, b"help", 4096);
        let before = vm.memory.snapshot();
        line_in(&vm, handle, &line, 4096);
        let after = vm.memory.snapshot();
        prop_assert!(before[0x10_0000..] == after[0x10_0000..]);
    }

    #[test]
    fn any_words_get_an_answer_of_text(
        command in prop::sample::select(vec!["dump", "walk", "trace", "vmcs", "log", "regs"]),
        words in "[ -~]{0,40}",
    ) {
        let vm = machine();
        let handle = open(&vm);
        let line = format!("{command} {words}");
        let (_, text) = line_in(&vm, handle, line.as_bytes(), 4096);
        prop_assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
    }

    #[test]
    fn any_keys_leave_a_shell_that_waits(keys in prop::collection::vec(any::<u8>(), 0..60)) {
        let vm = machine();
        typed(&vm, &keys);
        prop_assert!(typed(&vm, b"\x15help\r").ends_with("> "));
    }
}
