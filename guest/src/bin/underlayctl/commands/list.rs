//! `underlayctl list`: the services that the hypervisor has.

use super::{Command, JSON, Use};
use crate::arguments::Given;
use crate::trouble::Trouble;
use abi::call::{SERVICES, Who};
use abi::record::ServiceRecord;
use serde_json::{Value, json};
use std::io::Write;

pub const COMMAND: Command = Command {
    name: "list",
    uses: &[Use {
        takes: "[--json]",
        does: "show the services that it has",
    }],
    options: &[JSON],
    more: "\
docs/SERVICES.md has their arguments and results; `underlayctl call NAME` calls
one of them.
",
    run,
};

fn run(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    given.no_words()?;
    let services = given.underlay()?.services()?;
    match given.has("json") {
        true => writeln!(out, "{:#}", json(&services))?,
        false => out.write_all(text(&services).as_bytes())?,
    }
    Ok(())
}

fn text(services: &[ServiceRecord]) -> String {
    let rows = services.iter().map(|service| {
        format!(
            "{:>4}  {:<23}{:<8}{}\n",
            service.number,
            service.name.as_str(),
            who(service),
            service.sentence.as_str()
        )
    });
    rows.chain(missing(services)).collect()
}

/// Services that this program knows and the hypervisor does not have.
fn missing(services: &[ServiceRecord]) -> impl Iterator<Item = String> {
    let names = |service: &ServiceRecord| service.name.as_str().to_owned();
    let there: Vec<String> = services.iter().map(names).collect();
    let known = SERVICES.iter();
    let missing = known.filter(move |known| !there.iter().any(|name| name == known.name));
    missing.map(|known| format!("{:>4}  {:<23}not here\n", known.number, known.name))
}

fn who(service: &ServiceRecord) -> &'static str {
    let known = [Who::Any, Who::Kernel, Who::Owner, Who::Compat];
    let found = known.into_iter().find(|who| *who as u32 == service.who);
    found.map_or("?", Who::name)
}

fn json(services: &[ServiceRecord]) -> Value {
    let rows = services.iter().map(|service| {
        json!({
            "number": service.number,
            "name": service.name.as_str(),
            "who": who(service),
            "arguments": service.arguments,
            "results": service.results,
            "sentence": service.sentence.as_str(),
        })
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<ServiceRecord> {
        SERVICES.iter().map(ServiceRecord::from).collect()
    }

    #[test]
    fn every_service_is_a_line_with_who_may_call_it() {
        let text = text(&records());
        for (line, service) in text.lines().zip(SERVICES) {
            let words: Vec<&str> = line.split_whitespace().take(3).collect();
            assert_eq!(words[1..], [service.name, service.who.name()]);
        }
        assert_eq!(text.lines().count(), SERVICES.len());
    }

    #[test]
    fn a_service_that_is_not_there_is_marked() {
        let mut records = records();
        records.remove(2);
        let text = text(&records);
        let marked: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("not here"))
            .collect();
        assert_eq!(marked.len(), 1);
        assert!(marked[0].contains("hello"), "{text}");
    }

    #[test]
    fn a_program_reads_the_same() {
        let value = json(&records());
        assert_eq!(
            (&value[1]["number"], &value[1]["name"]),
            (&1.into(), &"ping".into())
        );
        assert_eq!(value[9]["who"], "owner");
    }
}
