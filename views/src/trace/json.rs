//! A trace as a file for Perfetto and chrome://tracing: "Trace Event Format",
//! one complete event for each exit, on one track for each CPU, or each vCPU of a
//! child, which is a process of its own there.

use std::collections::BTreeSet;
use std::io::{self, Write};

use abi::report::Record;
use serde_json::{Value, json};

use super::{Cpu, Trace};

/// Writes the file. Times count from the first exit of any CPU. One event is
/// made after the other: a trace may be as large as the memory of who shows it.
pub fn write(trace: &Trace<'_>, mut out: impl Write) -> io::Result<()> {
    let begins = trace.cpus.values().flat_map(|cpu| &cpu.records);
    let origin = begins.map(|record| record.begin).min().unwrap_or(0);
    let process = name("process_name", [0, 0], "Underlay".to_owned());
    write!(
        out,
        "{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n{process}"
    )?;
    for (number, cpu) in &trace.cpus {
        let thread = name("thread_name", [0, *number], format!("CPU {number}"));
        write!(out, ",\n{thread}")?;
        for record in &cpu.records {
            write!(out, ",\n{}", event(record, cpu, origin))?;
        }
    }
    for child in children(trace) {
        write!(out, ",\n{child}")?;
    }
    let sum = |of: fn(&Cpu<'_>) -> u64| trace.cpus.values().map(of).sum::<u64>();
    let missing = json!({
        "overwritten": sum(|cpu| cpu.overwritten),
        "damaged": sum(|cpu| cpu.damaged),
    });
    writeln!(out, "\n],\"otherData\":{missing}}}")?;
    out.flush()
}

fn name(what: &str, [process, thread]: [u32; 2], name: String) -> Value {
    json!({ "ph": "M", "name": what, "pid": process, "tid": thread, "args": { "name": name } })
}

/// The names of children and their vCPUs.
fn children(trace: &Trace<'_>) -> Vec<Value> {
    let records = trace.cpus.values().flat_map(|cpu| &cpu.records);
    let vcpus = records.map(|record| [record.child, record.vcpu]);
    let vcpus: BTreeSet<[u32; 2]> = vcpus.filter(|[child, _]| *child != 0).collect();
    let named = vcpus.into_iter().flat_map(|at @ [child, vcpu]| {
        let process = name("process_name", at, format!("VM {child}"));
        [process, name("thread_name", at, format!("vCPU {vcpu}"))]
    });
    named.collect()
}

fn event(record: &Record<'_>, cpu: &Cpu<'_>, origin: u64) -> Value {
    let [first, second] = record.payload.map(|word| format!("{word:#x}"));
    let track = if record.child == 0 {
        record.cpu
    } else {
        record.vcpu
    };
    json!({
        "ph": "X",
        "name": record.kind,
        "cat": "exit",
        "pid": record.child,
        "tid": track,
        "ts": microseconds(record.begin - origin, cpu.hz),
        "dur": microseconds(record.end.saturating_sub(record.begin), cpu.hz),
        "args": {
            "cpu": record.cpu,
            "number": record.number,
            "rip": format!("{:#x}", record.rip),
            "payload": [first, second],
            "outcome": record.outcome,
        },
    })
}

/// In whole nanoseconds: a double has no more digits for a day.
fn microseconds(ticks: u64, hz: u64) -> f64 {
    let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::from(hz.max(1));
    nanoseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(cpu: u32, [begin, end]: [u64; 2]) -> Record<'static> {
        Record {
            cpu,
            number: begin,
            begin,
            end,
            kind: "cpuid",
            outcome: "done",
            rip: 0xffff_ffff_8100_0000,
            payload: [0x4000_0000, 0],
            child: 0,
            vcpu: 0,
        }
    }

    /// At 2 MHz a tick is half a microsecond. What is written can be read
    /// again, as those tools will.
    fn events() -> Vec<Value> {
        let all = all_events().into_iter();
        all.filter(|event| event["ph"] == "X").collect()
    }

    fn all_events() -> Vec<Value> {
        let cpu = |records| Cpu {
            hz: 2_000_000,
            records,
            ..Cpu::default()
        };
        let first = vec![record(0, [1000, 1002]), record(0, [2000, 2000])];
        let of_child = Record {
            child: 7,
            vcpu: 2,
            ..record(1, [1010, 1012])
        };
        let second = vec![record(1, [1001, 1008]), of_child];
        let cpus = [(0, cpu(first)), (1, cpu(second))];
        let mut file = Vec::new();
        let trace = Trace {
            cpus: cpus.into_iter().collect(),
        };
        write(&trace, &mut file).unwrap();
        let value: Value = serde_json::from_slice(&file).unwrap();
        value["traceEvents"].as_array().unwrap().clone()
    }

    #[test]
    fn times_are_microseconds_since_the_first_exit_in_order_on_each_track() {
        let events = events();
        let on = |cpu: u64| {
            let is_there = move |event: &&Value| event["tid"] == cpu && event["pid"] == 0;
            events.iter().filter(is_there)
        };
        let times = |cpu| -> Vec<(f64, f64)> {
            let number = |event: &Value, key: &str| event[key].as_f64().unwrap();
            let events = on(cpu);
            events
                .map(|event| (number(event, "ts"), number(event, "dur")))
                .collect()
        };
        assert_eq!(times(0), [(0.0, 1.0), (500.0, 0.0)]);
        assert_eq!(times(1), [(0.5, 3.5)]);
    }

    #[test]
    fn an_event_says_what_the_record_says() {
        let event = &events()[0];
        assert_eq!(event["name"], "cpuid");
        assert_eq!(event["args"]["rip"], "0xffffffff81000000");
        assert_eq!(event["args"]["payload"], json!(["0x40000000", "0x0"]));
        assert_eq!(event["args"]["outcome"], "done");
    }

    #[test]
    fn a_childs_vcpu_is_a_track_of_its_own_with_a_name() {
        let all = all_events();
        let own: Vec<&Value> = all.iter().filter(|event| event["pid"] == 7).collect();
        assert!(own.iter().all(|event| event["tid"] == 2));
        let [exit, process, thread] = own[..] else {
            panic!("{own:?}");
        };
        assert_eq!(
            (&exit["ts"], &exit["args"]["cpu"]),
            (&5.0.into(), &1.into())
        );
        assert_eq!(process["args"]["name"], "VM 7");
        assert_eq!(thread["args"]["name"], "vCPU 2");
    }

    #[test]
    fn a_trace_without_records_is_a_file_too() {
        let mut file = Vec::new();
        write(&Trace::default(), &mut file).unwrap();
        let value: Value = serde_json::from_slice(&file).unwrap();
        assert_eq!(value["otherData"]["overwritten"], 0);
    }
}
