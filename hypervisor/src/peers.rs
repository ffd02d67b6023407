//! The CPUs of a guest as they know each other: who is there, where each is on
//! its way through INIT and start-up signals, and how one has all others out of
//! the guest.
//!
//! Who wants something of another CPU writes it here and calls that CPU, which
//! leaves the guest and looks around: [`serve`].

pub mod watch;

use crate::oddities::Oddity;
use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use core::hint::spin_loop;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use machine::boot::CPUS_MAX;
use machine::{Memory, Vcpu};
use watch::Watch;
use x86::apic::{Address, Destination};
use x86::startup::{Due, Signal, State};

/// One of them. Unless it says otherwise, written by that CPU alone.
#[derive(Default)]
struct Peer {
    /// Its [`State`]. Changed by any CPU, by exchange.
    state: AtomicU32,
    /// Rings, by another number, for one that waits for what its state or the
    /// gate becomes. Counted up by who has changed either.
    bell: AtomicU32,
    /// The newest closing of the gate at which it has left the guest.
    out: AtomicU64,
    /// Whether it is the boot processor, which no start-up signal reaches.
    boot: AtomicBool,
    id: AtomicU32,
    logical: AtomicU32,
    format: AtomicU32,
    x2: AtomicBool,
    /// It is ready to enter the guest.
    ready: AtomicBool,
}

/// What becomes of a start with several CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// All are there.
    Yes,
    /// This one cannot, or did not come.
    Without(u32),
}

/// All CPUs. Shared by them.
pub struct Peers {
    all: [Peer; CPUS_MAX as usize],
    count: u32,
    /// Closed while it is odd. Closed by who wants to be alone, by exchange, and
    /// opened by the same.
    gate: AtomicU64,
    /// One that cannot. Written by any that cannot.
    unable: AtomicU32,
    /// 0 until the first CPU has decided, then one of the two below.
    decision: AtomicU32,
    /// By which start-up signals are stopped.
    pub watch: Watch,
}

const GO: u32 = 1;
const GIVE_UP: u32 = 2;

impl Peer {
    fn address(&self) -> Address {
        Address {
            id: self.id.load(Acquire),
            logical: self.logical.load(Acquire),
            format: self.format.load(Acquire),
            x2: self.x2.load(Acquire),
        }
    }

    fn note_address(&self, address: Address) {
        self.id.store(address.id, Release);
        self.logical.store(address.logical, Release);
        self.format.store(address.format, Release);
        self.x2.store(address.x2, Release);
    }

    /// INIT takes it away at once, and the next signal is judged by that before
    /// the CPU has taken up this one. In x2APIC mode it follows from the number.
    fn lose_logical_number(&self) {
        self.logical.store(0, Release);
        self.format.store(u32::MAX, Release);
    }

    fn state(&self) -> State {
        State::from_word(self.state.load(Acquire))
    }

    /// Returns the state before.
    fn change(&self, change: impl Fn(State) -> State) -> State {
        let after = |word| Some(change(State::from_word(word)).word());
        let before = self.state.fetch_update(AcqRel, Acquire, after);
        // The closure never declines.
        State::from_word(before.unwrap_or_else(|word| word))
    }

    /// Returns whether that changes anything: the CPU was called for what it did
    /// before.
    fn signal(&self, signal: Signal) -> bool {
        let boot = self.boot.load(Acquire);
        let before = self.change(|state| state.signal(signal, boot));
        before.signal(signal, boot) != before
    }

    fn take(&self) -> Due {
        let boot = self.boot.load(Acquire);
        let now = self.state();
        // Nothing to write for whoever waits, and looks again and again.
        if let (state, due @ (Due::Nothing | Due::Wait)) = now.take(boot)
            && state == now
        {
            return due;
        }
        self.change(|state| state.take(boot).0).take(boot).1
    }

    /// Has the CPU look, in its guest or where it waits.
    fn call<V: Vcpu>(&self, number: u32) {
        self.bell.fetch_add(1, AcqRel);
        V::call(number);
    }
}

impl Peers {
    /// `count` CPUs that run.
    pub fn new(count: u32) -> Self {
        Self {
            all: core::array::from_fn(|_| Peer::default()),
            count: count.clamp(1, CPUS_MAX as u32),
            gate: AtomicU64::new(0),
            unable: AtomicU32::new(0),
            decision: AtomicU32::new(0),
            watch: Watch::default(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether there is more than one.
    #[inline]
    pub fn are_several(&self) -> bool {
        self.count > 1
    }

    fn others(&self, than: u32) -> impl Iterator<Item = (u32, &Peer)> {
        self.numbered().filter(move |(number, _)| *number != than)
    }

    fn numbered(&self) -> impl Iterator<Item = (u32, &Peer)> {
        (0..self.count).zip(&self.all)
    }

    fn peer(&self, number: u32) -> Option<&Peer> {
        self.all.get(number as usize)
    }

    /// Notes how CPU `number`, which calls this, is addressed.
    pub fn note_address(&self, number: u32, address: Address) {
        if let Some(peer) = self.peer(number) {
            peer.note_address(address);
        }
    }

    /// Notes that CPU `number`, which calls this, is the boot processor or not.
    pub fn note_boot(&self, number: u32, boot: bool) {
        if let Some(peer) = self.peer(number) {
            peer.boot.store(boot, Release);
        }
    }

    /// The number of CPU `number`'s local APIC, and where the CPU is.
    pub fn place(&self, number: u32) -> Option<(u32, State)> {
        let peer = self.peer(number)?;
        let state = State::from_word(peer.state.load(Acquire));
        Some((peer.id.load(Acquire), state))
    }

    /// Sends a signal. To oneself the hardware has no shorthand for one. A CPU
    /// that is not among these does not exist for the guest.
    pub fn send<V: Vcpu>(&self, sender: u32, signal: Signal, destination: Destination) {
        if destination == Destination::Sender {
            return;
        }
        for (number, peer) in self.numbered() {
            if peer.address().is_meant(destination, number == sender) {
                let changes = peer.signal(signal);
                if signal == Signal::Init {
                    peer.lose_logical_number();
                }
                if changes && number != sender {
                    peer.call::<V>(number);
                }
            }
        }
    }

    /// Gives CPU `number` a signal that it has not looked at yet.
    #[cfg(test)]
    pub(crate) fn signal(&self, number: u32, signal: Signal) {
        if let Some(peer) = self.peer(number) {
            peer.signal(signal);
        }
    }

    /// CPU `number` is ready. Waits for the first CPU's decision: true to go on.
    pub fn wait_for_decision(&self, number: u32) -> bool {
        if let Some(peer) = self.peer(number) {
            peer.ready.store(true, Release);
        }
        loop {
            match self.decision.load(Acquire) {
                0 => spin_loop(),
                decision => return decision == GO,
            }
        }
    }

    /// CPU `number` cannot run a guest.
    pub fn decline(&self, number: u32) {
        self.unable.store(number, Release);
    }

    /// The first CPU waits for all others, until `is_late`, and decides.
    pub fn gather(&self, is_late: impl Fn() -> bool) -> Together {
        let together = loop {
            let mut others = self.others(0);
            let missing = others.find(|(_, peer)| !peer.ready.load(Acquire));
            match (self.unable.load(Acquire), missing) {
                (0, None) => break Together::Yes,
                (0, Some((number, _))) if is_late() => break Together::Without(number),
                (0, Some(_)) => spin_loop(),
                (unable, _) => break Together::Without(unable),
            }
        };
        let decision = match together {
            Together::Yes => GO,
            Together::Without(_) => GIVE_UP,
        };
        self.decision.store(decision, Release);
        together
    }
}

/// What a CPU does when it was called: waits while another one wants to be
/// alone, and takes up its start-up signals.
pub fn serve<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>) -> Outcome {
    let mut outcome = Outcome::Resume;
    let Some(peer) = vm.peers.peer(cpu.number) else {
        return outcome;
    };
    loop {
        let bell = peer.bell.load(Acquire);
        wait_outside(&vm.peers, peer, &mut cpu.vcpu);
        if cpu.vcpu.take_init() {
            hear_init(vm, cpu);
        }
        let due = peer.take();
        match due {
            Due::Nothing if is_parked(peer, &cpu.vcpu) => V::wait_for(&peer.bell, bell),
            Due::Nothing => return outcome,
            Due::Wait => V::wait_for(&peer.bell, bell),
            Due::Reset | Due::Restart | Due::Start(_) => {
                cpu.vcpu.reset();
                cpu.vcpu.reset_apic();
                vm.peers.note_address(cpu.number, V::adopt_address());
                outcome = Outcome::Moved;
            }
        }
        if let Due::Start(page) = due {
            cpu.vcpu.start_at(page);
        }
    }
}

/// Whether only a start-up signal is to wake the CPU: its system has halted it for
/// good, and another one has begun since, to which its code, its tables and its
/// stack are free memory. A call would send it on there: AMD-V does not tell that a
/// guest had halted. So would an NMI, for which it has no handler any more.
fn is_parked<V: Vcpu>(peer: &Peer, vcpu: &V) -> bool {
    peer.state().is_abandoned() && !vcpu.hears_interrupts()
}

/// Stays out of the guest while the gate is closed by another CPU.
fn wait_outside<V: Vcpu>(peers: &Peers, peer: &Peer, vcpu: &mut V) {
    loop {
        let gate = peers.gate.load(Acquire);
        if gate.is_multiple_of(2) {
            return;
        }
        // Nobody has seen changes of it while APICs were not watched; who closed
        // the gate may send by it once this CPU is out.
        peer.note_address(V::adopt_address());
        peer.out.store(gate, Release);
        while peers.gate.load(Acquire) == gate {
            spin_loop();
        }
        vcpu.flush_nested();
        watch::follow(peers, peer, vcpu);
    }
}

/// This CPU has left its guest for an INIT signal.
pub fn receive_init<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>) -> Outcome {
    // The same INIT, where the hypervisor was hit by it as well.
    cpu.vcpu.take_init();
    hear_init(vm, cpu);
    serve(vm, cpu)
}

/// An INIT signal has reached this CPU itself: nobody watched its sender.
fn hear_init<V: Vcpu, M: Memory>(vm: &Vm<M>, cpu: &mut Cpu<V>) {
    if let Some(peer) = vm.peers.peer(cpu.number) {
        peer.signal(Signal::Init);
    }
    // Before anything that takes its time: start-up IPIs are on their way.
    watch::adjust(vm, cpu);
    let what = format_args!("by its hardware");
    vm.oddities.note(Oddity::Init, what);
}

/// Does `change` while no other CPU is in the guest. They forget what came from
/// the nested tables before they go on; this one's own is left to `change`.
pub fn alone<V: Vcpu, M, R>(
    vm: &Vm<M>,
    cpu: &mut Cpu<V>,
    change: impl FnOnce(&mut Cpu<V>) -> R,
) -> R {
    let peers = &vm.peers;
    let Some(peer) = peers.peer(cpu.number).filter(|_| peers.are_several()) else {
        return change(cpu);
    };
    let closed = loop {
        wait_outside(peers, peer, &mut cpu.vcpu);
        let open = peers.gate.load(Acquire) & !1;
        let closed = peers.gate.compare_exchange(open, open + 1, AcqRel, Acquire);
        if closed.is_ok() {
            break open + 1;
        }
    };
    for (number, other) in peers.others(cpu.number) {
        other.call::<V>(number);
    }
    for (number, other) in peers.others(cpu.number) {
        await_out(vm.ticks_per_second, &cpu.vcpu, (number, other), closed);
    }
    let changed = change(cpu);
    peers.gate.store(closed + 1, Release);
    changed
}

/// Seconds after which a CPU that was called is called again, and after which
/// the machine is stopped because it does not come: it has at most one exit to
/// finish, and a machine that is itself emulated may be slow at that.
const AGAIN: u64 = 1;
const GIVEN_UP: u64 = 10;

/// Waits until another CPU is out of the guest, which it was called for.
fn await_out<V: Vcpu>(second: u64, vcpu: &V, (number, other): (u32, &Peer), closed: u64) {
    let begin = vcpu.ticks();
    let mut again = second.saturating_mul(AGAIN);
    while other.out.load(Acquire) != closed {
        spin_loop();
        let waited = vcpu.ticks().saturating_sub(begin);
        if waited > second.saturating_mul(GIVEN_UP) {
            V::stop_machine(format_args!("CPU {number} was called and did not come"));
        }
        if waited > again {
            log::warn!("CPU {number} was called and did not come: it is called again");
            V::call_whoever();
            again = u64::MAX;
        }
    }
}

#[cfg(test)]
mod tests;
