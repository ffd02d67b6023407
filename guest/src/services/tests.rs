//! The typed functions against somebody who answers on the desk.

use super::*;
use crate::{Errno, Reply, Way};
use abi::call;
use abi::record::ServiceRecord;
use std::cell::Cell;

thread_local! {
    /// The number and the arguments of the last call.
    static CALLED: Cell<(u64, [u64; 5])> = const { Cell::new((0, [0; 5])) };
}

/// Notes the call; RAX is 2, RBX 3 and so on.
fn counts(number: u64, arguments: [u64; 5]) -> Reply {
    CALLED.set((number, arguments));
    Reply {
        rax: 2,
        results: [3, 4, 5, 6, 7],
    }
}

fn refuses(_: u64, [address, ..]: [u64; 5]) -> Reply {
    Reply {
        rax: Errno::BadAddress.to_register(),
        results: [address + 1, 0, 0, 0, 0],
    }
}

fn on(answer: fn(u64, [u64; 5]) -> Reply) -> Underlay {
    Underlay {
        way: Way::Desk(answer),
    }
}

/// The arguments of the last call, which was one of `number`.
fn arguments_of(number: u64) -> [u64; 5] {
    let (called, arguments) = CALLED.get();
    assert_eq!(called, number);
    arguments
}

fn address<T>(of: &[T]) -> u64 {
    of.as_ptr() as u64
}

#[test]
fn arguments_stand_in_the_order_of_the_table() {
    let (underlay, bytes) = (on(counts), [0u8; 100]);
    let (at, length) = (address(&bytes), 100);
    let mut into = [0u8; 60];
    let to = address(&into);
    underlay.memory_copy(&mut into, &bytes).unwrap();
    assert_eq!(arguments_of(call::MEMORY_COPY), [to, at, 60, 0, 0]);
    underlay.memory_read_physical(&mut into, 7).unwrap();
    assert_eq!(arguments_of(call::MEMORY_READ_PHYSICAL), [to, 7, 60, 0, 0]);
    underlay.memory_read_space(&mut into, 7, 8).unwrap();
    assert_eq!(arguments_of(call::MEMORY_READ_SPACE), [to, 7, 60, 8, 0]);
    // SAFETY: nothing is written on the desk.
    unsafe { underlay.memory_write_physical(7, &bytes) }.unwrap();
    assert_eq!(
        arguments_of(call::MEMORY_WRITE_PHYSICAL),
        [at, 7, length, 0, 0]
    );
    // SAFETY: the same.
    unsafe { underlay.memory_write_space(7, 8, &bytes) }.unwrap();
    assert_eq!(
        arguments_of(call::MEMORY_WRITE_SPACE),
        [at, 7, length, 8, 0]
    );
    underlay.log_write(&bytes).unwrap();
    assert_eq!(arguments_of(call::LOG_WRITE), [at, length, 0, 0, 0]);
    underlay.log_level(Level::Debug).unwrap();
    assert_eq!(arguments_of(call::LOG_LEVEL), [4, 0, 0, 0, 0]);
    underlay.trace_read(&mut into, 9, 3).unwrap();
    assert_eq!(arguments_of(call::TRACE_READ), [to, 60, 9, 3, 0]);
    underlay.statistics_read(&mut into, 9, 3).unwrap();
    assert_eq!(arguments_of(call::STATISTICS_READ), [to, 60, 9, 3, 0]);
    underlay.statistics_reset(3).unwrap();
    assert_eq!(arguments_of(call::STATISTICS_RESET), [3, 0, 0, 0, 0]);
    underlay.trace_switch(true, 3).unwrap();
    assert_eq!(arguments_of(call::TRACE_SWITCH), [1, 3, 0, 0, 0]);
    underlay.trace_write(3).unwrap();
    assert_eq!(arguments_of(call::TRACE), [2, 3, 0, 0, 0]);
}

#[test]
fn a_list_of_pages_is_never_read_beyond_its_end() {
    let (underlay, pages) = (on(counts), [0x1000, 0x5000]);
    let mut into = vec![0; 3 * 4096];
    let to = address(&into);
    underlay.memory_read_pages(&mut into, &pages, 96).unwrap();
    let wanted = [to, address(&pages), 2 * 4096 - 96, 96, 0];
    assert_eq!(arguments_of(call::MEMORY_READ_PAGES), wanted);
    // SAFETY: nothing is written on the desk.
    unsafe { underlay.memory_write_pages(&pages, 5000, &into) }.unwrap();
    let wanted = [to, address(&pages), 2 * 4096 - 5000, 5000, 0];
    assert_eq!(arguments_of(call::MEMORY_WRITE_PAGES), wanted);
    // SAFETY: nothing is kept on the desk.
    unsafe { underlay.buffer_share(&pages, 2 * 4096, 1) }.unwrap();
    let [_, bytes, ..] = arguments_of(call::BUFFER_SHARE);
    assert!(bytes > call::TRANSFER_MAX as u64, "the call is refused");
}

#[test]
fn results_are_taken_from_the_registers_of_the_table() {
    let underlay = on(counts);
    let found = underlay.memory_translate(0x1234, 0x5000).unwrap();
    assert_eq!((found.physical, found.left), (2, 3));
    let mut buffer = *b"abcd";
    let lines = underlay.log_read(&mut buffer, 9).unwrap();
    assert_eq!((lines.text, lines.next, lines.lost), (&b"ab"[..], 3, 4));
    let mut buffer = [0; 1000];
    let exits = underlay.statistics_read(&mut buffer, 0, 1).unwrap();
    assert_eq!((exits.records.count(), exits.all), (2, 3));
    let (cpus, [all, here]) = underlay.cpus_read(&mut buffer, 0).unwrap();
    assert_eq!((cpus.count(), all, here), (2, 3, 4));
    assert!(underlay.trace_switch(true, 1).unwrap());
    assert_eq!(underlay.log_level(Level::Trace).unwrap(), Level::Warn);
}

#[test]
fn a_failure_names_its_service_and_the_address() {
    let error = on(refuses).memory_translate(0x1233, 0).unwrap_err();
    assert_eq!(error.service.number, call::MEMORY_TRANSLATE);
    assert!(error.is(Errno::BadAddress) && error.address == 0x1234);
}

#[test]
fn no_service_is_number_0_but_resolve_itself() {
    let none = on(|_, _| Reply::default());
    assert_eq!(none.resolve(c"nothing").unwrap(), None);
    assert_eq!(none.resolve(c"resolve").unwrap(), Some(0));
    assert_eq!(on(counts).resolve(c"hello").unwrap(), Some(2));
}

#[test]
fn records_are_read_from_where_the_service_wrote_them() {
    let underlay = on(|_, [address, length, first, ..]| {
        let row = &call::SERVICES[first as usize];
        let record = ServiceRecord::from(row).to_bytes();
        assert!(length >= ServiceRecord::SIZE as u64);
        // SAFETY: the typed function passed a buffer with so much room.
        unsafe { (address as *mut [u8; ServiceRecord::SIZE]).write(record) };
        Reply {
            rax: 1,
            results: [call::SERVICES.len() as u64, 0, 0, 0, 0],
        }
    });
    let services = underlay.services().unwrap();
    let names = services.iter().map(|service| service.name.as_str());
    assert!(names.eq(call::SERVICES.iter().map(|service| service.name)));
}
