//! All orders in which CPUs call one, fail, and its guest gets NMIs.

use super::*;

const TARGET: u32 = 0;
const FAILING: u32 = 1;

/// Where the target is with an NMI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handler {
    /// In no handler.
    Away,
    /// The NMI arrived.
    Arrived,
    /// Its flag was taken.
    Taken(Taken),
    /// It was judged, and NMIs are still blocked.
    Ends,
}

/// What somebody else does next to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Notes the failure.
    Fail,
    /// Wants something of it, and asks.
    Ask,
    /// Sets the flag in any case.
    Insist,
    /// Sends an NMI if the step before said so.
    Send,
    /// The guest's own NMI.
    Guest,
}

/// The target and what is on its way to it. The local APIC holds one NMI back.
#[derive(Debug)]
struct World {
    call: Call,
    failure: Failure,
    handler: Handler,
    pending: bool,
    /// The handler noted a call: the guest is not entered before the CPU looked.
    noted: bool,
    /// What others want of it and it has not looked for.
    wanted: u32,
    stopped: bool,
    /// NMIs for the guest that were noted, and that were sent.
    counted: u32,
    sent: u32,
    /// NMIs that found one held back already.
    merged: u32,
    /// How far each actor is, and whether it has to send.
    at: [usize; 4],
    sends: [bool; 4],
}

impl Clone for World {
    fn clone(&self) -> Self {
        Self {
            call: Call(AtomicBool::new(self.call.0.load(Acquire))),
            failure: Failure(AtomicU32::new(self.failure.0.load(Acquire))),
            ..*self
        }
    }
}

impl World {
    fn new() -> Self {
        Self {
            call: Call::default(),
            failure: Failure::new(),
            handler: Handler::Away,
            pending: false,
            noted: false,
            wanted: 0,
            stopped: false,
            counted: 0,
            sent: 0,
            merged: 0,
            at: [0; 4],
            sends: [false; 4],
        }
    }

    fn arrive(&mut self) {
        self.merged += u32::from(self.pending);
        self.pending = true;
    }

    fn act(&mut self, actor: usize, act: Act) {
        self.at[actor] += 1;
        match act {
            Act::Fail => assert!(self.failure.note(FAILING)),
            Act::Ask => {
                self.wanted += 1;
                self.sends[actor] = self.call.ask();
            }
            Act::Insist => {
                self.call.insist();
                self.sends[actor] = true;
            }
            Act::Send if self.sends[actor] => self.arrive(),
            Act::Send => {}
            Act::Guest => {
                self.sent += 1;
                self.arrive();
            }
        }
    }

    /// The target's next step, if it has one.
    fn step(&mut self) -> bool {
        if self.stopped {
            return false;
        }
        match self.handler {
            Handler::Away if self.pending => {
                self.pending = false;
                self.handler = Handler::Arrived;
            }
            Handler::Away if self.noted => (self.noted, self.wanted) = (false, 0),
            Handler::Away => return false,
            Handler::Arrived => self.handler = Handler::Taken(self.call.take()),
            Handler::Taken(taken) => {
                self.handler = Handler::Ends;
                match taken.judge(&self.failure, TARGET) {
                    Nmi::Stop => self.stopped = true,
                    Nmi::Call => self.noted = true,
                    Nmi::Guest => self.counted += 1,
                }
            }
            Handler::Ends => self.handler = Handler::Away,
        }
        true
    }
}

/// Runs the actors in all orders, and hands each end to `check`. Returns how
/// many there were.
fn explore(world: &World, actors: &[&[Act]], check: &impl Fn(&World)) -> u32 {
    let mut ends = 0;
    let mut moved = false;
    let mut next = world.clone();
    if next.step() {
        moved = true;
        ends += explore(&next, actors, check);
    }
    for (actor, acts) in actors.iter().enumerate() {
        if let Some(act) = acts.get(world.at[actor]) {
            let mut next = world.clone();
            next.act(actor, *act);
            moved = true;
            ends += explore(&next, actors, check);
        }
    }
    if !moved {
        check(world);
        ends += 1;
    }
    ends
}

/// Nobody waits for ever, and of the guest's NMIs only those are lost that found
/// one held back, as natively one of two does.
fn nothing_is_lost(world: &World) {
    assert!(!world.stopped);
    assert_eq!(world.wanted, 0, "a call is lost: {world:?}");
    assert_eq!(world.counted, world.sent - world.merged, "{world:?}");
}

#[test]
fn calls_of_two_cpus_lose_no_call_and_no_nmi_of_the_guest() {
    let caller = [Act::Ask, Act::Send];
    let guest = [Act::Guest, Act::Guest];
    let ends = explore(&World::new(), &[&caller, &caller, &guest], &nothing_is_lost);
    assert!(ends > 10_000, "{ends}");
}

#[test]
fn a_cpu_that_calls_again_and_again_is_heard_each_time() {
    let caller = [Act::Ask, Act::Send, Act::Ask, Act::Send];
    let ends = explore(&World::new(), &[&caller, &[Act::Guest]], &nothing_is_lost);
    assert!(ends > 100, "{ends}");
}

#[test]
fn a_failure_stops_whoever_else_calls() {
    let stops = |world: &World| assert!(world.stopped, "{world:?}");
    let caller = [Act::Ask, Act::Send];
    let failing = [Act::Fail, Act::Ask, Act::Send];
    let insisting = [Act::Fail, Act::Insist, Act::Send];
    for failing in [failing, insisting] {
        let ends = explore(&World::new(), &[&caller, &failing, &[Act::Guest]], &stops);
        assert!(ends > 1000, "{ends}");
    }
}

#[test]
fn a_lost_nmi_is_made_good_by_a_second_one_which_is_not_the_guests() {
    let mut world = World::new();
    world.act(0, Act::Ask);
    assert!(world.sends[0], "and this NMI is lost");
    let again = [Act::Insist, Act::Send];
    explore(&world, &[&[], &again], &nothing_is_lost);
}

#[test]
fn who_failed_does_not_stop_itself() {
    let failure = Failure::new();
    assert!(failure.note(3));
    assert!(!failure.note(4), "the second has its reason in the first");
    let call = Call::default();
    assert_eq!(call.take().judge(&failure, 3), Nmi::Guest);
    assert_eq!(call.take().judge(&failure, 4), Nmi::Stop);
}
