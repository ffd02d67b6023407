//! Children for the desk: a vCPU whose exits a test leaves for it, and memory
//! that keeps what is shown where.

use super::FakeCpu;
use core::ops::Range;
use machine::child::{Rights, Unmappable};
use machine::nested::{NestedEntry, OutOfTables};
use machine::{ChildMemory, ChildVcpu, Memory, Unreachable, Vcpu};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Mutex;
use x86::control::{Cr0, Rflags};
use x86::walk::Entries;
use x86::{Event, Exit, Gpa, State};

thread_local! {
    /// Exits of the next child's vCPU that is boarded on this thread.
    pub static CHILD_EXITS: RefCell<VecDeque<Exit>> = const { RefCell::new(VecDeque::new()) };
    /// What was done to vCPUs on this thread, in its order.
    pub static JOURNAL: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

fn note(what: &'static str) {
    JOURNAL.with_borrow_mut(|journal| journal.push(what));
}

/// A child's memory: which page of the pool is where. All of it reads as zeros.
#[derive(Default)]
pub struct FakePool(Mutex<BTreeMap<u64, (u64, Rights)>>);

impl FakePool {
    fn rights(&self, gpa: Gpa) -> Rights {
        let pages = self.0.lock().unwrap();
        pages
            .get(&gpa.page().0)
            .map_or(Rights::default(), |page| page.1)
    }
}

impl ChildMemory for FakePool {
    fn map(&self, at: Gpa, from: Gpa, rights: Rights) -> Result<(), Unmappable> {
        if at.0 >> 40 != 0 {
            return Err(Unmappable::Address);
        }
        self.0.lock().unwrap().insert(at.0, (from.0, rights));
        Ok(())
    }
    fn generation(&self) -> u64 {
        0
    }
}

impl Memory for FakePool {
    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), Unreachable> {
        into.fill(0);
        self.check(gpa, 1)
    }
    fn write(&self, gpa: Gpa, _: &[u8]) -> Result<(), Unreachable> {
        let writable = self.rights(gpa).write;
        writable.then_some(()).ok_or(Unreachable(gpa))
    }
    fn copy(&self, to: Gpa, _: Gpa, _: u64) -> Result<(), Unreachable> {
        Err(Unreachable(to))
    }
    fn check(&self, gpa: Gpa, _: u64) -> Result<(), Unreachable> {
        let readable = self.rights(gpa).read;
        readable.then_some(()).ok_or(Unreachable(gpa))
    }
    fn reserved(&self) -> Range<Gpa> {
        Gpa(0)..Gpa(0)
    }
    fn open_scrap(&self) -> Result<(), OutOfTables> {
        Err(OutOfTables)
    }
    fn watch(&self, _: Gpa) -> Result<(), OutOfTables> {
        Err(OutOfTables)
    }
    fn watch_writes(&self, _: Gpa) -> Result<(), OutOfTables> {
        Err(OutOfTables)
    }
    fn let_writes_through(&self, _: bool) {}
    fn types_changed(&self) -> bool {
        false
    }
    fn nested(&self, gpa: Gpa) -> NestedEntry {
        let Rights {
            read,
            write,
            execute,
        } = self.rights(gpa);
        NestedEntry {
            level: 1,
            value: 0,
            rights: [read, write, execute],
        }
    }
    fn copy_log(&self, _: Option<(Gpa, u64)>) -> Result<(), Unreachable> {
        Err(Unreachable(Gpa(0)))
    }
    fn follow_mtrrs(&self) -> Result<(), OutOfTables> {
        Ok(())
    }
}

impl Entries for FakePool {
    fn load(&self, at: Gpa, _: u64) -> Option<u64> {
        self.check(at, 1).is_ok().then_some(0)
    }
    fn exchange(&self, _: Gpa, _: u64, _: u64, _: u64) -> bool {
        false
    }
}

impl<const VENDOR: u8> ChildVcpu<FakeCpu<VENDOR>> for FakeCpu<VENDOR> {
    type Memory = FakePool;
    type Placed<T: Send + Sync + 'static> = Box<T>;

    fn memory(_: &FakeCpu<VENDOR>) -> Option<FakePool> {
        Some(FakePool::default())
    }
    fn place<T: Send + Sync + 'static>(value: T) -> Option<Box<T>> {
        Some(Box::new(value))
    }
    fn new(_: &mut FakeCpu<VENDOR>, _: &FakePool) -> Option<Self> {
        Some(Self {
            length: Some(2),
            ..Self::default()
        })
    }
    fn load(&mut self, _: &mut FakeCpu<VENDOR>) {
        note("load");
    }
    fn unload(&mut self, _: &mut FakeCpu<VENDOR>) {
        note("unload");
    }
    fn board(&mut self, _: &mut FakeCpu<VENDOR>, _: u64) -> bool {
        self.exits
            .extend(CHILD_EXITS.with_borrow_mut(|exits| exits.drain(..).collect::<Vec<_>>()));
        note("board");
        true
    }
    fn alight(&mut self, _: &mut FakeCpu<VENDOR>) {
        note("alight");
    }
    fn note_for_guest(&mut self, _: &FakeCpu<VENDOR>, _: &Exit) {
        note("note for the guest");
    }
    fn state(&self) -> State {
        State {
            registers: self.registers,
            rip: self.rip,
            rsp: self.rsp,
            ..State::reset()
        }
    }
    fn set_state(&mut self, state: &State) {
        self.registers = state.registers;
        (self.rip, self.rsp) = (state.rip, state.rsp);
        self.cr0 = Cr0::from_bits_retain(state.cr0);
    }
    fn raise(&mut self, event: Event) {
        self.raised.push(event);
    }
    fn has_event(&self) -> bool {
        !self.raised.is_empty()
    }
    fn takes_interrupts(&self) -> bool {
        self.rflags().contains(Rflags::IF) && !self.in_shadow
    }
    fn await_interrupts(&mut self, _: bool) {}
}
