//! Which CPUs a command is about. Any CPU can ask for what is known of another.

use crate::arguments::Given;
use crate::commands::Choice;
use crate::trouble::Trouble;
use abi::record::CpuRecord;
use underlay::Underlay;

/// The option that names one.
pub const CPU: Choice = Choice {
    name: "cpu",
    short: None,
    value: Some("N"),
    about: "only this CPU, as `underlayctl cpus` numbers them [all]",
};

/// The Underlay beneath, and the CPU that `given` names, or all.
pub fn chosen(given: &Given) -> Result<(Underlay, Vec<CpuRecord>), Trouble> {
    let wanted = given.number(CPU.name)?;
    let underlay = given.underlay()?;
    let mut cpus = underlay.cpus()?;
    let count = cpus.len();
    if let Some(wanted) = wanted {
        cpus.retain(|cpu| u64::from(cpu.number) == wanted);
        if cpus.is_empty() {
            let what = format!("there is no CPU {wanted}: there are {count}, counted from 0");
            return Err(Trouble::other(what));
        }
    }
    Ok((underlay, cpus))
}
