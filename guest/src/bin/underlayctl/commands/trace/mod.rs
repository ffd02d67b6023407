//! `underlayctl trace`: every exit, one by one.

mod recorder;

use super::{Choice, Command, Use};
use crate::arguments::Given;
use crate::cpus::{self, CPU};
use crate::interrupts;
use crate::trouble::Trouble;
use abi::record::CpuRecord;
use recorder::Recorder;
pub(super) use recorder::Wanted;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};
use underlay::Underlay;
use views::trace::{json, list, summary};

pub const COMMAND: Command = Command {
    name: "trace",
    uses: &[
        Use {
            takes: "[--last N]",
            does: "show the newest recorded exits of all CPUs (owner)",
        },
        Use {
            takes: "record FILE [--seconds N | -- COMMAND...]",
            does: "write recorded exits to a file for Perfetto (owner)",
        },
        Use {
            takes: "start|stop",
            does: "start or stop recording (owner)",
        },
        Use {
            takes: "write",
            does: "make it write them to the port of its log (owner)",
        },
    ],
    options: &[CPU, LAST, SECONDS],
    more: "\
The hypervisor records its exits if underlay.conf says `trace = on` (or how much
memory they may take), those of each CPU for itself. Alone it shows the newest
of all CPUs in the order of their times. `record` writes what is there, or what
happens within some seconds or while a command runs, to a file for
ui.perfetto.dev or chrome://tracing, and shows which exits took the most time.
Exits of VMs that programs run are among them, marked with the VM's number and
its vCPU; `underlayctl vm trace` shows those of one alone.

Examples:
  underlayctl trace --last 100
  underlayctl trace --cpu 1
  underlayctl trace record boot.json
  underlayctl trace record ten.json --seconds 10
  underlayctl trace record copy.json -- dd if=/dev/zero of=/tmp/file count=9
",
    run,
};

pub(super) const LAST: Choice = Choice {
    name: "last",
    short: None,
    value: Some("N"),
    about: "how many of them to show [16]",
};

pub(super) const SECONDS: Choice = Choice {
    name: "seconds",
    short: None,
    value: Some("N"),
    about: "record from now on, for so long or until Ctrl-C",
};

/// Exits that are shown if nobody says how many.
const NEWEST: u64 = 16;

/// How often a recording looks for new records.
const PAUSE: Duration = Duration::from_millis(50);

/// Calls in a row that may bring nothing: each waits for the log's port a
/// little.
const ATTEMPTS: u32 = 100;

fn run(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    match given.words().as_slice() {
        [word @ ("start" | "stop" | "write")] => {
            alone(given)?;
            match *word {
                "write" => write(given),
                word => switch(given, word == "start"),
            }
        }
        words => look(given, words, Wanted::All, out),
    }
}

/// Refuses options of other words.
fn alone(given: &Given) -> Result<(), Trouble> {
    if given.has(SECONDS.name) {
        return Err(Trouble::usage("--seconds belongs to `trace record`"));
    }
    match given.has(LAST.name) {
        true => Err(Trouble::usage("--last belongs to `trace` alone")),
        false => Ok(()),
    }
}

/// Shows or records what is wanted, as the words behind the command say.
pub(super) fn look(
    given: &Given,
    words: &[&str],
    wanted: Wanted,
    out: &mut dyn Write,
) -> Result<(), Trouble> {
    match words {
        ["record", path, command @ ..] => record(given, wanted, (path, command), out),
        [] if given.has(SECONDS.name) => alone(given),
        [] => show(given, wanted, out),
        _ => Err(Trouble::usage(
            "`trace` takes nothing, or one of `record FILE`, start, stop, write",
        )),
    }
}

/// Shows the newest exits.
fn show(given: &Given, wanted: Wanted, out: &mut dyn Write) -> Result<(), Trouble> {
    let last = given.number(LAST.name)?.unwrap_or(NEWEST);
    let (underlay, cpus) = cpus::chosen(given)?;
    let mut recorder = Recorder::new(underlay, &cpus, wanted);
    recorder.catch_up()?;
    let trace = recorder.trace(underlay.info()?.ticks_per_second);
    let last = usize::try_from(last).unwrap_or(usize::MAX);
    out.write_all(list::text(&trace, last).as_bytes())?;
    Ok(())
}

/// Starts or stops it.
fn switch(given: &Given, on: bool) -> Result<(), Trouble> {
    let (underlay, cpus) = cpus::chosen(given)?;
    switch_on(underlay, &cpus, on).map(drop)
}

/// The same on these CPUs. Returns where it ran.
fn switch_on(underlay: Underlay, cpus: &[CpuRecord], on: bool) -> Result<Vec<bool>, Trouble> {
    let switched = cpus.iter().map(|cpu| underlay.trace_switch(on, cpu.number));
    Ok(switched.collect::<Result<_, _>>()?)
}

/// What a recording waits for.
enum End {
    At(Instant),
    Of(Child),
}

/// Writes to the file what there is, or what comes as long as the command runs.
fn record(
    given: &Given,
    wanted: Wanted,
    (path, command): (&str, &[&str]),
    out: &mut dyn Write,
) -> Result<(), Trouble> {
    let seconds = given.seconds(SECONDS.name)?;
    if seconds.is_some() && !command.is_empty() {
        return Err(Trouble::usage("--seconds or a command, not both"));
    }
    let (underlay, cpus) = cpus::chosen(given)?;
    let mut recorder = Recorder::new(underlay, &cpus, wanted);
    recorder.catch_up()?;
    let file = File::create(path).map_err(|error| Trouble::file(path, &error))?;
    if seconds.is_some() || !command.is_empty() {
        recorder.forget();
        let ran = switch_on(underlay, &cpus, true)?;
        let done = start(seconds, command).and_then(|end| during(&mut recorder, end));
        for (cpu, ran) in cpus.iter().zip(ran) {
            underlay.trace_switch(ran, cpu.number)?;
        }
        done?;
    }
    let trace = recorder.trace(underlay.info()?.ticks_per_second);
    json::write(&trace, BufWriter::new(file)).map_err(|error| Trouble::file(path, &error))?;
    let text = match wanted {
        Wanted::All => summary::text(&trace),
        Wanted::Vm(..) => summary::children_text(&trace),
    };
    out.write_all(text.as_bytes())?;
    writeln!(
        out,
        "\n{path}: open it in ui.perfetto.dev or chrome://tracing."
    )?;
    Ok(())
}

fn start(seconds: Option<Duration>, command: &[&str]) -> Result<End, Trouble> {
    interrupts::note_them();
    let [program, arguments @ ..] = command else {
        return Ok(End::At(Instant::now() + seconds.unwrap_or_default()));
    };
    let child = std::process::Command::new(program).args(arguments).spawn();
    child
        .map(End::Of)
        .map_err(|error| Trouble::file(program, &error))
}

/// Collects until the end, and what came up to it.
fn during(recorder: &mut Recorder, mut end: End) -> Result<(), Trouble> {
    loop {
        let status = match &mut end {
            End::At(at) => (Instant::now() >= *at || interrupts::happened()).then_some(None),
            End::Of(child) => child.try_wait()?.map(Some),
        };
        recorder.catch_up()?;
        match status {
            Some(Some(status)) if !status.success() => {
                eprintln!("underlayctl: the command ended with {status}");
                return Ok(());
            }
            Some(_) => return Ok(()),
            None => thread::sleep(PAUSE),
        }
    }
}

/// Has the records of each CPU written.
fn write(given: &Given) -> Result<(), Trouble> {
    let (underlay, cpus) = cpus::chosen(given)?;
    cpus.iter()
        .try_for_each(|cpu| write_one(underlay, cpu.number))
}

/// Writes what is there, in as many calls as it takes. The calls may be traced
/// themselves, but each adds less than it writes.
fn write_one(underlay: Underlay, cpu: u32) -> Result<(), Trouble> {
    let (mut left, mut in_vain) = (u64::MAX, 0);
    while left > 0 {
        let now = underlay.trace_write(cpu)?;
        in_vain = if now < left { 0 } else { in_vain + 1 };
        if in_vain == ATTEMPTS {
            return Err(Trouble::other(format!(
                "trace: the log's port takes no more (`log` in underlay.conf); {now} records are left"
            )));
        }
        left = now;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::tests::given;

    #[test]
    fn wrong_words_are_known_before_anything_is_called() {
        for line in [
            "trace of",
            "trace --last many",
            "trace --cpu one",
            "trace start --last 3",
            "trace --seconds 3",
            "trace start now",
            "trace stop --seconds 3",
            "trace record file --seconds 3 -- true",
            "trace record file --seconds -3",
        ] {
            let wrong = given(line).map(|(_, given)| run(&given, &mut Vec::new()));
            assert!(
                matches!(wrong, Err(_) | Ok(Err(Trouble::Usage(..)))),
                "{line}"
            );
        }
    }

    #[test]
    fn what_stands_behind_two_dashes_is_the_commands() {
        let (_, given) = given("trace record file -- ls -l --json").unwrap();
        assert_eq!(given.words()[2..], ["ls", "-l", "--json"]);
    }
}
