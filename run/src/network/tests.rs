use super::*;
use crate::devices::tests::random;
use crate::virtio::Registers;
use crate::virtio::driver::{BUFFERS, Driver, MEMORY_END, READ, WRITTEN};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use vm_memory::{Bytes, GuestAddress};

/// A device with its driver, and the far end of its wire.
fn wired() -> (Driver<Network>, UnixDatagram) {
    let (near, far) = UnixDatagram::pair().unwrap();
    for end in [&near, &far] {
        end.set_nonblocking(true).unwrap();
    }
    let tap = Tap::of(File::from(OwnedFd::from(near))).unwrap();
    (Driver::new(Network::new(Arc::new(tap), "linux")), far)
}

fn receive(driver: &mut Driver<Network>) -> Received {
    let (received, _) = driver.transport.with_queue(RECEIVE, Network::receive);
    received.unwrap()
}

fn arrived(far: &UnixDatagram) -> Option<Vec<u8>> {
    let mut frame = vec![0; FRAME_MAX];
    let size = far.recv(&mut frame).ok()?;
    frame.truncate(size);
    Some(frame)
}

#[test]
fn an_address_is_its_vms_own_and_for_one_receiver() {
    let [first, second] = ["linux", "other"].map(address);
    assert_ne!(first, second);
    assert_eq!([first[0] & 3, second[0] & 3], [2, 2]);
    let (driver, _far) = wired();
    let byte = |number: u64| driver.transport.read(0x100 + number) as u8;
    assert_eq!([0, 1, 2, 3, 4, 5].map(byte), first);
}

#[test]
fn a_frame_goes_out_without_its_header_wherever_its_buffers_are() {
    let (mut driver, far) = wired();
    let memory = &driver.ram.view;
    memory
        .write_slice(b"frame", GuestAddress(BUFFERS + HEADER as u64))
        .unwrap();
    memory
        .write_slice(b" in two", GuestAddress(BUFFERS + 0x100))
        .unwrap();
    driver.ask(TRANSMIT, &[(BUFFERS, 17, READ), (BUFFERS + 0x100, 7, READ)]);
    assert!(driver.notify(TRANSMIT));
    assert_eq!(driver.done(TRANSMIT), [(0, 0)]);
    assert_eq!(arrived(&far).unwrap(), b"frame in two");
}

#[test]
fn what_is_no_frame_is_dropped_and_the_next_one_goes_out() {
    let (mut driver, far) = wired();
    driver.ask(TRANSMIT, &[(BUFFERS, 11, READ)]);
    driver.ask(TRANSMIT, &[(BUFFERS, 64, WRITTEN)]);
    driver.ask(TRANSMIT, &[(MEMORY_END - 8, 64, READ)]);
    driver.ask(TRANSMIT, &[(u64::MAX - 8, 64, READ)]);
    driver.ask(TRANSMIT, &[(0, 0x1_0000, READ), (0, 0x1_0000, READ)]);
    driver.ask(TRANSMIT, &[(BUFFERS, 64, READ)]);
    assert!(driver.notify(TRANSMIT) && !driver.needs_reset());
    assert_eq!(driver.done(TRANSMIT).len(), 6);
    assert_eq!(arrived(&far).unwrap(), [0; 52]);
    assert_eq!(arrived(&far), None);
}

#[test]
fn a_frame_that_comes_is_written_behind_a_header() {
    let (mut driver, far) = wired();
    far.send(b"frame in two").unwrap();
    let (first, second) = (BUFFERS, BUFFERS + 0x100);
    driver.ask(RECEIVE, &[(first, 17, WRITTEN), (second, 100, WRITTEN)]);
    assert!(matches!(receive(&mut driver), Received::Full));
    assert_eq!(driver.done(RECEIVE), [(0, 24)]);
    let mut bytes = [0; 24];
    let memory = &driver.ram.view;
    memory
        .read_slice(&mut bytes[..17], GuestAddress(first))
        .unwrap();
    memory
        .read_slice(&mut bytes[17..], GuestAddress(second))
        .unwrap();
    assert_eq!(&bytes[..HEADER], &HEADER_OF_RECEIVED);
    assert_eq!(&bytes[HEADER..], b"frame in two");
}

#[test]
fn frames_wait_for_room_and_room_for_frames() {
    let (mut driver, far) = wired();
    far.send(b"first").unwrap();
    far.send(b"second").unwrap();
    assert!(matches!(receive(&mut driver), Received::Full));
    driver.ask(RECEIVE, &[(BUFFERS, 100, WRITTEN)]);
    assert!(matches!(receive(&mut driver), Received::Full));
    driver.ask(RECEIVE, &[(BUFFERS, 100, WRITTEN)]);
    driver.ask(RECEIVE, &[(BUFFERS, 100, WRITTEN)]);
    assert!(matches!(receive(&mut driver), Received::Enough));
    assert_eq!(driver.done(RECEIVE), [(0, 17), (1, 18)]);
    far.send(b"third").unwrap();
    assert!(matches!(receive(&mut driver), Received::Full));
    assert_eq!(driver.done(RECEIVE)[2], (2, 17));
}

#[test]
fn buffers_that_hold_no_frame_are_given_back_empty() {
    let (mut driver, far) = wired();
    for (address, bytes, direction) in [
        (BUFFERS, 16, WRITTEN),
        (BUFFERS, 100, READ),
        (MEMORY_END - 8, 100, WRITTEN),
        (u64::MAX - 8, 100, WRITTEN),
    ] {
        far.send(b"frame").unwrap();
        driver.ask(RECEIVE, &[(address, bytes, direction)]);
    }
    receive(&mut driver);
    assert_eq!(driver.done(RECEIVE), [(0, 0), (1, 0), (2, 0), (3, 0)]);
    assert!(!driver.needs_reset());
}

#[test]
fn no_driver_ends_this_program() {
    let mut state = 1;
    let (mut driver, far) = wired();
    let numbers = || random(&mut state);
    let mut arrived_in_all = 0;
    driver.torment(numbers, |transport| {
        let _ = far.send(&[0x5a; 600]);
        transport.with_queue(RECEIVE, Network::receive);
        arrived_in_all += usize::from(arrived(&far).is_some());
    });
    assert_ne!(arrived_in_all, 0, "no request ever made sense");
}

#[test]
fn the_thread_gives_what_comes_and_ends_when_it_is_told_to() {
    let (driver, far) = wired();
    let mut driver = driver;
    driver.ask(RECEIVE, &[(BUFFERS, 100, WRITTEN)]);
    driver.ask(RECEIVE, &[(BUFFERS, 100, WRITTEN)]);
    let ram = driver.ram.clone();
    let network = Arc::new(Mutex::new(driver.transport));
    let receiver = Receiver::start(network.clone(), Arc::new(Interrupts::new(1, 1_000_000)));
    far.send(b"first").unwrap();
    far.send(b"second").unwrap();
    let count = GuestAddress(Driver::<Network>::queue(RECEIVE) + 0x1802);
    while ram.view.read_obj::<u16>(count).unwrap() != 2 {
        thread::yield_now();
    }
    receiver.end();
    assert_eq!(Arc::strong_count(&network), 1);
}
