//! The C header.

use std::fmt::Write;

use abi::call::{
    ARGUMENTS, AS_PROGRAM, MAY_FAULT, RESULTS, SERVICES, Service, TRANSFER_MAX, VERSION, Value,
};
use abi::record::{Element, Field, LAYOUTS, Layout};
use abi::{device, discovery, token};

/// What no table says.
const TEMPLATE: &str = include_str!("header.h");

/// The header.
pub fn text() -> String {
    let numbers: String = SERVICES.iter().map(number).collect();
    let records: String = LAYOUTS.iter().map(record).collect();
    let [ebx, ecx, edx] = discovery::signature_registers();
    let table = String::from_utf8_lossy(&token::SIGNATURE);
    let values = [
        ("VERSION", VERSION.to_string()),
        ("MAY_FAULT", format!("{MAY_FAULT:#x}")),
        ("AS_PROGRAM", format!("{AS_PROGRAM:#x}")),
        ("DEVICE", device::PATH.to_owned()),
        ("DEVICE_CALL", format!("{:#x}", device::CALL)),
        ("DEVICE_CALL_SIZE", device::CALL_SIZE.to_string()),
        ("TOKEN_PATH", token::LINUX_PATH.to_owned()),
        ("TOKEN_TABLE_SIZE", token::TABLE_SIZE.to_string()),
        ("TOKEN_AT", (token::TABLE_SIZE - 16).to_string()),
        ("TOKEN_TABLE", table.into_owned()),
        ("TRANSFER_MAX", TRANSFER_MAX.to_string()),
        (
            "LEAF_SIGNATURE",
            format!("{:#x}", discovery::LEAF_SIGNATURE),
        ),
        ("LEAF_FEATURES", format!("{:#x}", discovery::LEAF_FEATURES)),
        ("SIGNATURE_EBX", format!("{ebx:#x}")),
        ("SIGNATURE_ECX", format!("{ecx:#x}")),
        ("SIGNATURE_EDX", format!("{edx:#x}")),
        ("FEATURE_VMCALL", discovery::FEATURE_VMCALL.to_string()),
        ("FEATURE_VMMCALL", discovery::FEATURE_VMMCALL.to_string()),
        ("SERVICES", numbers),
        ("RECORDS", records),
    ];
    values
        .iter()
        .fold(TEMPLATE.to_owned(), |text, (name, value)| {
            text.replace(&format!("@{name}@"), value.trim_end())
        })
}

fn number(service: &Service) -> String {
    let Service {
        number,
        name,
        who,
        sentence,
        ..
    } = service;
    let mut text = format!("/*\n * {name}, for {}: {sentence}.\n", who.name());
    values(&mut text, "takes", &ARGUMENTS, service.arguments);
    values(&mut text, "returns", &RESULTS, service.results);
    let constant = name.to_uppercase();
    text + &format!(" */\n#define UNDERLAY_{constant} {number}\n\n")
}

fn values(text: &mut String, verb: &str, registers: &[&str], values: &[Value]) {
    for (register, value) in registers.iter().zip(values) {
        let (name, sentence) = (value.name, value.sentence);
        let _ = writeln!(text, " *   {verb} {register} {name}: {sentence}");
    }
}

fn record(layout: &Layout) -> String {
    let Layout {
        name,
        sentence,
        fields,
    } = layout;
    let mut text = format!("/* {} */\nstruct underlay_{name} {{\n", sentence.trim());
    for field in *fields {
        let _ = writeln!(
            text,
            "\t/* {}. */\n\t{};",
            field.sentence,
            declaration(field)
        );
    }
    let size: usize = fields.iter().map(Field::size).sum();
    text + &format!("}};\nUNDERLAY_SIZE(underlay_{name}, {size});\n\n")
}

fn declaration(field: &Field) -> String {
    let kind = match field.element {
        Element::U32 => "uint32_t",
        Element::U64 => "uint64_t",
        Element::Char => "char",
    };
    match field.count {
        Some(count) => format!("{kind} {}[{count}]", field.name),
        None => format!("{kind} {}", field.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_template_is_left_to_fill_in() {
        let text = text();
        assert!(!text.contains('@'), "{text}");
        for service in SERVICES {
            let line = format!(
                "#define UNDERLAY_{} {}\n",
                service.name.to_uppercase(),
                service.number
            );
            assert!(text.contains(&line), "{line}");
        }
    }
}
