//! The reference page.

use std::fmt::Write;

use abi::call::{
    ARGUMENTS, AS_PROGRAM, MAY_FAULT, RESULTS, SERVICES, Service, TRANSFER_MAX, Value,
};
use abi::errno::Errno;
use abi::record::{Element, Field, LAYOUTS, Layout};

/// The page.
pub fn text() -> String {
    let mut page = head();
    for service in SERVICES {
        describe(&mut page, service);
    }
    page += "## Records\n\nLittle-endian, without gaps, each field at a multiple of its size.\n";
    for layout in LAYOUTS {
        record(&mut page, layout);
    }
    page
}

fn head() -> String {
    let kib = TRANSFER_MAX / 1024;
    let mut page = format!(
        "<!-- Made by `cargo xtask generate` from abi/src/call/services.rs and abi/src/record.rs. -->

# Services

A call is the instruction VMCALL (Intel) or VMMCALL (AMD) with the service's
number in RAX and arguments in {}. Results come in {}; all other registers are
preserved. Outside 64-bit mode the low 32 bits count.

- An error is a negative Linux errno in RAX, see below. A call that failed has
  written nothing.
- `gva` is a linear address, used with the caller's own rights. Where it is not
  accessible a program gets the page fault of an ordinary access, and the call
  runs again afterwards; a kernel gets {} with the address in RBX, or the fault,
  too, if it adds {MAY_FAULT:#x} to the number.
- A kernel that calls in a program's name adds {AS_PROGRAM:#x} to the number:
  memory arguments are the program's, who may do what an owner may. What is for
  `kernel` is refused, for it would outlive the program.
- `gpa` is a guest-physical address. Where no memory is, the call ends with {}
  and the address in RBX.
- One call uses at most {kib} KiB of a buffer; of a longer one it uses the
  beginning, and says how much that was. Buffers that overlap end up with some
  mixture of both.
- A caller is `any`, `kernel` (privilege level 0) or `owner`: privilege level 0,
  or any level with the owner token in R8 and R9. `compat` is the owner, and any
  program if the config says `compat = bitvisor`. Who may not call gets {}.

| number | name | who | |
|---|---|---|---|
",
        ARGUMENTS.join(", "),
        RESULTS.join(", "),
        name(Errno::BadAddress),
        name(Errno::BadAddress),
        name(Errno::NotPermitted),
    );
    for Service {
        number,
        name,
        who,
        sentence,
        ..
    } in SERVICES
    {
        let who = who.name();
        let _ = writeln!(
            page,
            "| {number} | [`{name}`](#{name}) | {who} | {sentence} |"
        );
    }
    page += "\n| error | RAX | |\n|---|---|---|\n";
    for errno in Errno::all() {
        let value = errno.to_register() as i64;
        let _ = writeln!(page, "| {} | {value} | {errno} |", name(errno));
    }
    page + "\n"
}

/// The errno's name in C.
fn name(errno: Errno) -> String {
    format!("-{}", errno.name())
}

fn describe(page: &mut String, service: &Service) {
    let Service {
        number,
        name,
        who,
        sentence,
        ..
    } = service;
    let who = who.name();
    let _ = writeln!(
        page,
        "## {name}\n\nNumber {number}, for {who}: {sentence}.\n"
    );
    if !service.arguments.is_empty() {
        values(page, "argument", &ARGUMENTS, service.arguments);
    }
    values(page, "result", &RESULTS, service.results);
}

fn values(page: &mut String, what: &str, registers: &[&str], values: &[Value]) {
    let _ = writeln!(page, "| {what} | register | kind | |\n|---|---|---|---|");
    for (register, value) in registers.iter().zip(values) {
        let (kind, sentence) = (value.kind.name(), value.sentence);
        let _ = writeln!(
            page,
            "| {} | {register} | {kind} | {sentence} |",
            value.name
        );
    }
    page.push('\n');
}

fn record(page: &mut String, layout: &Layout) {
    let sentence = layout.sentence.trim();
    let _ = writeln!(page, "\n### underlay_{}\n\n{sentence}\n", layout.name);
    page.push_str("| offset | bytes | field | |\n|---|---|---|---|\n");
    let mut offset = 0;
    for field in layout.fields {
        let (size, name, sentence) = (field.size(), field.name, field.sentence);
        let of = made_of(field);
        let _ = writeln!(page, "| {offset} | {size} | {name} | {of}{sentence} |");
        offset += size;
    }
}

fn made_of(field: &Field) -> String {
    match (field.element, field.count) {
        (Element::Char, _) => "Text, filled up with NULs: ".to_owned(),
        (_, Some(count)) => format!("{count} numbers: "),
        (_, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_value_and_field_is_on_the_page() {
        let page = text();
        for service in SERVICES {
            assert!(page.contains(&format!("## {}\n", service.name)));
            for value in service.arguments.iter().chain(service.results) {
                assert!(page.contains(value.sentence), "{}", value.name);
            }
        }
        for field in LAYOUTS.iter().flat_map(|layout| layout.fields) {
            assert!(page.contains(field.sentence), "{}", field.name);
        }
    }
}
