//! `underlayctl info`: how Underlay is reached, and what it offers.

use crate::Trouble;
use abi::call::{SERVICES, Service};
use serde_json::{Value, json};
use std::ffi::CString;
use underlay::{Underlay, discovery};

/// Everything that `info` shows.
struct Info {
    signature: String,
    abi_version: u32,
    instruction: &'static str,
    hypervisor_bit: bool,
    /// Each service that this program knows, and whether `resolve` finds it.
    services: Vec<(&'static Service, bool)>,
}

/// Asks, and renders for a person or for a program.
pub fn show(underlay: Underlay, json: bool) -> Result<String, Trouble> {
    let info = ask(underlay)?;
    Ok(if json { info.json() } else { info.text() })
}

fn ask(underlay: Underlay) -> Result<Info, Trouble> {
    let resolved = SERVICES.iter().map(|service| {
        let name = CString::new(service.name).unwrap_or_default();
        let number = underlay.resolve(&name);
        let number = number.map_err(|f| Trouble::Call("resolve", f))?;
        Ok((service, number == Some(service.number)))
    });
    Ok(Info {
        signature: discovery::signature_text(&discovery::signature()).to_string(),
        abi_version: underlay.ping().map_err(|f| Trouble::Call("ping", f))?,
        instruction: underlay.instruction().name(),
        hypervisor_bit: discovery::hypervisor_bit(),
        services: resolved.collect::<Result<_, Trouble>>()?,
    })
}

impl Info {
    fn text(&self) -> String {
        let set = if self.hypervisor_bit { "set" } else { "clear" };
        let mut text = format!(
            "signature       {}\nABI version     {}\ninstruction     {}\nhypervisor bit  {set}\n\nservices:\n",
            self.signature, self.abi_version, self.instruction,
        );
        for (service, found) in &self.services {
            let missing = if *found { "" } else { " (not here)" };
            text += &format!(
                "{:>4}  {:<10} {:<7} {}{missing}\n",
                service.number,
                service.name,
                service.who.name(),
                service.sentence
            );
        }
        text
    }

    fn json(&self) -> String {
        let services = self.services.iter().map(|(service, found)| {
            json!({
                "number": service.number,
                "name": service.name,
                "who": service.who.name(),
                "present": found,
                "sentence": service.sentence,
            })
        });
        let value = json!({
            "signature": self.signature,
            "abi_version": self.abi_version,
            "instruction": self.instruction,
            "hypervisor_bit": self.hypervisor_bit,
            "services": services.collect::<Value>(),
        });
        format!("{value:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> Info {
        Info {
            signature: "Underlay\"HV".to_string(),
            abi_version: 1,
            instruction: "vmcall",
            hypervisor_bit: false,
            services: SERVICES.iter().map(|s| (s, s.name != "hello")).collect(),
        }
    }

    #[test]
    fn a_service_that_is_not_found_is_marked() {
        let text = info().text();
        let marked: Vec<_> = text.lines().filter(|l| l.contains("not here")).collect();
        assert_eq!(marked.len(), 1);
        assert!(marked[0].contains("hello"), "{text}");
        assert!(text.contains("hypervisor bit  clear"), "{text}");
    }

    #[test]
    fn json_is_json() {
        let value: Value = serde_json::from_str(&info().json()).unwrap();
        assert_eq!(value["signature"], "Underlay\"HV");
        assert_eq!(value["services"][1]["number"], 1);
        assert_eq!(value["services"][2]["present"], false);
    }
}
