//! Collects the records of some CPUs before they are overwritten.

use crate::trouble::Trouble;
use abi::call::TRANSFER_MAX;
use abi::record::{CpuRecord, TraceRecord};
use underlay::Underlay;
use underlay::records::Record;
use underlay::services::Traced;
use views::trace::{Cpu, Trace};

/// What was collected.
pub struct Recorder {
    underlay: Underlay,
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
    /// A recorder of these CPUs that has nothing yet.
    pub fn new(underlay: Underlay, cpus: &[CpuRecord]) -> Self {
        let cpus = cpus.iter().map(|cpu| Collected {
            cpu: cpu.number,
            ..Collected::default()
        });
        Self {
            underlay,
            buffer: vec![0; TRANSFER_MAX],
            cpus: cpus.collect(),
        }
    }

    /// Takes what has come on every CPU.
    pub fn catch_up(&mut self) -> Result<(), Trouble> {
        for cpu in &mut self.cpus {
            let mut part = || {
                let (next, number) = (cpu.next, cpu.cpu);
                let part = self.underlay.trace_read(&mut self.buffer, next, number);
                part.map(|part| cpu.take(part))
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
    fn take(&mut self, part: Traced<'_>) -> bool {
        let before = self.records.len();
        self.records.extend(part.records);
        self.next = part.next;
        self.lost += part.lost;
        self.records.len() - before == TRANSFER_MAX / <TraceRecord as Record>::SIZE
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
