//! `underlayctl mem`: the guest's memory, as the hypervisor reaches it.

mod pagemap;
mod place;

use super::{Choice, Command, JSON, Use};
use crate::arguments::{Given, hex, number, size};
use crate::hexdump;
use crate::trouble::Trouble;
use abi::call::TRANSFER_MAX;
use place::Place;
use serde_json::json;
use std::io::Write;
use underlay::Underlay;

pub const COMMAND: Command = Command {
    name: "mem",
    uses: &[
        Use {
            takes: "read ADDRESS LENGTH [--raw]",
            does: "show physical memory, or a space's (owner)",
        },
        Use {
            takes: "write ADDRESS HEX...",
            does: "write bytes there (owner)",
        },
        Use {
            takes: "write ADDRESS --file FILE",
            does: "write a file's bytes there (owner)",
        },
        Use {
            takes: "translate ADDRESS [--json]",
            does: "show where an address of a space lies (owner)",
        },
    ],
    options: &[
        Choice {
            name: "pid",
            short: None,
            value: Some("PID"),
            about: "of this process, not physical memory",
        },
        Choice {
            name: "root",
            short: None,
            value: Some("CR3"),
            about: "of the address space whose tables begin there",
        },
        Choice {
            name: "raw",
            short: None,
            value: None,
            about: "the bytes themselves, not a dump",
        },
        Choice {
            name: "file",
            short: None,
            value: Some("FILE"),
            about: "whose bytes to write",
        },
        JSON,
    ],
    more: "\
ADDRESS is guest-physical unless --pid or --root says whose linear address it
is. LENGTH may end with K, M or G. What is no memory, or absent in the space, is
an error with its address; what comes before it is shown.

A process' pages are found in its /proc/PID/pagemap, so that no page is brought
in: what the process has not touched, or what was swapped out, is absent. A page
that others use as well is read but not written.

Examples:
  underlayctl mem read 0x100000 256
  underlayctl mem read 0 1M --raw >first-megabyte
  underlayctl mem translate 0x7ffc3f5d2000 --pid 123
  underlayctl mem write 0x7ffc3f5d2000 --pid 123 4869 21
",
    run,
};

fn run(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    let place = place(given)?;
    let words = given.words();
    match words.as_slice() {
        ["read", address, length] => {
            let (address, length) = range(number(address)?, size(length)?)?;
            read(
                given.underlay()?,
                &place,
                [address, length],
                given.has("raw"),
                out,
            )
        }
        ["write", address, bytes @ ..] => {
            let bytes = content(given, bytes)?;
            let (address, _) = range(number(address)?, bytes.len() as u64)?;
            write(given.underlay()?, &place, address, &bytes)
        }
        ["translate", address] => translate(given, &place, number(address)?, out),
        _ => Err(Trouble::usage(
            "`mem` takes `read ADDRESS LENGTH`, `write ADDRESS HEX`, `write ADDRESS --file FILE`, or `translate ADDRESS`",
        )),
    }
}

fn place(given: &Given) -> Result<Place, Trouble> {
    match (given.number("pid")?, given.number("root")?) {
        (None, None) => Ok(Place::Physical),
        (Some(pid), None) => Ok(Place::Process(pid)),
        (None, Some(root)) => Ok(Place::Space(root)),
        _ => Err(Trouble::usage("--pid or --root, not both")),
    }
}

/// What begins at `address` and does not go around the end of all addresses.
fn range(address: u64, length: u64) -> Result<(u64, u64), Trouble> {
    let last = address.checked_add(length.saturating_sub(1));
    let range = last.map(|_| (address, length));
    range.ok_or_else(|| Trouble::usage("that goes beyond the last address"))
}

fn content(given: &Given, words: &[&str]) -> Result<Vec<u8>, Trouble> {
    match (given.value("file"), words) {
        (Some(path), []) => std::fs::read(path).map_err(|error| Trouble::file(path, &error)),
        (None, [_, ..]) => hex(&words.concat()),
        _ => Err(Trouble::usage(
            "`mem write` needs either bytes in hexadecimal or --file",
        )),
    }
}

fn read(
    underlay: Underlay,
    place: &Place,
    [mut address, mut length]: [u64; 2],
    raw: bool,
    out: &mut dyn Write,
) -> Result<(), Trouble> {
    let mut buffer = vec![0; TRANSFER_MAX];
    while length > 0 {
        let part = buffer
            .len()
            .min(usize::try_from(length).unwrap_or(usize::MAX));
        let done = place.read(underlay, address, &mut buffer[..part])?;
        match raw {
            true => out.write_all(&buffer[..done])?,
            false => hexdump::write(out, address, &buffer[..done])?,
        }
        (address, length) = (address.wrapping_add(done as u64), length - done as u64);
    }
    Ok(())
}

fn write(underlay: Underlay, place: &Place, address: u64, bytes: &[u8]) -> Result<(), Trouble> {
    let mut written = 0;
    while written < bytes.len() {
        let at = address.wrapping_add(written as u64);
        written += place
            .write(underlay, at, &bytes[written..])
            .inspect_err(|_| {
                if written > 0 {
                    eprintln!("underlayctl: {written} bytes were written before this:");
                }
            })?;
    }
    Ok(())
}

fn translate(
    given: &Given,
    place: &Place,
    address: u64,
    out: &mut dyn Write,
) -> Result<(), Trouble> {
    if matches!(place, Place::Physical) {
        return Err(Trouble::usage("`mem translate` needs --pid or --root"));
    }
    let found = place.translate(given.underlay()?, address)?;
    let (physical, left) = (found.physical, found.left);
    match given.has("json") {
        true => writeln!(out, "{}", json!({ "physical": physical, "left": left }))?,
        false => writeln!(out, "{physical:#x}, {left} bytes to the end of its page")?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::tests::given;

    #[test]
    fn wrong_words_are_known_before_anything_is_called() {
        for line in [
            "mem",
            "mem read 0x1000",
            "mem read 0xffffffffffffffff 2",
            "mem read 0 1 --pid 1 --root 0x1000",
            "mem write 0x1000",
            "mem write 0x1000 00 --file name",
            "mem write 0x1000 123",
            "mem translate 0x1000",
        ] {
            let (_, given) = given(line).unwrap();
            let trouble = run(&given, &mut Vec::new());
            assert!(matches!(trouble, Err(Trouble::Usage(..))), "{line}");
        }
    }

    #[test]
    fn the_last_byte_of_all_can_be_named() {
        assert!(range(u64::MAX, 1).is_ok() && range(u64::MAX, 0).is_ok());
        assert!(range(u64::MAX, 2).is_err());
    }

    #[test]
    fn bytes_are_one_number_or_several() {
        let (_, given) = given("mem write 0 4869 21").unwrap();
        assert_eq!(content(&given, &["4869", "21"]).unwrap(), b"Hi!");
    }
}
