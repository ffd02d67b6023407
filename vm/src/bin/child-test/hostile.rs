//! A child that runs anything: random instructions in real mode, in 32-bit code
//! and in 64-bit code with tables of its own, whose exits get random answers. It
//! ends at worst itself.

use crate::Outcome;
use crate::random::Random;
use std::collections::BTreeMap;
use underlay_vm::{Event, Exit, Memory, Rights, Vcpu, Vm};

const CODE: usize = 0x8000;
/// Exits after which another case begins.
const EXITS: u32 = 12;
const TABLES: [usize; 3] = [0x1000, 0x2000, 0x3000];
/// What no child may change: beyond what it is shown.
const CANARY: usize = 0x10_0000;

pub fn run(count: u64) -> Outcome {
    let mut vm = Vm::new("hostile")?;
    let memory = vm.memory(1)?;
    memory.write(CANARY, b"nobody writes here");
    vm.map(0, &memory, Rights::ALL)?;
    // Of the memory it sees the lower half alone.
    vm.hide(CANARY as u64, 1 << 20)?;
    let mut vcpu = vm.vcpu()?;
    let mut random = Random::new(7);
    let mut kinds = BTreeMap::new();
    for _ in 0..count {
        prepare(&memory, &mut vcpu, &mut random)?;
        case(&mut vcpu, &mut random, &mut kinds)?;
    }
    let mut canary = [0; 18];
    memory.read(CANARY, &mut canary);
    if canary != *b"nobody writes here" {
        return Err("the child wrote where it sees nothing".into());
    }
    println!("{count} cases: {kinds:?}");
    Ok(())
}

fn table(memory: &Memory, at: usize, entry: u64) {
    memory.write(at, &entry.to_le_bytes());
}

fn prepare(memory: &Memory, vcpu: &mut Vcpu, random: &mut Random) -> Outcome {
    let [root, pointers, directory] = TABLES;
    table(memory, root, pointers as u64 | 7);
    table(memory, pointers, directory as u64 | 7);
    table(memory, directory, 0x87);
    let code: Vec<u8> = (0..48).map(|_| random.next() as u8).collect();
    memory.write(CODE, &code);
    let mut registers = vcpu.registers()?;
    for register in &mut registers.general {
        *register = random.odd();
    }
    registers.rip = CODE as u64;
    registers.rflags = 2 | random.next() & 0x4_0ed5;
    registers.debug = [0, 0, 0, 0, 0xffff_0ff0, 0x400];
    registers.xcr0 = 1;
    registers.cr2 = 0;
    registers.cr3 = root as u64;
    (registers.gdt_base, registers.gdt_limit) = (0x4000, 0xff);
    (registers.idt_base, registers.idt_limit) = (0x5000, 0xfff);
    let mode = random.below(3);
    registers.cr0 = [0x10, 0x11, 0x8000_0011][mode as usize] | random.next() & 0xa;
    registers.cr4 = if mode == 2 { 0x20 } else { 0 } | random.next() & 0x600;
    registers.efer = if mode == 2 { 0xd00 } else { 0 } | random.next() & 1;
    registers.selectors = [0, 8, 0x10, 0x10, 0, 0, 0, 0x18];
    registers.bases = [0; 8];
    registers.limits = [0xffff; 8];
    registers.rights = [0x93, 0x9b, 0x93, 0x93, 0x93, 0x93, 0x1_0082, 0x8b];
    if mode == 0 {
        registers.selectors = [0; 8];
    } else {
        for segment in 0..6 {
            registers.limits[segment] = 0xffff_ffff;
            registers.rights[segment] |= 0xc000;
        }
        registers.rights[1] = if mode == 2 { 0xa09b } else { 0xc09b };
    }
    vcpu.set_registers(&registers)?;
    Ok(())
}

fn name(exit: &Exit) -> String {
    let text = format!("{exit:?}");
    let end = text.find(|c: char| !c.is_alphanumeric());
    text[..end.unwrap_or(text.len())].to_owned()
}

fn case(vcpu: &mut Vcpu, random: &mut Random, kinds: &mut BTreeMap<String, u64>) -> Outcome {
    for _ in 0..EXITS {
        let (cpuid, msrs) = (random.below(4) == 0, random.below(2) == 0);
        vcpu.watch(cpuid, msrs);
        match random.below(16) {
            0 => vcpu.raise(Event::Nmi),
            1 => vcpu.raise(Event::Exception(random.below(2) as u8 * 6, None)),
            2 => vcpu.raise(Event::Exception(13, Some(0))),
            3 => vcpu.raise(Event::Interrupt(0x20)),
            4 => vcpu.await_window(),
            5 => vcpu.refuse(),
            _ => vcpu.answer_all([random.odd(), random.odd(), random.odd(), random.odd()]),
        }
        let exit = vcpu.run()?;
        *kinds.entry(name(&exit)).or_insert(0) += 1;
        let ends = matches!(
            exit,
            Exit::Shutdown | Exit::EntryFailed { .. } | Exit::Other { .. }
        );
        if ends {
            break;
        }
    }
    Ok(())
}
