//! The sessions of the shell: a fixed number, of which the one that was used
//! longest ago gives way to a new one.

use super::session::Session;
use spin::Mutex;

/// How many there can be, the one of BitVisor's clients among them.
const SESSIONS: usize = 8;
/// The handle of that one, which no other has.
const TYPED: u64 = 1 << 32;

/// The sessions. Used by services on any CPU, each for one call.
#[derive(Default)]
pub struct Sessions(Mutex<Table>);

#[derive(Default)]
struct Table {
    sessions: [Session; SESSIONS],
    /// Uses so far.
    uses: u64,
}

impl Sessions {
    /// Begins a session. Its handle, which is no errno in 64 bits or in 32,
    /// cannot be guessed by who does not know `secret`.
    pub fn open(&self, secret: u64) -> u64 {
        let mut table = self.0.lock();
        let (slot, session) = table.begin();
        session.handle = (mix(secret ^ session.used) << 4 | 8 | slot as u64) & 0x7fff_ffff;
        session.handle
    }

    /// Does `what` in the session `handle`; None if there is no such session.
    pub fn with<R>(&self, handle: u64, what: impl FnOnce(&mut Session) -> R) -> Option<R> {
        self.0.lock().find(handle).map(what)
    }

    /// Does `what` in the session of BitVisor's clients, which is always there.
    pub fn with_typed<R>(&self, what: impl FnOnce(&mut Session) -> R) -> R {
        let mut table = self.0.lock();
        if let Some(session) = table.find(TYPED) {
            return what(session);
        }
        let (_, session) = table.begin();
        session.type_in();
        session.handle = TYPED;
        what(session)
    }
}

impl Table {
    fn find(&mut self, handle: u64) -> Option<&mut Session> {
        self.uses += 1;
        let mut sessions = self.sessions.iter_mut();
        let found = sessions.find(|session| session.handle == handle && handle != 0)?;
        found.used = self.uses;
        Some(found)
    }

    /// A fresh session in the place that was used longest ago, a free one
    /// first.
    fn begin(&mut self) -> (usize, &mut Session) {
        self.uses += 1;
        let [first, others @ ..] = &mut self.sessions;
        let (mut slot, mut oldest) = (0, first);
        for (other, session) in (1..).zip(others) {
            if session.used < oldest.used {
                (slot, oldest) = (other, session);
            }
        }
        *oldest = Session::default();
        oldest.used = self.uses;
        (slot, oldest)
    }
}

/// Spreads a number over all bits (the finaliser of SplitMix64).
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
