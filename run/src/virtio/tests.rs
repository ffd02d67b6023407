use super::driver::{BUFFERS, Driver, MEMORY_END, READ};
use super::*;
use vm_memory::{Bytes, GuestAddress};

/// Does every request, and says that it wrote seven bytes.
struct Simple;

impl Device for Simple {
    const KIND: u32 = 77;
    const FEATURES: u64 = 1 << 5;
    const QUEUES: usize = 2;

    fn config(&self) -> &[u8] {
        b"abcdefghi"
    }

    fn notice(&mut self, _: usize, queue: &mut Virtqueue<'_>) -> Result<(), Broken> {
        for chain in queue.take_all()? {
            queue.done(chain.head_index(), 7)?;
        }
        Ok(())
    }
}

const BUFFER: (u64, u32, u16) = (BUFFERS, 16, READ);
const AVAILABLE: u64 = 0x1000;

#[test]
fn a_driver_finds_what_the_device_is() {
    let driver = Driver::new(Simple);
    assert_eq!(driver.get(0x000), 0x7472_6976);
    assert_eq!([driver.get(0x004), driver.get(0x008)], [2, 77]);
    assert_eq!(
        driver.transport.read(0x100),
        u64::from_le_bytes(*b"abcdefgh")
    );
    assert_eq!(driver.transport.read(0x103) as u8, b'd');
    assert_eq!(driver.transport.read(0x108), u64::from(b'i'));
    assert_eq!(driver.transport.read(0xffc), 0);
}

#[test]
fn only_features_that_are_offered_are_accepted_and_no_old_drivers() {
    let accepts = |features: u64| {
        let mut driver = Driver::new(Simple);
        driver.set(register::STATUS, 0);
        for (part, value) in [(0, features as u32), (1, (features >> 32) as u32)] {
            driver.set(register::ACCEPTED_SELECT, part);
            driver.set(register::ACCEPTED, value);
        }
        driver.set(register::STATUS, status::FEATURES_OK);
        driver.get(register::STATUS) & status::FEATURES_OK != 0
    };
    assert!(accepts(VERSION_1) && accepts(VERSION_1 | 1 << 5));
    assert!(!accepts(1 << 5) && !accepts(VERSION_1 | 1 << 6));
}

#[test]
fn requests_are_done_and_the_driver_is_told_until_it_says_that_it_knows() {
    let mut driver = Driver::new(Simple);
    assert!(!driver.notify(1));
    driver.ask(1, &[BUFFER, BUFFER]);
    driver.ask(1, &[BUFFER]);
    assert!(driver.notify(1));
    assert_eq!(driver.done(1), [(0, 7), (2, 7)]);
    assert_eq!(driver.done(0), []);
    assert_eq!(driver.get(register::INTERRUPT_STATUS), 1);
    driver.set(register::INTERRUPT_DONE, 1);
    assert_eq!(driver.get(register::INTERRUPT_STATUS), 0);
}

#[test]
fn a_driver_that_wants_no_interrupts_gets_none() {
    let mut driver = Driver::new(Simple);
    let flags = GuestAddress(Driver::<Simple>::queue(0) + AVAILABLE);
    driver.ram.view.write_obj(1_u16, flags).unwrap();
    driver.ask(0, &[BUFFER]);
    assert!(!driver.notify(0));
    assert_eq!(driver.get(register::INTERRUPT_STATUS), 0);
    driver.ram.view.write_obj(0_u16, flags).unwrap();
    driver.ask(0, &[BUFFER]);
    assert!(driver.notify(0));
    assert_eq!(driver.done(0), [(0, 7), (1, 7)]);
}

#[test]
fn a_device_does_nothing_before_its_driver_is_there() {
    let mut driver = Driver::new(Simple);
    driver.set(register::STATUS, 0);
    driver.start();
    driver.set(register::STATUS, status::FEATURES_OK);
    driver.ask(0, &[BUFFER]);
    assert!(!driver.notify(0) && !driver.notify(7));
    assert_eq!(driver.done(0), []);
}

#[test]
fn a_queue_that_makes_no_sense_needs_a_reset_and_works_behind_it() {
    type Harm = fn(&mut Driver<Simple>);
    let more_than_there_is_room_for: Harm = |driver| {
        let at = GuestAddress(Driver::<Simple>::queue(0) + AVAILABLE + 2);
        driver.ram.view.write_obj(QUEUE_SIZE + 1, at).unwrap();
    };
    let a_descriptor_beyond_the_last: Harm = |driver| {
        driver.ask(0, &[BUFFER]);
        let at = GuestAddress(Driver::<Simple>::queue(0) + AVAILABLE + 4);
        driver.ram.view.write_obj(QUEUE_SIZE, at).unwrap();
    };
    let beyond_memory: Harm = |driver| {
        driver.set(register::USED, MEMORY_END as u32 - 0x100);
    };
    for harm in [
        more_than_there_is_room_for,
        a_descriptor_beyond_the_last,
        beyond_memory,
    ] {
        let mut driver = Driver::new(Simple);
        driver.set(register::QUEUE_SELECT, 0);
        harm(&mut driver);
        assert!(driver.notify(0) && driver.needs_reset());
        let why = driver.get(register::INTERRUPT_STATUS);
        assert_ne!(why & interrupt::CONFIG_CHANGED, 0);
        assert!(!driver.notify(0));
        driver.set(register::STATUS, 0);
        assert!(!driver.needs_reset());
        driver.start();
        driver.ask(0, &[BUFFER]);
        assert!(driver.notify(0));
        assert_eq!(driver.done(0), [(0, 7)]);
    }
}
