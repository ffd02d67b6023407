//! `underlayctl vm stat`: what a VM's exits cost.

use super::{VCPU, find};
use crate::arguments::Given;
use crate::commands::stat::{self, Pace, WATCH};
use crate::trouble::Trouble;
use abi::record::ExitsRecord;
use std::io::Write;
use underlay::Underlay;
use views::{Table, statistics};

/// What there is of a VM, or of the vCPU of it that the person wants.
struct Told {
    name: String,
    hz: u64,
    vcpus: Vec<(u32, Vec<ExitsRecord>)>,
}

pub fn run(given: &Given, name: &str, out: &mut dyn Write) -> Result<(), Trouble> {
    let pace = given.has(WATCH.name).then(|| Pace::of(given)).transpose()?;
    let wanted = given.number(VCPU.name)?;
    let underlay = given.underlay()?;
    let ask = || Told::ask(underlay, name, wanted);
    match pace {
        Some(pace) => pace.watch(out, ask, Told::text)?,
        None if given.has("json") => {
            let told = ask()?;
            writeln!(out, "{}", statistics::vm_json(&told.name, &told.tables()))?;
        }
        None => out.write_all(ask()?.text(None).as_bytes())?,
    }
    Ok(())
}

impl Told {
    fn ask(underlay: Underlay, name: &str, wanted: Option<u64>) -> Result<Self, Trouble> {
        let child = find(&underlay.children()?, name)?;
        let mut vcpus: Vec<u32> = (0..child.vcpus).collect();
        if let Some(wanted) = wanted {
            vcpus.retain(|vcpu| u64::from(*vcpu) == wanted);
            if vcpus.is_empty() {
                let count = child.vcpus;
                return Err(Trouble::other(format!(
                    "VM `{name}` has no vCPU {wanted}: there are {count}, counted from 0"
                )));
            }
        }
        let exits = vcpus
            .into_iter()
            .map(|vcpu| Ok((vcpu, underlay.vm_exits(child.number, vcpu.into())?)));
        Ok(Self {
            name: child.name.as_str().to_owned(),
            hz: underlay.info()?.ticks_per_second,
            vcpus: exits.collect::<Result<_, Trouble>>()?,
        })
    }

    fn tables(&self) -> Vec<Table<'_>> {
        let vcpus = self.vcpus.iter();
        vcpus
            .map(|(vcpu, exits)| stat::table(*vcpu, self.hz, exits))
            .collect()
    }

    fn text(&self, earlier: Option<(&Self, f64)>) -> String {
        let before = earlier.map(|(told, seconds)| (told.tables(), seconds));
        let before = before
            .as_ref()
            .map(|(tables, seconds)| (tables.as_slice(), *seconds));
        statistics::vm_text(&self.name, &self.tables(), before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::record::Text;

    fn told(counts: &[u64]) -> Told {
        let exits = |count| ExitsRecord {
            kind: Text::new("port"),
            count,
            total: 10 * count,
            most: 10,
            buckets: [0; 32],
        };
        Told {
            name: "linux".to_owned(),
            hz: 1_000_000,
            vcpus: (0..).zip(counts.iter().map(|n| vec![exits(*n)])).collect(),
        }
    }

    #[test]
    fn vcpus_are_shown_as_one_and_compared_with_what_they_were() {
        let text = told(&[5, 7]).text(Some((&told(&[4, 2]), 2.0)));
        let rows = text.lines().filter(|line| line.starts_with("port"));
        let rows: Vec<Vec<&str>> = rows.map(|row| row.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["port", "5", "7", "12"]);
        assert_eq!(rows[1][..4], ["port", "12", "3.0", "120"]);
    }
}
