//! Random strings of bytes, in the sandbox of each CPU. What comes of them is
//! the same whether one CPU tries them alone or all do at once.

use crate::{OVER, STEPS, signals};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tests::machine::is_qemu;
use tests::processors::{MAX, Others};
use tests::random::Random;
use tests::sandbox::{Place, Sandbox, general, is_uncertain, refused};
use tests::{Report, processors};

const LONGEST: usize = 15;
const RESUME_FLAG: u64 = 1 << 16;
/// VIF and VIP, which in QEMU 7.2 stay from one string to the next: nothing but a
/// return to virtual-8086 mode loads them.
const VIRTUAL_INTERRUPTS: u64 = 3 << 19;
/// A signal after so many strings.
const PAUSE: u64 = 8;

struct Own(UnsafeCell<Option<Sandbox>>);
// SAFETY: each CPU uses its own.
unsafe impl Sync for Own {}

static SANDBOXES: [Own; MAX] = [const { Own(UnsafeCell::new(None)) }; MAX];
/// Who makes a sandbox takes memory from the firmware, one at a time.
static TAKING: AtomicBool = AtomicBool::new(false);
/// Written before the others start.
static ROUNDS: AtomicU64 = AtomicU64::new(0);
/// Sums of what came of each CPU's strings. Written by that CPU.
static SUMS: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];
static ON_QEMU: AtomicBool = AtomicBool::new(false);
/// All have their sandboxes.
static READY: AtomicU64 = AtomicU64::new(0);

fn own(number: usize) -> &'static mut Sandbox {
    // SAFETY: CPU `number` alone calls this, and keeps it no longer than a
    // string lasts.
    let own = unsafe { &mut *SANDBOXES[number].0.get() };
    own.as_mut().expect("made before")
}

/// Alone, then all at once.
pub fn check(report: &mut Report, others: &Others, rounds: u64) {
    ON_QEMU.store(is_qemu(), Ordering::Release);
    ROUNDS.store(rounds, Ordering::Release);
    make(0);
    let all = 0..=others.count();
    let alone: [u64; MAX] = core::array::from_fn(|seed| match all.contains(&seed) {
        true => sum(own(0), seed as u64, rounds),
        false => 0,
    });
    report.holds("others start with strings", others.start(once));
    let ready = processors::wait_until(|| READY.load(Ordering::Acquire) == others.count() as u64);
    report.holds("each has its sandbox", ready);
    READY.store(u64::MAX, Ordering::Release);
    let own_sum = sum(own(0), 0, rounds);
    SUMS[0].store(own_sum, Ordering::Release);
    report.holds("they are done with strings", others.wait());
    for number in all {
        let together = SUMS[number].load(Ordering::Acquire);
        report.equal(
            format_args!("{rounds} strings on CPU {number} end as on one alone"),
            together,
            alone[number],
        );
    }
}

fn make(number: usize) {
    while TAKING.swap(true, Ordering::AcqRel) {
        core::hint::spin_loop();
    }
    // SAFETY: as for `own`.
    unsafe { *SANDBOXES[number].0.get() = Some(Sandbox::new()) };
    TAKING.store(false, Ordering::Release);
}

fn once(number: usize) {
    make(number);
    READY.fetch_add(1, Ordering::AcqRel);
    while READY.load(Ordering::Acquire) != u64::MAX {
        core::hint::spin_loop();
    }
    let rounds = ROUNDS.load(Ordering::Acquire);
    let found = sum(own(number), number as u64, rounds);
    SUMS[number].store(found, Ordering::Release);
}

/// What comes of so many strings.
fn sum(sandbox: &mut Sandbox, seed: u64, strings: u64) -> u64 {
    let mut random = Random::of(7, seed);
    sandbox.data().for_each(|word| *word = random.word());
    (0..strings).fold(0, |sum, _| {
        let words = one(sandbox, &mut random);
        words.fold(sum, |sum: u64, word| {
            (sum.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        })
    })
}

/// One string anywhere; what counts of its ending.
fn one(sandbox: &mut Sandbox, random: &mut Random) -> impl Iterator<Item = u64> {
    let place = Place::ALL[random.below(6) as usize];
    let code = [(); LONGEST].map(|()| random.word() as u8);
    let registers = general(random, place);
    let on_qemu = ON_QEMU.load(Ordering::Acquire);
    let is_refused = refused(place, &code, on_qemu) || on_qemu && meets_others_in_qemu(&code);
    let ending = (!is_refused).then(|| {
        let mut ending = sandbox.step(place, &code, &registers);
        if is_uncertain(place, &code) {
            ending.general = [0; 16];
        }
        ending.frame[2] &= !(RESUME_FLAG | VIRTUAL_INTERRUPTS);
        ending
    });
    ending.into_iter().flat_map(|ending| {
        let words: [u64; 24] = {
            let mut words = ending.words();
            core::array::from_fn(|_| words.next().unwrap_or(0))
        };
        words
    })
}

/// - FLDENV, FRSTOR, FXRSTOR and XRSTOR: on any CPU, QEMU 7.2 changes a word of
///   the first CPU's without care for what that does. The first CPU may keep the
///   guest's nested tables when it comes to the hypervisor.
/// - PUSHF and SYSCALL store flags that an earlier string left, see above.
fn meets_others_in_qemu(code: &[u8]) -> bool {
    let field = |modrm: u8| modrm >> 3 & 7;
    (0..code.len()).any(|at| match code[at..] {
        [0xd9 | 0xdd, modrm, ..] => modrm < 0xc0 && field(modrm) == 4,
        [0x0f, 0xae, modrm, ..] => modrm < 0xc0 && matches!(field(modrm), 1 | 5),
        [0x9c, ..] | [0x0f, 0x05, ..] => true,
        _ => false,
    })
}

/// Strings and signals, until all is over.
pub fn forever(number: usize, rounds: u64) {
    if number > 0 {
        own(number).resume();
    }
    signals::take_address(number);
    let life = STEPS[number].load(Ordering::Acquire);
    let mut random = Random::of(8 + number as u64, life);
    for round in 0..rounds {
        if OVER.load(Ordering::Acquire) {
            return;
        }
        one(own(number), &mut random).for_each(drop);
        STEPS[number].fetch_add(1, Ordering::AcqRel);
        if round % PAUSE == 0 {
            signals::send(&mut random, number, false);
        }
    }
}
