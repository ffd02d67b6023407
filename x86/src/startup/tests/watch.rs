//! Two CPUs, their system, and who watches for start-up signals: every state
//! that any order of steps leads to, however long.

use super::*;
use std::collections::BTreeSet;

/// What a CPU really does, which its hypervisor cannot see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Truth {
    /// What the firmware or an earlier system left it at.
    Left,
    /// Its system has started it, and it comes up.
    Begins,
    Runs,
    /// It has written its caches back, and may halt or go on.
    WrittenBack,
    /// It has halted for good.
    Halted,
}

/// One CPU: its state as a word, and the truth.
type Cpu = (u32, Truth);

/// Both CPUs, and whether signals are watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Machine {
    cpus: [Cpu; 2],
    watched: bool,
}

/// What CPU `.0` does, or what is sent to it by the other.
#[derive(Clone, Copy, Debug)]
enum Step {
    Signal(usize, Signal),
    /// It comes to look what is due.
    Look(usize),
    /// A system begins on it: a boot, kexec.
    Boot(usize),
    /// The system that started it sets it up.
    SetUp(usize),
    WriteBack(usize),
    /// It writes to its local APIC.
    Write(usize),
    Halt(usize),
    /// One handles an NMI: that is no sign.
    Nmi,
}

impl Machine {
    const FIRST: Self = Self {
        cpus: [(0, Truth::Left); 2],
        watched: true,
    };

    fn state(&self, at: usize) -> State {
        State::from_word(self.cpus[at].0)
    }

    fn set(&mut self, at: usize, state: State) {
        self.cpus[at].0 = state.word();
    }

    /// What a system does, on CPUs that run at all, in its order.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for at in [0, 1] {
            steps.push(Step::Look(at));
            let runs = matches!(self.state(at), State::Running(_));
            if runs {
                steps.extend(self.own_steps(at));
            }
            let other = self.cpus[1 - at].1;
            if matches!(other, Truth::Runs | Truth::WrittenBack) && self.may_signal(at) {
                steps.push(Step::Signal(at, Signal::Init));
                steps.push(Step::Signal(at, Signal::Startup(1)));
            }
        }
        steps
    }

    fn own_steps(&self, at: usize) -> Vec<Step> {
        match self.cpus[at].1 {
            Truth::Left => vec![Step::Boot(at), Step::Write(at), Step::WriteBack(at)],
            Truth::Begins => vec![Step::SetUp(at), Step::Write(at), Step::WriteBack(at)],
            Truth::Runs => vec![
                Step::Boot(at),
                Step::WriteBack(at),
                Step::Write(at),
                Step::Nmi,
            ],
            Truth::WrittenBack => vec![
                Step::Halt(at),
                Step::WriteBack(at),
                Step::Write(at),
                Step::Boot(at),
            ],
            Truth::Halted => vec![Step::Nmi],
        }
    }

    /// A system starts what it found down, took down, or is about to start; or
    /// one that runs, as no system does, but then only while it is watched.
    fn may_signal(&self, at: usize) -> bool {
        self.watched || self.is_down(at)
    }

    fn is_down(&self, at: usize) -> bool {
        !matches!(self.cpus[at].1, Truth::Runs | Truth::WrittenBack)
    }

    fn take(mut self, step: Step) -> Self {
        match step {
            Step::Signal(at, signal) => {
                assert!(self.watched, "a signal to CPU {at} gets by: {self:?}");
                self.set(at, self.state(at).signal(signal, at == 0));
            }
            Step::Look(at) => self.look(at),
            Step::Boot(at) => {
                // The other CPU halts without a sign, or has.
                self.cpus[1 - at].1 = match self.cpus[1 - at].1 {
                    Truth::Left => Truth::Left,
                    _ => Truth::Halted,
                };
                self.sign(at, Sign::Entry, Truth::Runs);
            }
            Step::SetUp(at) => self.sign(at, Sign::Entry, Truth::Runs),
            Step::WriteBack(at) => {
                let truth = match self.cpus[at].1 {
                    Truth::Runs => Truth::WrittenBack,
                    other => other,
                };
                self.sign(at, Sign::WriteBack, truth);
            }
            Step::Write(at) if self.watched => {
                let truth = match self.cpus[at].1 {
                    Truth::WrittenBack => Truth::Runs,
                    other => other,
                };
                self.sign(at, Sign::Alive, truth);
            }
            Step::Halt(at) => self.cpus[at].1 = Truth::Halted,
            Step::Write(_) | Step::Nmi => {}
        }
        self
    }

    fn look(&mut self, at: usize) {
        let (state, due) = self.state(at).take(at == 0);
        self.set(at, state);
        match due {
            Due::Start(_) => self.cpus[at].1 = Truth::Begins,
            Due::Restart => self.cpus[at].1 = Truth::Left,
            Due::Reset => {
                self.cpus[at].1 = Truth::Left;
                self.look(at);
            }
            Due::Nothing | Due::Wait => {}
        }
    }

    /// A sign, and what the hypervisor makes of it before the instruction is
    /// done.
    fn sign(&mut self, at: usize, sign: Sign, truth: Truth) {
        let before = self.state(at);
        if before.begins_system(sign) {
            self.set(1 - at, self.state(1 - at).abandon());
        }
        self.set(at, before.sign(sign));
        self.cpus[at].1 = truth;
        self.watched = !(self.state(0).is_up() && self.state(1).is_up());
    }

    fn check(&self) {
        let up = self.state(0).is_up() && self.state(1).is_up();
        assert!(self.watched || up, "nobody watches: {self:?}");
        for at in [0, 1] {
            let halted = self.cpus[at].1 == Truth::Halted;
            assert!(!halted || !self.state(at).is_up(), "{self:?}");
        }
    }

    /// All that is down is taken up by a system that runs, and all show life.
    fn settle(mut self) -> Self {
        self = self.take(Step::Look(0));
        if self.is_down(0) {
            self = self.take(Step::Boot(0));
        }
        self = self.take(Step::Look(1));
        if self.is_down(1) {
            for signal in [Signal::Init, Signal::Startup(2), Signal::Startup(2)] {
                self = self.take(Step::Signal(1, signal)).take(Step::Look(1));
            }
            self = self.take(Step::SetUp(1));
        }
        self.take(Step::Look(1))
            .take(Step::Write(0))
            .take(Step::Write(1))
    }
}

#[test]
fn while_a_cpu_may_be_started_its_signals_are_watched_for_and_else_they_are_not() {
    let mut seen = BTreeSet::from([Machine::FIRST]);
    let mut left = vec![Machine::FIRST];
    while let Some(machine) = left.pop() {
        machine.check();
        for step in machine.steps() {
            let next = machine.take(step);
            if seen.insert(next) {
                left.push(next);
            }
        }
    }
    assert!(seen.iter().any(|machine| !machine.watched));
    for machine in seen {
        let settled = machine.settle();
        assert!(!settled.watched, "{machine:?} ends as {settled:?}");
    }
}
