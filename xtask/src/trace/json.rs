//! A trace as a file for Perfetto and chrome://tracing: "Trace Event Format",
//! one complete event for each exit, on one track for each CPU.

use abi::report::Record;
use serde_json::{Value, json};

use super::log::{Cpu, Trace};

/// The file's content. Times count from the first exit of any CPU.
pub fn convert(trace: &Trace<'_>) -> Value {
    let begins = trace.cpus.values().flat_map(|cpu| &cpu.records);
    let origin = begins.map(|record| record.begin).min().unwrap_or(0);
    let mut events = vec![name("process_name", 0, "Underlay".to_owned())];
    for (number, cpu) in &trace.cpus {
        events.push(name("thread_name", *number, format!("CPU {number}")));
        events.extend(cpu.records.iter().map(|record| event(record, cpu, origin)));
    }
    json!({
        "displayTimeUnit": "ns",
        "traceEvents": events,
        "otherData": {
            "overwritten": trace.cpus.values().map(|cpu| cpu.overwritten).sum::<u64>(),
            "damaged": trace.cpus.values().map(|cpu| cpu.damaged).sum::<u64>(),
        },
    })
}

fn name(what: &str, cpu: u32, name: String) -> Value {
    json!({ "ph": "M", "name": what, "pid": 0, "tid": cpu, "args": { "name": name } })
}

fn event(record: &Record<'_>, cpu: &Cpu<'_>, origin: u64) -> Value {
    let [first, second] = record.payload.map(|word| format!("{word:#x}"));
    json!({
        "ph": "X",
        "name": record.kind,
        "cat": "exit",
        "pid": 0,
        "tid": record.cpu,
        "ts": microseconds(record.begin - origin, cpu.hz),
        "dur": microseconds(record.end.saturating_sub(record.begin), cpu.hz),
        "args": {
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
    use crate::trace::log;

    /// At 2 MHz a tick is half a microsecond.
    const LOG: &str = "\
record: 0 0 3e8 3ea cpuid done ffffffff81000000 40000000 0 .
record: 1 0 3e9 3f0 rdmsr fault 1000 10 0 .
record: 0 1 7d0 7d0 cpuid done 1002 1 0 .
trace: 0 2000000 2 0 .
trace: 1 2000000 1 0 .
";

    /// What is written can be read again, as those tools will.
    fn events() -> Vec<Value> {
        let text = convert(&log::read(LOG)).to_string();
        let value: Value = serde_json::from_str(&text).unwrap();
        let all = value["traceEvents"].as_array().unwrap().clone();
        all.into_iter().filter(|event| event["ph"] == "X").collect()
    }

    #[test]
    fn times_are_microseconds_since_the_first_exit_in_order_on_each_track() {
        let events = events();
        let on = |cpu: u64| events.iter().filter(move |event| event["tid"] == cpu);
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
}
