//! Every one- and two-byte opcode, and random strings of bytes, in rings 0 and
//! 3 and in 64-, 32- and 16-bit code, each in the sandbox. Whatever they raise
//! natively they raise here; the digests go to the comparison.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use tests::Report;
use tests::machine;
use tests::random::Random;
use tests::sandbox::{self, CODE, CODE_OFFSET, Ending, Place, Sandbox};
use tests::transcript::{Options, Transcript};

tests::guest!(check);

/// Random strings, if the command line does not say.
const RANDOM: u64 = 24_000;
const RESUME_FLAG: u64 = 1 << 16;
const LONGEST: usize = 15;
const BLOCK: u64 = 2000;

/// Operands behind a displacement, with a base and an index, and in a register;
/// together all registers and extensions of opcodes. The first ten are enough
/// for a short run.
const MODRM: [u8; 19] = [
    0x44, 0x86, 0x00, 0x10, 0x20, 0x30, 0xc9, 0xdb, 0xed, 0xff, 0x05, 0x08, 0x18, 0x28, 0x38, 0xc0,
    0xd2, 0xe4, 0xf6,
];
const MODRM_SHORT: usize = 10;
/// None; operand size; LOCK; REX.W, which is DEC outside 64-bit code; the first
/// four for a short run. Repetitions; address size.
const PREFIXES: [Option<u8>; 7] = [
    None,
    Some(0x66),
    Some(0xf0),
    Some(0x48),
    Some(0xf2),
    Some(0xf3),
    Some(0x67),
];
const PREFIXES_SHORT: usize = 4;

fn check(report: &mut Report) {
    let options = Options::of_this_guest();
    let mut trial = Trial {
        sandbox: Sandbox::new(),
        report,
        options: &options,
        seed: 0,
        refused: 0,
        runs: 0,
        on_qemu: machine::is_qemu(),
    };
    for place in Place::ALL {
        for high in 0..16 {
            trial.opcodes(place, high, None);
            trial.opcodes(place, high, Some(0x0f));
        }
        trial.random(place);
    }
    let (runs, refused) = (trial.runs, trial.refused);
    drop(trial);
    report.say(format_args!("{runs} runs, {refused} strings refused"));
    report.holds("all came back", runs > 0);
}

struct Trial<'a> {
    sandbox: Sandbox,
    report: &'a mut Report,
    options: &'a Options,
    seed: u64,
    refused: u64,
    runs: u64,
    on_qemu: bool,
}

impl Trial<'_> {
    /// Sixteen opcodes behind `escape`.
    fn opcodes(&mut self, place: Place, high: u8, escape: Option<u8>) {
        let name = if escape.is_some() { "0f" } else { "" };
        let name = format_args!("{place}-{name}{high:x}x");
        let mut block = Transcript::block(self.options, name);
        self.begin();
        let mut index = 0;
        let (mut prefixes, mut modrms) = (&PREFIXES[..], &MODRM[..]);
        if !self.options.is_long() {
            (prefixes, modrms) = (&PREFIXES[..PREFIXES_SHORT], &MODRM[..MODRM_SHORT]);
        }
        for opcode in high << 4..=high << 4 | 0xf {
            for prefix in prefixes {
                for modrm in modrms {
                    let bytes = prefix.iter().copied().chain(escape).chain([opcode, *modrm]);
                    self.case(&mut block, place, index, bytes);
                    index += 1;
                }
            }
        }
        self.end(block);
    }

    fn random(&mut self, place: Place) {
        let strings = self.options.random(RANDOM) / Place::ALL.len() as u64;
        for first in (0..strings).step_by(BLOCK as usize) {
            let name = format_args!("{place}-random{}", first / BLOCK);
            let mut block = Transcript::block(self.options, name);
            self.begin();
            for index in first..(first + BLOCK).min(strings) {
                self.case(&mut block, place, index, []);
            }
            self.end(block);
        }
    }

    /// Each block begins with the same data.
    fn begin(&mut self) {
        self.seed += 1;
        let mut random = Random::of(self.seed, 0);
        for word in self.sandbox.data() {
            *word = random.word();
        }
    }

    /// What was stored counts as well.
    fn end(&mut self, mut block: Transcript) {
        let words = self.sandbox.data().map(|word| *word);
        block.case(self.report, "end", words, || "data");
        block.end(self.report);
    }

    /// `bytes`, and random ones behind them; first as a single step, then, if
    /// that went on to the next instruction, without the trap flag.
    fn case(
        &mut self,
        block: &mut Transcript,
        place: Place,
        index: u64,
        bytes: impl IntoIterator<Item = u8>,
    ) {
        let mut random = Random::of(self.seed, index + 1);
        let mut code = [(); LONGEST].map(|()| random.word() as u8);
        for (slot, byte) in code.iter_mut().zip(bytes) {
            *slot = byte;
        }
        let general = sandbox::general(&mut random, place);
        if sandbox::refused(place, &code, self.on_qemu) {
            self.refused += 1;
            return block.case(self.report, index, [0], || "refused");
        }
        block.announce(self.report, index, || tests::alloc::format!("{code:02x?}"));
        let ending = self.sandbox.step(place, &code, &general);
        self.tell(block, format_args!("{index}"), place, &code, &ending);
        let Some(length) = straight(place, &ending) else {
            return;
        };
        let ending = self.sandbox.go(place, &code[..length], &general);
        let name = format_args!("{index}-without-trap-flag");
        self.tell(block, name, place, &code[..length], &ending);
    }

    fn tell(
        &mut self,
        block: &mut Transcript,
        name: core::fmt::Arguments,
        place: Place,
        code: &[u8],
        ending: &Ending,
    ) {
        self.runs += 1;
        let mut ending = *ending;
        if sandbox::is_uncertain(place, code) {
            ending.general = [0; 16];
        }
        // QEMU 7.2 does not set RF in the flags that a fault pushes.
        if self.on_qemu {
            ending.frame[2] &= !RESUME_FLAG;
        }
        block.case(self.report, name, ending.words(), || {
            tests::alloc::format!("{code:02x?} {ending:x?}")
        });
    }
}

/// The length of the instruction that was stepped over, if it led to the next.
fn straight(place: Place, ending: &Ending) -> Option<usize> {
    const DEBUG: u8 = 1;
    let start = CODE - place.code_base() + CODE_OFFSET as u64;
    let length = ending.frame[0].checked_sub(start)? as usize;
    (ending.vector == DEBUG && (1..=LONGEST).contains(&length)).then_some(length)
}
