//! The CPUs of a guest as they know each other: who is there, where each is on
//! its way through INIT and start-up signals, and how one has all others out of
//! the guest.
//!
//! Who wants something of another CPU writes it here and calls that CPU, which
//! leaves the guest and looks around: [`serve`].

use crate::outcome::Outcome;
use crate::vm::{Cpu, Vm};
use core::hint::spin_loop;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use machine::Vcpu;
use machine::boot::CPUS_MAX;
use x86::apic::{Address, Destination};
use x86::startup::{Due, Signal, State};

/// One of them. Unless it says otherwise, written by that CPU alone.
#[derive(Default)]
struct Peer {
    /// Its [`State`]. Changed by any CPU, by exchange.
    state: AtomicU32,
    /// The newest closing of the gate at which it has left the guest.
    out: AtomicU64,
    /// Whether it is the boot processor, which no start-up signal reaches.
    boot: AtomicBool,
    id: AtomicU32,
    logical: AtomicU32,
    format: AtomicU32,
    x2: AtomicBool,
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
    /// How many of the others are ready to enter the guest. Each adds itself.
    ready: AtomicU32,
    /// One that cannot. Written by any that cannot.
    unable: AtomicU32,
    /// 0 until the first CPU has decided, then one of the two below.
    decision: AtomicU32,
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

    fn signal(&self, signal: Signal) {
        let boot = self.boot.load(Acquire);
        let after = |word| Some(State::from_word(word).signal(signal, boot).word());
        // The closure never declines.
        let _ = self.state.fetch_update(AcqRel, Acquire, after);
    }

    fn take(&self) -> Due {
        let boot = self.boot.load(Acquire);
        let now = State::from_word(self.state.load(Acquire));
        // Nothing to write for whoever waits, and looks again and again.
        if let (state, due @ (Due::Nothing | Due::Wait)) = now.take(boot)
            && state == now
        {
            return due;
        }
        let after = |word| Some(State::from_word(word).take(boot).0.word());
        let before = self.state.fetch_update(AcqRel, Acquire, after);
        let before = before.unwrap_or_else(|word| word);
        State::from_word(before).take(boot).1
    }
}

impl Peers {
    /// `count` CPUs that run.
    pub fn new(count: u32) -> Self {
        Self {
            all: core::array::from_fn(|_| Peer::default()),
            count: count.clamp(1, CPUS_MAX as u32),
            gate: AtomicU64::new(0),
            ready: AtomicU32::new(0),
            unable: AtomicU32::new(0),
            decision: AtomicU32::new(0),
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
            peer.id.store(address.id, Release);
            peer.logical.store(address.logical, Release);
            peer.format.store(address.format, Release);
            peer.x2.store(address.x2, Release);
        }
    }

    /// Notes that CPU `number`, which calls this, is the boot processor or not.
    pub fn note_boot(&self, number: u32, boot: bool) {
        if let Some(peer) = self.peer(number) {
            peer.boot.store(boot, Release);
        }
    }

    /// Sends a signal. To oneself the hardware has no shorthand for one. A CPU
    /// that is not among these does not exist for the guest.
    pub fn send<V: Vcpu>(&self, sender: u32, signal: Signal, destination: Destination) {
        if destination == Destination::Sender {
            return;
        }
        for (number, peer) in self.numbered() {
            if peer.address().is_meant(destination, number == sender) {
                peer.signal(signal);
                if number != sender {
                    V::call(number);
                }
            }
        }
    }

    /// Gives CPU `number` a signal that its hardware got.
    pub fn receive(&self, number: u32, signal: Signal) {
        if let Some(peer) = self.peer(number) {
            peer.signal(signal);
        }
    }

    /// CPU `number` is ready. Waits for the first CPU's decision: true to go on.
    pub fn wait_for_decision(&self) -> bool {
        self.ready.fetch_add(1, AcqRel);
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
            let ready = self.ready.load(Acquire);
            match self.unable.load(Acquire) {
                0 if ready + 1 == self.count => break Together::Yes,
                0 if is_late() => break Together::Without(ready + 1),
                0 => spin_loop(),
                unable => break Together::Without(unable),
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
pub fn serve<V: Vcpu, M>(vm: &Vm<M>, cpu: &mut Cpu<V>) -> Outcome {
    let mut outcome = Outcome::Resume;
    let Some(peer) = vm.peers.peer(cpu.number) else {
        return outcome;
    };
    loop {
        wait_outside(&vm.peers, peer, &mut cpu.vcpu);
        if cpu.vcpu.take_init() {
            peer.signal(Signal::Init);
        }
        let due = peer.take();
        match due {
            Due::Nothing => return outcome,
            Due::Wait => spin_loop(),
            Due::Reset | Due::Restart | Due::Start(_) => {
                cpu.vcpu.reset();
                cpu.vcpu.reset_apic();
                vm.peers.note_address(cpu.number, V::apic_address());
                outcome = Outcome::Moved;
            }
        }
        if let Due::Start(page) = due {
            cpu.vcpu.start_at(page);
        }
    }
}

/// Stays out of the guest while the gate is closed by another CPU.
fn wait_outside<V: Vcpu>(peers: &Peers, peer: &Peer, vcpu: &mut V) {
    loop {
        let gate = peers.gate.load(Acquire);
        if gate.is_multiple_of(2) {
            return;
        }
        peer.out.store(gate, Release);
        while peers.gate.load(Acquire) == gate {
            spin_loop();
        }
        vcpu.flush_nested();
    }
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
    for (number, _) in peers.others(cpu.number) {
        V::call(number);
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
            V::call_again(number);
            again = u64::MAX;
        }
    }
}

#[cfg(test)]
mod tests;
