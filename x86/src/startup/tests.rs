//! All orders of signals and signs.

mod watch;

use super::*;

const LIVES: [Life; 5] = [
    Life::Firmware,
    Life::Started,
    Life::Doubtful,
    Life::Abandoned,
    Life::Up,
];

/// What can happen to a CPU, in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Signal(Signal),
    Nmi,
    /// It comes to look what is due.
    Look,
}

const STEPS: [Step; 5] = [
    Step::Signal(Signal::Init),
    Step::Signal(Signal::Startup(1)),
    Step::Signal(Signal::Startup(2)),
    Step::Nmi,
    Step::Look,
];

/// Where a guest's code is, and the NMIs that it has got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Where it was at first, or since a signal.
    At(Option<u8>, u32),
    Waits,
}

/// The CPU of the manual, on which signals act at once.
fn native(place: Place, step: Step, boot: bool) -> Place {
    match (place, step) {
        (_, Step::Signal(Signal::Init)) if boot => Place::At(Some(0xff), 0),
        (_, Step::Signal(Signal::Init)) => Place::Waits,
        (Place::Waits, Step::Signal(Signal::Startup(page))) => Place::At(Some(page), 0),
        (Place::At(at, nmis), Step::Nmi) => Place::At(at, nmis + 1),
        (place, _) => place,
    }
}

/// The CPU under the hypervisor: NMIs are counted, and those that were
/// counted before it is reset are lost.
struct Virtual {
    state: State,
    place: Place,
    nmis: u32,
}

impl Virtual {
    fn step(&mut self, step: Step, boot: bool) {
        match step {
            Step::Signal(signal) => self.state = self.state.signal(signal, boot),
            Step::Nmi => self.nmis += 1,
            Step::Look => self.look(boot),
        }
    }

    fn look(&mut self, boot: bool) {
        loop {
            let (state, due) = self.state.take(boot);
            self.state = state;
            match due {
                Due::Nothing => {
                    if let Place::At(_, nmis) = &mut self.place {
                        *nmis += core::mem::take(&mut self.nmis);
                    }
                    return;
                }
                Due::Wait => return,
                Due::Reset => (self.place, self.nmis) = (Place::Waits, 0),
                Due::Restart => (self.place, self.nmis) = (Place::At(Some(0xff), 0), 0),
                Due::Start(page) => (self.place, self.nmis) = (Place::At(Some(page), 0), 0),
            }
        }
    }
}

/// An NMI that comes between a start-up IPI and the moment at which the CPU
/// takes it up is lost with those before: natively it would come before the
/// first instruction, without a handler.
fn loses_early_nmis(steps: &[Step], boot: bool) -> bool {
    let mut state = State::Running(Life::Firmware);
    steps.iter().any(|step| {
        match step {
            Step::Signal(signal) => state = state.signal(*signal, boot),
            Step::Look => {
                while !matches!(state.take(boot).1, Due::Nothing | Due::Wait) {
                    state = state.take(boot).0;
                }
            }
            Step::Nmi => {}
        }
        let started = matches!(state, State::Started(_)) || (boot && state == State::Init);
        *step == Step::Nmi && started
    })
}

/// Every order of up to seven steps, whoever takes them: two senders are
/// any order of both's signals.
#[test]
fn after_any_order_of_signals_the_cpu_is_where_it_would_be_natively() {
    const LENGTH: u32 = 7;
    let mut steps = Vec::new();
    let kinds = LIVES.map(|life| [(life, false), (life, true)]);
    for (life, boot) in kinds.into_iter().flatten() {
        for number in 0..5u32.pow(LENGTH) {
            steps.clear();
            steps.extend((0..LENGTH).map(|at| STEPS[(number / 5u32.pow(at) % 5) as usize]));
            steps.push(Step::Look);
            let start = Place::At(None, 0);
            let mut cpu = Virtual {
                state: State::Running(life),
                place: start,
                nmis: 0,
            };
            let mut wanted = start;
            for step in &steps {
                cpu.step(*step, boot);
                wanted = native(wanted, *step, boot);
            }
            match (cpu.place, wanted) {
                (Place::At(at, got), Place::At(place, sent)) => {
                    assert_eq!(at, place, "{steps:?}");
                    let right = got == sent || (got < sent && loses_early_nmis(&steps, boot));
                    assert!(right, "{got} of {sent} NMIs: {steps:?}");
                }
                (place, wanted) => assert_eq!(place, wanted, "{steps:?}"),
            }
        }
    }
}

#[test]
fn words_come_back() {
    let pages = (0..=255).map(State::Started);
    let running = LIVES.map(State::Running);
    for state in [State::Init, State::Waiting]
        .into_iter()
        .chain(running)
        .chain(pages)
    {
        assert_eq!(State::from_word(state.word()), state);
    }
}
