//! `underlayctl call`: any service by its name, with arguments as its row in
//! the table says.

use super::{Command, JSON, Use};
use crate::arguments::{Given, hex, number, size};
use crate::hexdump;
use crate::trouble::Trouble;
use abi::Errno;
use abi::call::{Kind, SERVICES, Service, TRANSFER_MAX, Value};
use serde_json::json;
use std::ffi::CString;
use std::io::Write;
use underlay::{Error, Failure, Reply, Underlay};

pub const COMMAND: Command = Command {
    name: "call",
    uses: &[Use {
        takes: "NAME [ARGUMENT]... [--json]",
        does: "call a service and show its results by name",
    }],
    options: &[JSON],
    more: "\
Arguments are those of docs/SERVICES.md in their order: numbers, or for a gva a
buffer:
  text=WORDS         this text and a NUL
  hex=00FF7E         these bytes
  numbers=1,0x1000   these numbers, 8 bytes each
  room=SIZE          so many zeros, shown after the call
The buffers are this program's, and as large as the longest that one call uses:
whatever the numbers say, nothing else of it is written.

Examples:
  underlayctl call resolve text=hello
  underlayctl call log_write 'text=here I am' 9
  underlayctl call memory_read_physical room=64 0x100000 64
",
    run,
};

/// An argument as it was given.
enum Argument {
    Number(u64),
    /// Its content, larger than what was asked for, of which `shown` bytes are
    /// shown afterwards.
    Buffer {
        bytes: Vec<u8>,
        shown: usize,
    },
}

fn run(given: &Given, out: &mut dyn Write) -> Result<(), Trouble> {
    let words = given.words();
    let [name, words @ ..] = words.as_slice() else {
        return Err(Trouble::usage("`call` needs the name of a service"));
    };
    let service = service(name)?;
    let mut arguments = arguments(service, words)?;
    let underlay = given.underlay()?;
    offered(underlay, service)?;
    let reply = call(underlay, service, &mut arguments);
    reply.result().map_err(|failure| Error {
        service,
        failure,
        address: reply.results[0],
    })?;
    match given.has("json") {
        true => writeln!(out, "{:#}", as_json(service, &reply, &arguments))?,
        false => show(service, &reply, &arguments, out)?,
    }
    Ok(())
}

/// The service with this name or number.
fn service(name: &str) -> Result<&'static Service, Trouble> {
    let by_number = number(name).ok();
    let mut services = SERVICES.iter();
    let found = services.find(|known| known.name == name || Some(known.number) == by_number);
    found.ok_or_else(|| {
        Trouble::other(format!(
            "this program knows no service `{name}`; `underlayctl list` shows those that are there, and `underlayctl raw` calls any number"
        ))
    })
}

fn offered(underlay: Underlay, service: &'static Service) -> Result<(), Trouble> {
    let name = CString::new(service.name).unwrap_or_default();
    match underlay.resolve(&name)? {
        Some(number) if number == service.number => Ok(()),
        _ => Err(Trouble::Call(Error {
            service,
            failure: Failure::Errno(Errno::NoService),
            address: 0,
        })),
    }
}

fn arguments(service: &Service, words: &[&str]) -> Result<Vec<Argument>, Trouble> {
    if words.len() != service.arguments.len() {
        let wanted = service.arguments.iter();
        let wanted: Vec<String> = wanted.map(describe).collect();
        return Err(Trouble::usage(format!(
            "`{}` takes {}{}{}",
            service.name,
            counted(wanted.len()),
            if wanted.is_empty() { "" } else { ": " },
            wanted.join(", ")
        )));
    }
    let pairs = service.arguments.iter().zip(words);
    pairs.map(|(value, word)| argument(value, word)).collect()
}

fn counted(arguments: usize) -> String {
    match arguments {
        0 => "no arguments".to_owned(),
        1 => "1 argument".to_owned(),
        more => format!("{more} arguments"),
    }
}

fn describe(value: &Value) -> String {
    format!("{} ({}: {})", value.name, value.kind.name(), value.sentence)
}

fn argument(value: &Value, word: &str) -> Result<Argument, Trouble> {
    match value.kind {
        Kind::Number | Kind::Gpa => number(word).map(Argument::Number),
        Kind::Bytes => size(word).map(Argument::Number),
        Kind::Gva => buffer(value, word),
    }
}

fn buffer(value: &Value, word: &str) -> Result<Argument, Trouble> {
    let (mut bytes, shown) = match word.split_once('=') {
        Some(("text", text)) => (text.as_bytes().to_vec(), 0),
        Some(("hex", digits)) => (hex(digits)?, 0),
        Some(("numbers", numbers)) => (words(numbers)?, 0),
        Some(("room", room)) => {
            let room = usize::try_from(size(room)?).unwrap_or(usize::MAX);
            (Vec::new(), room.min(TRANSFER_MAX))
        }
        _ => {
            return Err(Trouble::usage(format!(
                "{} is memory: not `{word}` but text=WORDS, hex=00FF, numbers=1,2 or room=SIZE",
                value.name
            )));
        }
    };
    // No call uses more, whatever its other arguments say.
    bytes.resize(bytes.len() + TRANSFER_MAX, 0);
    Ok(Argument::Buffer { bytes, shown })
}

fn words(numbers: &str) -> Result<Vec<u8>, Trouble> {
    let words: Result<Vec<u64>, _> = numbers.split(',').map(number).collect();
    Ok(words?.into_iter().flat_map(u64::to_le_bytes).collect())
}

fn call(underlay: Underlay, service: &Service, arguments: &mut [Argument]) -> Reply {
    let mut registers = [0; 5];
    for (register, argument) in registers.iter_mut().zip(arguments) {
        *register = match argument {
            Argument::Number(number) => *number,
            Argument::Buffer { bytes, .. } => bytes.as_mut_ptr() as u64,
        };
    }
    // SAFETY: each linear address is that of a buffer of ours with room for
    // the most that a call uses; what other memory the service changes, the
    // person named.
    unsafe { underlay.call(service.number, registers) }
}

/// The results by their names.
fn results<'a>(
    service: &'a Service,
    reply: &Reply,
) -> impl Iterator<Item = (&'a Value, u64)> + use<'a> {
    let [rbx, rcx, rdx, rsi, rdi] = reply.results;
    let registers = [reply.rax, rbx, rcx, rdx, rsi, rdi];
    service.results.iter().zip(registers)
}

/// The buffers that are shown, by their names.
fn shown<'a>(
    service: &'a Service,
    arguments: &'a [Argument],
) -> impl Iterator<Item = (&'a Value, &'a [u8])> {
    let pairs = service.arguments.iter().zip(arguments);
    pairs.filter_map(|(value, argument)| match argument {
        Argument::Buffer { bytes, shown } if *shown > 0 => Some((value, &bytes[..*shown])),
        _ => None,
    })
}

fn show(
    service: &Service,
    reply: &Reply,
    arguments: &[Argument],
    out: &mut dyn Write,
) -> Result<(), Trouble> {
    for (value, result) in results(service, reply) {
        match value.kind {
            Kind::Number | Kind::Bytes => writeln!(out, "{:<12}{result}", value.name)?,
            Kind::Gva | Kind::Gpa => writeln!(out, "{:<12}{result:#x}", value.name)?,
        }
    }
    for (value, bytes) in shown(service, arguments) {
        writeln!(out, "{}:", value.name)?;
        hexdump::write(out, 0, bytes)?;
    }
    Ok(())
}

fn as_json(service: &Service, reply: &Reply, arguments: &[Argument]) -> serde_json::Value {
    let results = results(service, reply);
    let results = results.map(|(value, result)| (value.name.to_owned(), result.into()));
    let buffers = shown(service, arguments).map(|(value, bytes)| {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        (value.name.to_owned(), digits.into())
    });
    json!({
        "service": service.name,
        "results": results.collect::<serde_json::Map<_, _>>(),
        "buffers": buffers.collect::<serde_json::Map<_, _>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str, words: &[&str]) -> Result<Vec<Argument>, String> {
        arguments(service(name).unwrap(), words).map_err(|trouble| format!("{trouble:?}"))
    }

    #[test]
    fn every_buffer_holds_the_most_that_a_call_uses() {
        let given = ["room=0", "numbers=1,0x1000", "64K", "0"];
        let arguments = parsed("memory_read_pages", &given).unwrap();
        for argument in &arguments[..2] {
            let Argument::Buffer { bytes, .. } = argument else {
                panic!("a gva is a buffer");
            };
            assert!(bytes.len() >= TRANSFER_MAX);
        }
        let Argument::Buffer { bytes, .. } = &arguments[1] else {
            panic!("a gva is a buffer");
        };
        assert_eq!(
            bytes[..17],
            [1, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0]
        );
        assert!(matches!(arguments[2], Argument::Number(65536)));
    }

    #[test]
    fn counts_and_kinds_are_those_of_the_table() {
        let error = |name, words: &[&str]| parsed(name, words).err().unwrap();
        assert!(error("hello", &["1"]).contains("takes no arguments"));
        let missing = error("log_write", &["text=x"]);
        assert!(missing.contains("bytes (bytes: its length"), "{missing}");
        assert!(error("log_write", &["0x1000", "1"]).contains("text is memory"));
        assert!(error("print", &["text=x"]).contains("not a number"));
        assert!(service("nonsense").is_err());
        assert_eq!(service("0x2").unwrap().name, "hello");
    }

    #[test]
    fn results_have_their_names_and_rooms_are_shown() {
        let service = service("memory_translate").unwrap();
        let reply = Reply {
            rax: 0x1000,
            results: [24, 0, 0, 0, 0],
        };
        let room = [Argument::Buffer {
            bytes: vec![0xab; 8],
            shown: 2,
        }];
        let mut out = Vec::new();
        show(service, &reply, &room, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("physical    0x1000\nleft        24\naddress:\n"),
            "{text}"
        );
        let value = as_json(service, &reply, &room);
        assert_eq!(value["results"]["left"], 24);
        assert_eq!(value["buffers"]["address"], "abab");
    }
}
