//! Boot after boot of a machine with several CPUs, each with another timing: a
//! boot that hangs now and then shows itself only so.
//!
//! Every boot is drawn from a seed of its own, one more each time, so that the
//! one that failed is the first of a run that is given its seed.

use anyhow::{Context, Result};
use fastrand::Rng;

use crate::machine::{GO_ON, Machine};
use crate::test::case::{Bench, Variant, boot_of, judge};
use crate::test::table::Row;

/// Parameters of Linux that change when and how it starts its other CPUs, or
/// when they are quiet. Those that `maxcpus` leaves out are brought up by the
/// row's command. The row itself has Linux leave out its check of the timer, which
/// on a busy computer fails for QEMU's own reasons.
const PARAMETERS: [&[&str]; 5] = [
    &["", "", "maxcpus=1", "maxcpus=2", "maxcpus=3"],
    &[
        "",
        "cpu_init_udelay=0",
        "cpu_init_udelay=1",
        "cpu_init_udelay=10000",
    ],
    &["", "no_ipi_broadcast=1"],
    &["", "idle=nomwait", "idle=halt"],
    &["", "clocksource=acpi_pm", "nohz=off"],
];

/// Each CPU on a thread of its own, or all in turn; and a small store of
/// translated code, which all of them wait for when it is full. Not with a clock
/// that counts instructions: natively, too, QEMU then starts no second CPU.
const ACCELERATORS: [&str; 4] = [
    "tcg,thread=multi",
    "tcg,thread=single",
    "tcg,thread=multi,tb-size=32",
    "tcg,thread=single,tb-size=32",
];

/// What one boot differs in from the row.
struct Draw {
    append: String,
    emulator: Vec<String>,
}

impl Draw {
    fn new(seed: u64, machine: Machine) -> Self {
        let mut random = Rng::with_seed(seed);
        let words = PARAMETERS.map(|choices| one_of(&mut random, choices));
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        Self {
            append: words.join(" "),
            emulator: timing(&mut random, machine),
        }
    }
}

fn one_of<'a>(random: &mut Rng, choices: &[&'a str]) -> &'a str {
    choices[random.usize(..choices.len())]
}

/// What makes the emulator run its CPUs differently.
fn timing(random: &mut Rng, machine: Machine) -> Vec<String> {
    if machine == Machine::Vtx {
        return vec![format!("cpu: quantum={}", random.u32(1..=32))];
    }
    let seed = random.u32(..).to_string();
    let accelerator = one_of(random, &ACCELERATORS);
    ["-seed", &seed, "-accel", accelerator]
        .map(str::to_owned)
        .to_vec()
}

/// Boots as often as the row says.
pub fn run(bench: &Bench, row: &Row, machine: Machine) -> Result<()> {
    let count = u64::from(row.boots(machine, bench.long));
    for number in 0..count {
        let seed = bench.seed.wrapping_add(number);
        let draw = Draw::new(seed, machine);
        let what = format!(
            "boot {} of {count}, --seed {seed}: {} {}",
            number + 1,
            draw.append,
            draw.emulator.join(" ")
        );
        if bench.long {
            eprintln!("{} {}, {what}", machine.name(), row.name);
        }
        boot(bench, row, machine, draw).context(what)?;
    }
    Ok(())
}

fn boot(bench: &Bench, row: &Row, machine: Machine, draw: Draw) -> Result<()> {
    let mut row = row.clone();
    row.append = format!("{} {}", row.append, draw.append);
    row.emulator
        .entry(machine)
        .or_default()
        .extend(draw.emulator);
    let variant = Variant {
        debugger: GO_ON,
        name: "boot",
        native: row.native,
        boot: boot_of(&row),
    };
    judge(&row, machine, &bench.boot(&row, machine, variant)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_boot() {
        let drawn = |seed| {
            let draw = Draw::new(seed, Machine::Svm);
            (draw.append, draw.emulator)
        };
        assert_eq!(drawn(7), drawn(7));
        assert!((0..20).any(|seed| drawn(seed).0 != drawn(7).0));
    }
}
