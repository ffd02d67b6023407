//! The allocator is one for the whole program: these tests share its pages.

use super::*;
use crate::child::pages;
use crate::region::Page;
use std::sync::{Mutex, MutexGuard};

/// One test at a time counts pages.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(|failed| failed.into_inner());
    let memory: Vec<Page> = (0..64).map(|_| Page([0xaa; 4096])).collect();
    let base = memory.leak().as_ptr() as u64;
    // SAFETY: leaked memory of this test's own.
    unsafe { pages::start(base, 64 * 4096) };
    turn
}

const ALL: Rights = Rights {
    read: true,
    write: true,
    execute: true,
};

#[test]
fn a_child_finds_what_was_mapped_and_nothing_else() {
    let _turn = turn();
    for format in [Format::Ept, Format::Npt] {
        let tables = Tables::new(format).unwrap();
        let read = Rights {
            read: true,
            ..Rights::default()
        };
        tables.map(0x1000, 0x8000_0000, ALL).unwrap();
        tables.map(0x7f_0000_0000, 0x8000_1000, read).unwrap();
        assert_eq!(tables.find(0x1fff), Some((0x8000_0000, ALL)));
        assert_eq!(tables.find(0x7f_0000_0000), Some((0x8000_1000, read)));
        for at in [0, 0x2000, 0x7f_0000_1000, 1 << 48, u64::MAX] {
            assert_eq!(tables.find(at).filter(|(_, r)| r.read), None, "{at:#x}");
        }
        tables.map(0x1000, 0, Rights::default()).unwrap();
        assert_eq!(tables.find(0x1000).filter(|(_, rights)| rights.read), None);
    }
}

#[test]
fn all_pages_come_back() {
    let _turn = turn();
    let before = pages::taken();
    let tables = Tables::new(Format::Npt).unwrap();
    for at in [0, 1 << 21, 1 << 30, 1 << 39] {
        tables.map(at, 0x8000_0000, ALL).unwrap();
    }
    assert_eq!(pages::taken(), before + 1 + 3 + 1 + 2 + 3);
    drop(tables);
    assert_eq!(pages::taken(), before);
}

#[test]
fn where_no_page_is_left_a_mapping_is_refused_and_nothing_is_lost() {
    let _turn = turn();
    let before = pages::taken();
    let tables = Tables::new(Format::Ept).unwrap();
    let mut at = 0;
    while tables.map(at, 0x8000_0000, ALL).is_ok() {
        at += 1 << 30;
    }
    assert_eq!(pages::taken(), 64);
    assert_eq!(tables.find(0), Some((0x8000_0000, ALL)));
    drop(tables);
    assert_eq!(pages::taken(), before);
}

#[test]
fn blocks_are_fresh_and_apart() {
    let _turn = turn();
    let (one, other) = (Block::take(3).unwrap(), Block::take(2).unwrap());
    assert!(one.base() + 3 * PAGE <= other.base());
    let first = one.base();
    // SAFETY: the block's own page.
    assert_eq!(unsafe { (first as *const u64).read() }, 0);
    drop(one);
    assert_eq!(Block::take(3).unwrap().base(), first);
    assert!(Block::take(65).is_none());
}
