//! Collects the records of all CPUs before they are overwritten.

use crate::cpus;
use crate::trouble::Trouble;
use abi::call::TRANSFER_MAX;
use abi::record::TraceRecord;
use std::collections::BTreeMap;
use underlay::Underlay;
use underlay::records::Record;
use underlay::services::Traced;
use views::trace::{Cpu, Trace};

/// What was collected.
pub struct Recorder {
    underlay: Underlay,
    buffer: Vec<u8>,
    /// In the order in which CPUs are visited.
    cpus: Vec<Collected>,
}

/// What was collected of one CPU.
#[derive(Default)]
struct Collected {
    next: u64,
    lost: u64,
    records: Vec<TraceRecord>,
}

impl Recorder {
    /// A recorder that has nothing yet.
    pub fn new(underlay: Underlay) -> Self {
        Self {
            underlay,
            buffer: vec![0; TRANSFER_MAX],
            cpus: Vec::new(),
        }
    }

    /// Takes what has come on every CPU.
    pub fn catch_up(&mut self) -> Result<(), Trouble> {
        let mut number = 0;
        cpus::each(|| {
            if number == self.cpus.len() {
                self.cpus.push(Collected::default());
            }
            let cpu = &mut self.cpus[number];
            number += 1;
            while cpu.take(self.underlay.trace_read(&mut self.buffer, cpu.next)?) {}
            Ok(())
        })
        .map(drop)
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
        let cpus = self.cpus.iter().zip(0..);
        let cpus = cpus.map(|(collected, order)| {
            let number = collected.records.first().map_or(order, |record| record.cpu);
            (number, collected.cpu(hz))
        });
        Trace {
            cpus: cpus.collect::<BTreeMap<_, _>>(),
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

    fn cpu(&self, hz: u64) -> Cpu<'_> {
        Cpu {
            hz,
            records: self.records.iter().map(Into::into).collect(),
            overwritten: self.lost,
            damaged: 0,
        }
    }
}
