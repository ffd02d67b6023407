//! A mixed load for a Linux guest: `mixed-load SECONDS` computes, faults,
//! forks, talks through pipes and sockets, sleeps, gets signals and writes
//! files, all at once, each in a process of its own. It fails if any result is
//! wrong or if time was lost.

mod clock;
mod memory;
mod work;

use std::env;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

/// Why a load failed, as a sentence.
type Failed = String;

/// One round of a kind of work.
type Work = fn() -> Result<(), Failed>;

/// Every kind of work by its name.
const WORKS: [(&str, Work); 9] = [
    ("compute", work::compute),
    ("touch-memory", memory::touch),
    ("protect-memory", memory::protect),
    ("fork", memory::fork),
    ("run-programs", work::run_programs),
    ("pipes-and-sockets", work::pipes_and_sockets),
    ("threads", work::threads),
    ("timers-and-signals", clock::timers_and_signals),
    ("files", work::files),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [seconds] => parse(seconds).and_then(all),
        [seconds, name] => parse(seconds).and_then(|time| one(time, name)),
        _ => Err("usage: mixed-load SECONDS".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("mixed-load: {why}");
            ExitCode::FAILURE
        }
    }
}

fn parse(seconds: &str) -> Result<Duration, Failed> {
    let number = seconds.parse();
    let number = number.map_err(|_| format!("`{seconds}` is not a number of seconds"));
    number.map(Duration::from_secs)
}

/// Everything at once, for `time`.
fn all(time: Duration) -> Result<(), Failed> {
    let clocks = clock::Clocks::read()?;
    let workers: Result<Vec<Child>, Failed> = WORKS.iter().map(|w| start(time, w.0)).collect();
    let mut failed = Vec::new();
    for (mut worker, (name, _)) in workers?.into_iter().zip(WORKS) {
        let status = worker.wait().map_err(|error| error.to_string())?;
        if !status.success() {
            failed.push(format!("{name}: {status}"));
        }
    }
    if !failed.is_empty() {
        return Err(failed.join(", "));
    }
    println!("{}", clocks.compare()?);
    Ok(())
}

fn start(time: Duration, name: &str) -> Result<Child, Failed> {
    let mut command = Command::new("/proc/self/exe");
    command.args([&time.as_secs().to_string(), name]);
    command.spawn().map_err(|error| format!("{name}: {error}"))
}

/// One kind of work, for `time`.
fn one(time: Duration, name: &str) -> Result<(), Failed> {
    let work = WORKS.iter().find(|work| work.0 == name);
    let (_, work) = work.ok_or_else(|| format!("no work is called `{name}`"))?;
    let start = Instant::now();
    let mut rounds = 0_u64;
    while start.elapsed() < time {
        work().map_err(|why| format!("{name}, round {rounds}: {why}"))?;
        rounds += 1;
    }
    println!("{name}: {rounds} rounds");
    Ok(())
}

/// An error that says `why` unless `good`.
fn ensure(good: bool, why: impl FnOnce() -> Failed) -> Result<(), Failed> {
    if good { Ok(()) } else { Err(why()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_work_comes_out_right_again_and_again() {
        for (name, work) in WORKS {
            for _ in 0..3 {
                assert_eq!(work(), Ok(()), "{name}");
            }
        }
    }
}
