//! Every service, in one table: the constants, the reference page, the C header
//! and what `list` shows all come from it.

use super::{Kind, Service, Value, Who};

/// `NUMBER NAME "name" Who "what it does" (arguments) -> (results)`, each with
/// its kind and its sentence.
macro_rules! services {
    ($($number:literal $constant:ident $name:literal $who:ident $sentence:literal
        ($($argument:ident: $takes:ident $means:literal),*) ->
        ($($result:ident: $gives:ident $says:literal),*);)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $sentence, ".")]
            pub const $constant: u64 = $number;
        )*

        /// Every service of this version, in the order of their numbers.
        pub const SERVICES: &[Service] = &[$(Service {
            number: $constant,
            name: $name,
            who: Who::$who,
            sentence: $sentence,
            arguments: &[$(Value {
                name: stringify!($argument),
                kind: Kind::$takes,
                sentence: $means,
            }),*],
            results: &[$(Value {
                name: stringify!($result),
                kind: Kind::$gives,
                sentence: $says,
            }),*],
        }),*];
    };
}

services! {
    0 RESOLVE "resolve" Any
        "gives the number of a service by its name"
        (name: Gva "the name, at most 255 bytes and a NUL") ->
        (number: Number "its number, or 0 if there is no such service");
    1 PING "ping" Any
        "returns the version of the call interface"
        () ->
        (version: Number "the version");
    2 HELLO "hello" Any
        "writes a logo and a greeting to the log and counts the greetings"
        () ->
        (greetings: Number "greetings so far");
    3 PRINT "print" Any
        "prints a byte to the log, which shows whole lines, if the config says print = on"
        (byte: Number "the byte") ->
        (zero: Number "0");
    4 STATISTICS "statistics" Any
        "writes to the log what this CPU's exits cost"
        () ->
        (zero: Number "0");
    5 TRACE "trace" Any
        "switches the trace of this CPU's exits that the config asks for, or writes it to the log's port"
        (command: Number "0 stops it, 1 starts it, 2 writes some of its records") ->
        (left: Number "records that are still to be written");
    6 INFO "info" Any
        "tells what there is beneath"
        (buffer: Gva "where an `underlay_info` is written", bytes: Bytes "the room there") ->
        (size: Bytes "the size of the whole record, of which as much was written as there was room");
    7 LIST "list" Any
        "tells which services there are"
        (buffer: Gva "where records `underlay_service` are written",
         bytes: Bytes "the room there",
         first: Number "the first service to tell of, counted from 0") ->
        (written: Number "how many records were written", all: Number "how many services there are");
}

#[cfg(test)]
mod tests {
    use super::super::{ARGUMENTS, NAME_MAX, RESULTS};
    use super::*;

    #[test]
    fn service_numbers_are_their_rows_and_names_are_unique() {
        for (row, service) in SERVICES.iter().enumerate() {
            assert_eq!(service.number, row as u64);
            assert!(service.name.len() <= NAME_MAX);
            let same_name = SERVICES.iter().filter(|s| s.name == service.name);
            assert_eq!(same_name.count(), 1, "{}", service.name);
        }
    }

    #[test]
    fn there_is_a_register_for_every_argument_and_result() {
        for service in SERVICES {
            assert!(service.arguments.len() <= ARGUMENTS.len());
            assert!((1..=RESULTS.len()).contains(&service.results.len()));
        }
    }
}
