//! Calls under pressure: `call-load CALLS FOLDER` has many processes call with
//! fresh, copy-on-write, swapped and file-backed buffers, whose files are in
//! FOLDER, while others fork, unmap and move pages. It fails if a byte is wrong,
//! if a call is lost, or if the machine was not under pressure.
//!
//! Wants to be root, and swap space.

mod arena;
mod calls;
mod disturb;
mod kernel;

use std::env;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use arena::Sources;
use call_load::owner::Owner;
use call_load::pattern::Random;
use call_load::processes::{Child, Shared, in_child, start};
use call_load::{Failed, ensure};
use calls::Caller;
use kernel::Counters;
use underlay::Underlay;

/// Processes that call.
const CALLERS: u64 = 6;
/// Calls that a process makes before another takes its place.
const GENERATION: u64 = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [calls, folder] => calls
            .parse()
            .map_err(|_| format!("`{calls}` is not a number of calls"))
            .and_then(|calls| load(calls, folder)),
        _ => Err("usage: call-load CALLS FOLDER".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("call-load: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Makes at least `wanted` calls.
fn load(wanted: u64, folder: &str) -> Result<(), Failed> {
    let underlay = Underlay::find().map_err(|absent| absent.to_string())?;
    let (owner, shared) = (Owner::new(underlay)?, Shared::new()?);
    let generations = wanted.div_ceil(CALLERS * GENERATION);
    let expected = generations * CALLERS * GENERATION;
    disturb::merge_pages()?;
    let (counters, before) = (Counters::read()?, owner.calls()?);
    let disturbers = disturb::DISTURBANCES.map(|work| disturber(&shared, work));
    let callers = (0..CALLERS).map(|number| caller(underlay, &shared, folder, number, generations));
    let callers: Vec<_> = callers.collect();
    let mut results: Vec<_> = callers.into_iter().map(wait).collect();
    shared.end();
    results.extend(disturbers.into_iter().map(wait));
    results.into_iter().collect::<Result<(), Failed>>()?;

    let calls = shared.calls();
    ensure(calls == expected, || {
        format!("{calls} calls returned of {expected}")
    })?;
    // The owner's own questions are among them.
    let seen = owner.calls()? - before - owner.questions();
    let again = seen.checked_sub(calls).ok_or("the hypervisor saw fewer")?;
    ensure(again >= calls / 4, || format!("only {again} calls faulted"))?;
    println!("{calls} calls, every byte right; {again} times one faulted and was made again");
    println!("{}", counters.since(calls)?);
    Ok(())
}

fn wait(child: Result<Child, Failed>) -> Result<(), Failed> {
    child?.wait()
}

fn disturber(shared: &Shared, work: disturb::Disturbance) -> Result<Child, Failed> {
    start(|| {
        let mut random = Random::new(u64::from(std::process::id()));
        while !shared.is_over() {
            work(&mut random)?;
        }
        Ok(())
    })
}

/// A process that forks one generation of a caller after another, and finds its
/// own memory unchanged after each.
fn caller(
    underlay: Underlay,
    shared: &Shared,
    folder: &str,
    number: u64,
    generations: u64,
) -> Result<Child, Failed> {
    start(|| {
        let mut caller = Caller {
            underlay,
            sources: Sources::new(&format!("{folder}/of-caller-{number}"), number + 1)?,
            random: Random::new(number),
        };
        for generation in 0..generations {
            caller.random = Random::new(number << 32 | generation);
            in_child(|| one_generation(&mut caller, shared))?;
            caller.sources.check_inherited()?;
            caller.sources.forget_file();
        }
        Ok(())
    })
}

/// Calls beside a thread that changes the same page tables.
fn one_generation(caller: &mut Caller, shared: &Shared) -> Result<(), Failed> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let remapping = scope.spawn(|| disturb::remap(&done));
        let result = calls(caller, shared);
        done.store(true, Ordering::Relaxed);
        let disturbed = remapping.join();
        result.and(disturbed.map_err(|_| "the other thread died".to_owned())?)
    })
}

/// As many as a generation makes, each of which is counted when it was right.
fn calls(caller: &mut Caller, shared: &Shared) -> Result<(), Failed> {
    let mut left = GENERATION;
    while left > 0 {
        let made = caller.calls(left)?;
        shared.count(made);
        left -= made;
    }
    Ok(())
}
