//! Collects the records of some CPUs before they are overwritten.

use crate::trouble::Trouble;
use abi::call::TRANSFER_MAX;
use abi::record::{CpuRecord, TraceRecord};
use underlay::Underlay;
use underlay::records::Record;
use underlay::services::Traced;
use views::trace::{Cpu, Trace};

/// Whose exits somebody wants to see.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// The guest's, and all VMs'.
    All,
    /// Those of the VM with this number, or of one of its vCPUs.
    Vm(u64, Option<u64>),
}

impl Wanted {
    fn takes(self, record: &TraceRecord) -> bool {
        match self {
            Self::All => true,
            Self::Vm(number, vcpu) => {
                let is_vcpu = vcpu.is_none_or(|vcpu| vcpu == u64::from(record.vcpu));
                is_vcpu && number == u64::from(record.child)
            }
        }
    }
}

/// What was collected.
pub struct Recorder {
    underlay: Underlay,
    wanted: Wanted,
    buffer: Vec<u8>,
    cpus: Vec<Collected>,
}

/// What was collected of one CPU.
#[derive(Default)]
struct Collected {
    cpu: u32,
    next: u64,
    lost: u64,
    records: Vec<TraceRecord>,
}

impl Recorder {
    /// A recorder of what is wanted of these CPUs that has nothing yet.
    pub fn new(underlay: Underlay, cpus: &[CpuRecord], wanted: Wanted) -> Self {
        let cpus = cpus.iter().map(|cpu| Collected {
            cpu: cpu.number,
            ..Collected::default()
        });
        Self {
            underlay,
            wanted,
            buffer: vec![0; TRANSFER_MAX],
            cpus: cpus.collect(),
        }
    }

    /// Takes what has come on every CPU.
    pub fn catch_up(&mut self) -> Result<(), Trouble> {
        let wanted = self.wanted;
        for cpu in &mut self.cpus {
            let mut part = || {
                let (next, number) = (cpu.next, cpu.cpu);
                let part = self.underlay.trace_read(&mut self.buffer, next, number);
                part.map(|part| cpu.take(part, wanted))
            };
            while part()? {}
        }
        Ok(())
    }

    /// Begins anew behind what was taken.
    pub fn forget(&mut self) {
        for cpu in &mut self.cpus {
            cpu.lost = 0;
            cpu.records.clear();
        }
    }

    /// All that was collected, by CPUs whose clocks have this many ticks a
    /// second.
    pub fn trace(&self, hz: u64) -> Trace<'_> {
        let cpus = self.cpus.iter();
        let cpus = cpus.map(|collected| (collected.cpu, collected.shown(hz)));
        Trace {
            cpus: cpus.collect(),
        }
    }
}

impl Collected {
    /// Takes the records. Returns whether there may be more: each call is
    /// recorded itself, so there always is another one, but no full buffer.
    fn take(&mut self, part: Traced<'_>, wanted: Wanted) -> bool {
        let mut came = 0;
        let counted = part.records.inspect(|_| came += 1);
        self.records
            .extend(counted.filter(|record| wanted.takes(record)));
        self.next = part.next;
        self.lost += part.lost;
        came == TRANSFER_MAX / <TraceRecord as Record>::SIZE
    }

    fn shown(&self, hz: u64) -> Cpu<'_> {
        Cpu {
            hz,
            records: self.records.iter().map(Into::into).collect(),
            overwritten: self.lost,
            damaged: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::record::Text;

    #[test]
    fn of_a_vm_its_own_records_are_taken_and_no_others() {
        let record = |child, vcpu| TraceRecord {
            number: 0,
            begin: 0,
            end: 0,
            rip: 0,
            payload: [0; 2],
            kind: Text::NONE,
            outcome: Text::NONE,
            cpu: 0,
            child,
            vcpu,
        };
        let all = [record(0, 0), record(3, 0), record(3, 1), record(4, 1)];
        let taken = |wanted: Wanted| all.each_ref().map(|record| wanted.takes(record));
        assert_eq!(taken(Wanted::All), [true; 4]);
        assert_eq!(taken(Wanted::Vm(3, None)), [false, true, true, false]);
        assert_eq!(taken(Wanted::Vm(3, Some(1))), [false, false, true, false]);
    }
}
