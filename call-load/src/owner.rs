//! Calls as the machine's owner, whose token root can read.

use abi::call;
use abi::record::{ExitsRecord, OddityRecord};
use abi::token::{LINUX_PATH, Token};
use core::arch::asm;
use std::fs;
use underlay::Instruction;

use crate::Failed;

/// The owner.
pub struct Owner {
    instruction: Instruction,
    token: Token,
}

impl Owner {
    /// Reads the token.
    pub fn new(instruction: Instruction) -> Result<Self, Failed> {
        let table = fs::read(LINUX_PATH).map_err(|error| format!("{LINUX_PATH}: {error}"))?;
        let token = Token::from_table(&table).ok_or("the owner's table is damaged")?;
        Ok(Self { instruction, token })
    }

    /// Calls of any kind that reached the hypervisor, those among them that
    /// raised a fault and were made again.
    pub fn calls(&self) -> Result<u64, Failed> {
        let rows = self.records(call::STATISTICS_READ)?;
        let rows = rows.iter().map(ExitsRecord::from_bytes);
        let mut calls = rows.filter(|row| row.kind.as_str() == "hypercall");
        Ok(calls.next().map_or(0, |row| row.count))
    }

    /// How often `name` was noted.
    pub fn oddity(&self, name: &str) -> Result<u64, Failed> {
        let rows = self.records(call::ODDITIES_READ)?;
        let rows = rows.iter().map(OddityRecord::from_bytes);
        let mut named = rows.filter(|row| row.name.as_str() == name);
        named
            .next()
            .map(|row| row.count)
            .ok_or_else(|| format!("nothing is called {name}"))
    }

    fn records<const SIZE: usize>(&self, number: u64) -> Result<Vec<[u8; SIZE]>, Failed> {
        const ROWS: usize = 256;
        let mut rows = vec![[0; SIZE]; ROWS];
        let room = [rows.as_mut_ptr() as u64, (ROWS * SIZE) as u64];
        let written = self.call(number, room) as i64;
        let written = usize::try_from(written).map_err(|_| format!("service {number} failed"))?;
        rows.truncate(written);
        Ok(rows)
    }

    /// A call with a buffer that the service fills.
    fn call(&self, number: u64, [address, bytes]: [u64; 2]) -> u64 {
        let Token([r8, r9]) = self.token;
        let rax;
        macro_rules! call {
            ($mnemonic:literal) => {
                // SAFETY: the instruction is the one that answers here; the
                // service writes to the buffer alone.
                unsafe {
                    asm!(
                        "xchg {address}, rbx", $mnemonic, "xchg {address}, rbx",
                        address = inout(reg) address => _,
                        inout("rax") number => rax, inout("rcx") bytes => _,
                        inout("rdx") 0 => _, out("rsi") _, out("rdi") _,
                        in("r8") r8, in("r9") r9, options(nostack),
                    )
                }
            };
        }
        match self.instruction {
            Instruction::Vmcall => call!("vmcall"),
            Instruction::Vmmcall => call!("vmmcall"),
        }
        rax
    }
}
