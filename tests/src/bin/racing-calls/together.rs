//! Services from all CPUs at once: the log is written, read, copied and poured
//! into shared buffers which the other CPU releases meanwhile; sessions of the
//! shell talk; each CPU counts its own.

use crate::copies::{PAGE, Pages};
use abi::call;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tests::Report;
use tests::alloc::boxed::Box;
use tests::call::call;
use tests::processors::{MAX, Others};
use tests::random::Random;

const ERASED: u8 = 0x77;

/// The boot processor is done.
static OVER: AtomicBool = AtomicBool::new(false);
/// What each CPU found wrong, and how many calls it made. Written by it.
static WRONG: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];
static CALLS: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];
/// Fills that the other CPUs made.
static FILLS: AtomicU64 = AtomicU64::new(0);

#[repr(align(4096))]
struct Room(core::cell::UnsafeCell<[[u8; PAGE]; MAX]>);
// SAFETY: each CPU uses its own.
unsafe impl Sync for Room {}
static ROOM: Room = Room(core::cell::UnsafeCell::new([[0; PAGE]; MAX]));

/// All of them.
pub fn check(report: &mut Report, others: &Others, calls: u64) {
    shared(report, others, calls / 4);
    OVER.store(false, Ordering::Release);
    let came = others.start(|number| mixture(number, u64::MAX));
    mixture(0, calls / 2);
    OVER.store(true, Ordering::Release);
    report.holds(
        "others make all kinds of calls and end",
        came && others.wait(),
    );
    for number in 0..=others.count() {
        let [wrong, calls] = [&WRONG, &CALLS].map(|all| all[number].load(Ordering::Acquire));
        report.equal(
            format_args!("CPU {number}: wrong of {calls} calls"),
            wrong,
            0,
        );
        report.holds(format_args!("CPU {number} made some"), calls > 50);
    }
}

fn ask(number: u64, arguments: [u64; 5]) -> Option<tests::call::Registers> {
    let own = tests::processors::number();
    CALLS[own].fetch_add(1, Ordering::AcqRel);
    let reply = call(number, arguments).ok();
    reply.filter(|reply| !(-4095..0).contains(&(reply.rax as i64)))
}

/// The boot processor shares pages and takes them back while the others have the
/// log poured into them: what it has back stays as it is.
fn shared(report: &mut Report, others: &Others, rounds: u64) {
    let mut pages = Pages::filled([ERASED; 4]);
    let list = Box::new([pages.at(0), pages.at(1)]);
    let arguments = [list.as_ptr() as u64, 2 * PAGE as u64, 0, 0, 0];
    OVER.store(false, Ordering::Release);
    let came = others.start(fill);
    let (mut given, mut late) = (0u64, 0u64);
    for round in 0..rounds {
        let Some(reply) = ask(call::BUFFER_SHARE, arguments) else {
            continue;
        };
        given += 1;
        pause(round % 512);
        ask(call::BUFFER_RELEASE, [reply.rax, 0, 0, 0, 0]);
        let used = pages.0[..2].as_flattened_mut();
        used.fill(ERASED);
        pause(64);
        // Read again, behind the compiler's back.
        let used = core::hint::black_box(used);
        late += u64::from(used.iter().any(|byte| *byte != ERASED));
    }
    OVER.store(true, Ordering::Release);
    report.holds("others fill and end", came && others.wait());
    report.equal("buffers were shared", given, rounds);
    report.equal("buffers that were written to after their release", late, 0);
    let fills = FILLS.load(Ordering::Acquire);
    report.holds(format_args!("{fills} times they were filled"), fills > 0);
}

fn pause(times: u64) {
    for _ in 0..times {
        core::hint::spin_loop();
    }
}

fn fill(number: usize) {
    let mut random = Random::of(12, number as u64);
    while !OVER.load(Ordering::Acquire) {
        let handle = 1 + random.below(2);
        let filled = ask(call::LOG_FILL, [handle, 0, 0, 0, 0]);
        FILLS.fetch_add(u64::from(filled.is_some()), Ordering::AcqRel);
    }
}

/// Calls of all kinds from CPU `number`, until all is over.
fn mixture(number: usize, rounds: u64) {
    let mut random = Random::of(13, number as u64);
    let page = ROOM.0.get() as u64 + (number * PAGE) as u64;
    let mut line = 0;
    let mut session = 0;
    for _ in 0..rounds {
        if OVER.load(Ordering::Acquire) {
            break;
        }
        let right = match random.below(8) {
            0 => ask(call::LOG_WRITE, [page, random.below(60), 0, 0, 0]).is_none_or(|_| true),
            1 | 2 => read_log(page, &mut line),
            3 => {
                let size = [0, 256][random.below(2) as usize];
                let at = if size == 0 { 0 } else { page + 2048 };
                ask(call::LOG_SET_BUF, [at, size, 0, 0, 0]).is_some()
            }
            4 => counted(page),
            5 => talk(page, &mut session),
            6 => ask(call::TRACE_READ, [page, 1024, 0, 0, 0]).is_some(),
            _ => ask(call::PING, [0; 5]).is_some_and(|reply| reply.rax == call::VERSION.into()),
        };
        WRONG[number].fetch_add(u64::from(!right), Ordering::AcqRel);
    }
    ask(call::LOG_SET_BUF, [0; 5]);
    if session != 0 {
        ask(call::SHELL_CLOSE, [session, 0, 0, 0, 0]);
    }
}

/// Whole lines, as many as the numbers say.
fn read_log(page: u64, line: &mut u64) -> bool {
    const BYTES: usize = 1024;
    let Some(reply) = ask(call::LOG_READ, [page, BYTES as u64, *line, 0, 0]) else {
        return false;
    };
    // SAFETY: this CPU's room.
    let text = unsafe { core::slice::from_raw_parts(page as *const u8, reply.rax as usize) };
    let lines = text.iter().filter(|byte| **byte == b'\n').count() as u64;
    let right = *line + lines + reply.arguments[1] == reply.arguments[0]
        && text.last().is_none_or(|byte| *byte == b'\n')
        && (text.is_empty() || text[0] == b'[');
    *line = if text.is_empty() {
        0
    } else {
        reply.arguments[0]
    };
    right
}

/// The statistics have rows whose names are letters and dashes.
fn counted(page: u64) -> bool {
    ask(call::STATISTICS_READ, [page, 1024, 0, 0, 0]).is_some_and(|reply| reply.rax > 0)
}

/// A session of this CPU's.
fn talk(page: u64, session: &mut u64) -> bool {
    if *session == 0 {
        let opened = ask(call::SHELL_OPEN, [0; 5]);
        *session = opened.map_or(0, |reply| reply.rax);
        return *session != 0;
    }
    let line = b"help";
    let arguments = [*session, line.as_ptr() as u64, 4, page, 1024];
    let Some(reply) = ask(call::SHELL_LINE, arguments) else {
        return false;
    };
    // SAFETY: this CPU's room.
    let text = unsafe { core::slice::from_raw_parts(page as *const u8, reply.rax as usize) };
    text.last() == Some(&b'\n')
}
