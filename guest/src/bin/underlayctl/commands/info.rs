//! `underlayctl info`: what is beneath, and how it is reached.

use super::{Command, JSON, Use};
use crate::arguments::Given;
use crate::trouble::Trouble;
use abi::record::{FEATURE_PRINT, FEATURE_TRACE};
use serde_json::json;
use std::io::Write;
use underlay::{Underlay, discovery};

pub const COMMAND: Command = Command {
    name: "info",
    uses: &[Use {
        takes: "[--json]",
        does: "show what is beneath, and how it is reached",
    }],
    options: &[JSON],
    more: "",
    run,
};

/// Everything that is shown.
struct Info {
    signature: String,
    way: String,
    hypervisor_bit: bool,
    record: abi::record::Info,
}

fn run(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    given.no_words()?;
    let info = ask(given.underlay()?)?;
    match given.has("json") {
        true => writeln!(out, "{}", info.json())?,
        false => out.write_all(info.text().as_bytes())?,
    }
    Ok(())
}

fn ask(underlay: Underlay) -> Result<Info, Trouble> {
    Ok(Info {
        signature: discovery::signature_text(&discovery::signature()).to_string(),
        way: underlay.way().to_string(),
        hypervisor_bit: discovery::hypervisor_bit(),
        record: underlay.info()?,
    })
}

impl Info {
    fn vendor(&self) -> &'static str {
        match self.record.vendor {
            1 => "Intel VT-x",
            2 => "AMD-V",
            _ => "unknown",
        }
    }

    fn offers(&self, feature: u32) -> bool {
        self.record.features & feature != 0
    }

    fn text(&self) -> String {
        let set = if self.hypervisor_bit { "set" } else { "clear" };
        let config = |offered, key| match offered {
            true => "on".to_owned(),
            false => format!("off (`{key} = on` in underlay.conf)"),
        };
        let rows = [
            ("version", self.record.version.as_str().to_owned()),
            ("ABI version", self.record.abi.to_string()),
            ("signature", self.signature.clone()),
            ("hypervisor bit", set.to_owned()),
            ("vendor", self.vendor().to_owned()),
            ("way down", self.way.clone()),
            ("CPUs", self.record.cpus.to_string()),
            (
                "memory",
                format!(
                    "{} KiB, {} in use",
                    self.record.memory >> 10,
                    self.record.used >> 10
                ),
            ),
            (
                "clock",
                format!("{} MHz", self.record.ticks_per_second / 1_000_000),
            ),
            ("printing", config(self.offers(FEATURE_PRINT), "print")),
            ("trace", config(self.offers(FEATURE_TRACE), "trace")),
        ];
        let lines = rows.map(|(name, value)| format!("{name:<16}{value}\n"));
        lines.concat()
    }

    fn json(&self) -> String {
        let value = json!({
            "version": self.record.version.as_str(),
            "abi_version": self.record.abi,
            "signature": self.signature,
            "hypervisor_bit": self.hypervisor_bit,
            "vendor": self.vendor(),
            "way": self.way,
            "cpus": self.record.cpus,
            "memory_bytes": self.record.memory,
            "memory_used_bytes": self.record.used,
            "ticks_per_second": self.record.ticks_per_second,
            "print": self.offers(FEATURE_PRINT),
            "trace": self.offers(FEATURE_TRACE),
        });
        format!("{value:#}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::record::Text;

    fn info() -> Info {
        Info {
            signature: "Underlay\"HV".to_string(),
            way: "vmcall".to_string(),
            hypervisor_bit: false,
            record: abi::record::Info {
                abi: 1,
                vendor: 2,
                features: FEATURE_TRACE,
                cpus: 3,
                memory: 2 << 20,
                used: 1 << 20,
                ticks_per_second: 2_500_000_000,
                version: Text::new("1.2.3"),
            },
        }
    }

    #[test]
    fn a_person_reads_units_and_what_is_off() {
        let text = info().text();
        let has = |name: &str, value: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.is_some_and(|line| line[16..].starts_with(value))
        };
        assert!(has("memory", "2048 KiB, 1024 in use") && has("clock", "2500 MHz"));
        assert!(has("vendor", "AMD-V") && has("hypervisor bit", "clear"));
        assert!(has("printing", "off (`print = on`") && has("trace", "on"));
    }

    #[test]
    fn json_is_json() {
        let value: serde_json::Value = serde_json::from_str(&info().json()).unwrap();
        assert_eq!(value["signature"], "Underlay\"HV");
        assert_eq!(value["memory_bytes"], 2 << 20);
        assert_eq!(
            (&value["print"], &value["trace"]),
            (&false.into(), &true.into())
        );
    }
}
