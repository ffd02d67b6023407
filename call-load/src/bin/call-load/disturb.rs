//! What goes on beside the calls: processes that fork and end, take memory,
//! and have the kernel move pages; and threads that unmap and protect.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::arena::INHERITED_SEED;
use call_load::Failed;
use call_load::mapping::private;
use call_load::pattern::{PAGE, Random, difference, fill};
use call_load::processes::in_child;

/// One round of something.
pub type Disturbance = fn(&mut Random) -> Result<(), Failed>;

/// Each in a process of its own.
pub const DISTURBANCES: [Disturbance; 3] = [fork_and_end, take_memory, move_pages];

/// Lets the kernel merge equal pages, and look for them often.
pub fn merge_pages() -> Result<(), Failed> {
    let set = |name: &str, value: &str| {
        let path = format!("/sys/kernel/mm/ksm/{name}");
        fs::write(&path, value).map_err(|error| format!("{path}: {error}"))
    };
    set("pages_to_scan", "100")?;
    set("sleep_millisecs", "200")?;
    set("run", "1")
}

/// The child's writes must not be seen here.
fn fork_and_end(random: &mut Random) -> Result<(), Failed> {
    const PAGES: usize = 16;
    thread::sleep(Duration::from_millis(200));
    let mut mapping = private(PAGES)?;
    let (ours, theirs) = (random.word(), random.word());
    fill(mapping.bytes_mut(0, PAGES * PAGE), ours, 0);
    in_child(|| {
        fill(mapping.bytes_mut(0, PAGES * PAGE), theirs, 0);
        holds(mapping.pages(0, PAGES), theirs, 0)
    })?;
    holds(mapping.pages(0, PAGES), ours, 0)
}

/// More than is free, so that others must give up theirs; and comes back to it.
fn take_memory(random: &mut Random) -> Result<(), Failed> {
    const PAGES: usize = 24 << 20 >> 12;
    const TIMES: usize = 128;
    const AT_ONCE: usize = 64;
    let mut mapping = private(PAGES)?;
    let seed = random.word();
    fill(mapping.bytes_mut(0, PAGES * PAGE), seed, 0);
    for _ in 0..TIMES {
        thread::sleep(Duration::from_millis(100));
        let first = random.below(PAGES - AT_ONCE);
        holds(mapping.pages(first, AT_ONCE), seed, first)?;
    }
    Ok(())
}

/// Has the kernel push all movable pages together.
fn move_pages(_: &mut Random) -> Result<(), Failed> {
    const FILE: &str = "/proc/sys/vm/compact_memory";
    thread::sleep(Duration::from_millis(2000));
    fs::write(FILE, "1").map_err(|error| format!("{FILE}: {error}"))
}

/// Whether pages hold what `seed` has from page number `first` on.
fn holds(bytes: &[u8], seed: u64, first: usize) -> Result<(), Failed> {
    let mut expected = [0; PAGE];
    for (page, found) in (first..).zip(bytes.chunks(PAGE)) {
        fill(&mut expected, seed, page);
        if difference(found, &expected).is_some() {
            return Err(format!("page {page} of a disturber's own changed"));
        }
    }
    Ok(())
}

/// Maps, merges, protects and unmaps in the caller's address space until
/// `done`; so its page tables change, and are freed, all the time.
pub fn remap(done: &AtomicBool) -> Result<(), Failed> {
    const PAGES: usize = 4;
    while !done.load(Ordering::Relaxed) {
        let mut mapping = private(PAGES)?;
        fill(mapping.bytes_mut(0, PAGES * PAGE), INHERITED_SEED, 0);
        mapping.advise(0, PAGES, libc::MADV_MERGEABLE)?;
        thread::sleep(Duration::from_millis(20));
        mapping.advise(0, PAGES / 2, libc::MADV_DONTNEED)?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
