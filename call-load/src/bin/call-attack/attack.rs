//! The attacks, by the table of services.

use abi::Errno;
use abi::call::{AS_PROGRAM, INFO, Kind, LIST, MAY_FAULT, MEMORY_COPY, SERVICES, Service, Who};
use call_load::pattern::Random;
use call_load::processes::Shared;
use call_load::{Failed, ensure};
use underlay::Instruction;

use crate::invoke::{Ending, Registers, invoke, survive_faults};
use crate::targets::Targets;

/// Bytes that a call is to use: more than the address space has where some
/// addresses point.
const BYTES: u64 = 1024;
/// Of so many random calls the memory is looked at behind one.
const LOOK_EVERY: u64 = 16;

/// The attacker.
pub struct Attacker<'a> {
    instruction: Instruction,
    targets: Targets,
    /// Where refused calls are counted.
    shared: &'a Shared,
    random: Random,
}

impl<'a> Attacker<'a> {
    /// With `kernel`, an address of the kernel's.
    pub fn new(instruction: Instruction, kernel: u64, shared: &'a Shared) -> Result<Self, Failed> {
        survive_faults();
        Ok(Self {
            instruction,
            targets: Targets::new(kernel)?,
            shared,
            random: Random::new(3),
        })
    }

    /// Every address of every service leads to each bad place; a service that
    /// is not for programs does not even look.
    pub fn each_argument(&mut self) -> Result<(), Failed> {
        for service in SERVICES {
            if service.who != Who::Any {
                self.refused(service, self.good(service))?;
            }
            for (index, value) in service.arguments.iter().enumerate() {
                if !matches!(value.kind, Kind::Gva | Kind::Gpa) {
                    continue;
                }
                for bad in self.bad(service, index) {
                    let mut arguments = self.good(service);
                    arguments[index] = bad;
                    self.attack(service, arguments)?;
                }
            }
        }
        Ok(())
    }

    fn good(&self, service: &Service) -> [u64; 5] {
        let mut arguments = [0; 5];
        for (value, argument) in service.arguments.iter().zip(&mut arguments) {
            *argument = match value.kind {
                Kind::Gva | Kind::Gpa => self.targets.good(),
                Kind::Bytes => BYTES,
                Kind::Number => 0,
            };
        }
        arguments
    }

    /// What argument `index` of `service` must not lead to.
    fn bad(&self, service: &Service, index: usize) -> Vec<u64> {
        let mut bad = self.targets.bad().to_vec();
        if matches!((service.number, index), (INFO | LIST | MEMORY_COPY, 0)) {
            bad.push(self.targets.read_only());
        }
        bad
    }

    /// A call that must come to nothing: refused, or with the fault of an
    /// ordinary access.
    fn attack(&mut self, service: &Service, arguments: [u64; 5]) -> Result<(), Failed> {
        if service.who != Who::Any {
            return self.refused(service, arguments);
        }
        for flag in [0, MAY_FAULT, AS_PROGRAM] {
            let before = self.registers(service.number | flag, arguments);
            let (ending, after) = self.call(before);
            // The end of the address space is a mistake of the caller's.
            let invalid = after[0] == Errno::InvalidArgument.to_register();
            let fine = match ending {
                Ending::Faulted => after == before,
                Ending::Answered => invalid,
            };
            ensure(fine && self.targets.unchanged(), || {
                let name = service.name;
                format!("{name} with {arguments:x?}: {ending:?}, then {after:x?}")
            })?;
        }
        Ok(())
    }

    fn refused(&mut self, service: &Service, arguments: [u64; 5]) -> Result<(), Failed> {
        let before = self.registers(service.number, arguments);
        let (ending, after) = self.call(before);
        let refused = ending == Ending::Answered && is_refusal(&after);
        ensure(
            refused && after[1..] == before[1..] && self.targets.unchanged(),
            || {
                let name = service.name;
                format!("{name} with {arguments:x?}: {ending:?}, then {after:x?}")
            },
        )
    }

    /// With a guess of the token.
    fn registers(&mut self, number: u64, [rbx, rcx, rdx, rsi, rdi]: [u64; 5]) -> Registers {
        let [r8, r9] = match self.random.below(4) {
            0 => [0; 2],
            1 => [u64::MAX; 2],
            _ => [self.random.word(), self.random.word()],
        };
        [number, rbx, rcx, rdx, rsi, rdi, r8, r9]
    }

    fn call(&mut self, mut registers: Registers) -> (Ending, Registers) {
        // SAFETY: the instruction answered the client library; services write
        // with the rights of this process, and all that it has left to write
        // where the registers point are the targets.
        let ending = unsafe { invoke(self.instruction, &mut registers) };
        if ending == Ending::Answered && is_refusal(&registers) {
            self.shared.count(1);
        }
        (ending, registers)
    }

    /// Any number, any registers.
    pub fn random(&mut self, calls: u64) -> Result<(), Failed> {
        for index in 0..calls {
            let number = match self.random.below(8) {
                0 => self.random.word(),
                1 => self.random.below(1 << 16) as u64,
                _ => self.random.below(SERVICES.len()) as u64,
            };
            let arguments = [(); 5].map(|()| match self.random.below(3) {
                0 => self.random.below(5000) as u64,
                _ => self.targets.any(&mut self.random),
            });
            self.one(number, arguments, index % LOOK_EVERY == 0)?;
        }
        Ok(())
    }

    fn one(&mut self, number: u64, arguments: [u64; 5], looks: bool) -> Result<(), Failed> {
        if looks {
            self.targets.renew();
        }
        let before = self.registers(number, arguments);
        let (ending, after) = self.call(before);
        let failed = ending == Ending::Faulted || (-4095..0).contains(&(after[0] as i64));
        let row = usize::try_from(number & !(MAY_FAULT | AS_PROGRAM)).ok();
        let fine = match row.and_then(|row| SERVICES.get(row)) {
            None => after[0] == Errno::NoService.to_register(),
            Some(service) if service.who != Who::Any => is_refusal(&after),
            Some(_) => after[6..] == before[6..],
        };
        let unchanged = !looks || !failed || self.targets.unchanged();
        ensure(fine && unchanged, || {
            format!("{before:x?}: {ending:?}, then {after:x?}, unchanged: {unchanged}")
        })
    }
}

fn is_refusal(registers: &Registers) -> bool {
    registers[0] == Errno::NotPermitted.to_register()
}
