//! A trace as the hypervisor wrote it to its log.

use std::collections::BTreeMap;

use abi::report::{Record, Written};
use views::trace::{Cpu, Trace};

/// Takes the trace out of `log`.
pub fn read(log: &str) -> Trace<'_> {
    let mut trace = Trace::default();
    let mut ends: BTreeMap<u32, Written> = BTreeMap::new();
    for line in log.lines() {
        if let Some(record) = Record::parse(line) {
            let cpu = trace.cpus.entry(record.cpu).or_default();
            // One whose line end was cut came again.
            if cpu
                .records
                .last()
                .is_none_or(|last| last.number < record.number)
            {
                cpu.records.push(record);
            }
        } else if let Some(written) = Written::parse(line) {
            ends.insert(written.cpu, written);
        }
    }
    for (number, written) in ends {
        close(trace.cpus.entry(number).or_default(), written);
    }
    trace
}

/// Numbers have no gaps but for what was overwritten.
fn close(cpu: &mut Cpu<'_>, written: Written) {
    cpu.hz = written.hz;
    cpu.overwritten = written.lost;
    let sent = written.next - written.lost.min(written.next);
    cpu.damaged = sent.saturating_sub(cpu.records.len() as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
[1.0 cpu0 INFO  start] hello\r
record: 0 2 64 6e cpuid done 1000 1 0 .\r
record: 0 3 c8 d2 wrmsr fau\r
record: 0 4 12c 136 rdmsr done 1004 10 0 .record: 0 4 12c 136 rdmsr done 1004 10 0 .\r
record: 0 4 12c 136 rdmsr done 1004 10 0 .\r
trace: 0 1000000 5 2 .\r
";

    #[test]
    fn what_was_overwritten_and_what_was_damaged_is_counted() {
        let trace = read(LOG);
        let cpu = &trace.cpus[&0];
        let numbers: Vec<u64> = cpu.records.iter().map(|record| record.number).collect();
        assert_eq!(numbers, [2, 4]);
        assert_eq!((cpu.overwritten, cpu.damaged, cpu.hz), (2, 1, 1_000_000));
    }
}
