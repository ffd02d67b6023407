//! Work for the memory management: page faults of every kind.

use std::io;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use libc::{
    MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, SA_SIGINFO, SIGSEGV, c_int,
    c_void, siginfo_t,
};

use crate::{Failed, ensure};

const PAGE: usize = 4096;
const PAGES: usize = 2048;

/// Fresh pages, of this value alone.
struct Mapping {
    first: NonNull<u8>,
}

impl Mapping {
    const SIZE: usize = PAGES * PAGE;

    fn new() -> Result<Self, Failed> {
        let protection = PROT_READ | PROT_WRITE;
        let flags = MAP_PRIVATE | MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping touches nothing that exists.
        let at = unsafe { libc::mmap(null_mut(), Self::SIZE, protection, flags, -1, 0) };
        let first = NonNull::new(at.cast()).filter(|_| at != MAP_FAILED);
        let first = first.ok_or_else(|| format!("mmap: {}", io::Error::last_os_error()))?;
        Ok(Self { first })
    }

    /// The word at the start of `page`, which is below [`PAGES`].
    fn word(&self, page: usize) -> &AtomicUsize {
        assert!(page < PAGES);
        // SAFETY: the word lies in the mapping, which lives as long as `self`,
        // is aligned, holds zeros at first, and is only reached as an atomic.
        unsafe { &*self.first.as_ptr().add(page * PAGE).cast() }
    }

    fn allow(&self, protection: c_int) -> Result<(), Failed> {
        let at = self.first.as_ptr().cast();
        // SAFETY: the mapping is ours; who writes while it is read-only gets a
        // signal, which `protect` expects.
        let done = unsafe { libc::mprotect(at, Self::SIZE, protection) };
        ensure(done == 0, || {
            format!("mprotect: {}", io::Error::last_os_error())
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it is left. If it
        // stays, only memory is lost.
        unsafe { libc::munmap(self.first.as_ptr().cast(), Self::SIZE) };
    }
}

/// Maps memory, touches every page, and finds there what it wrote.
pub fn touch() -> Result<(), Failed> {
    let mapping = Mapping::new()?;
    for page in 0..PAGES {
        let before = mapping.word(page).swap(page ^ 0x5a5a, Ordering::Relaxed);
        ensure(before == 0, || {
            format!("fresh page {page} holds {before:#x}")
        })?;
    }
    holds(&mapping, |page| page ^ 0x5a5a)
}

fn holds(mapping: &Mapping, value: impl Fn(usize) -> usize) -> Result<(), Failed> {
    for page in 0..PAGES {
        let found = mapping.word(page).load(Ordering::Relaxed);
        ensure(found == value(page), || {
            format!("page {page} holds {found:#x}")
        })?;
    }
    Ok(())
}

/// The read-only memory whose faults [`unprotect`] expects. Set by [`protect`].
static PROTECTED: AtomicPtr<u8> = AtomicPtr::new(null_mut());
/// Faults so far. Counted by [`unprotect`].
static FAULTS: AtomicUsize = AtomicUsize::new(0);

/// Writes to read-only pages, each of which becomes writable in a signal
/// handler; then the instruction runs again.
pub fn protect() -> Result<(), Failed> {
    let mapping = Mapping::new()?;
    PROTECTED.store(mapping.first.as_ptr(), Ordering::Relaxed);
    handle(SIGSEGV, unprotect);
    let before = FAULTS.load(Ordering::Relaxed);
    mapping.allow(PROT_READ)?;
    for page in 0..PAGES {
        mapping.word(page).store(page + 1, Ordering::Relaxed);
    }
    let faults = FAULTS.load(Ordering::Relaxed) - before;
    ensure(faults == PAGES, || {
        format!("{faults} faults at {PAGES} pages")
    })?;
    holds(&mapping, |page| page + 1)
}

pub type Handler = extern "C" fn(c_int, *const siginfo_t, *const c_void);

/// Makes `handler` the one of `signal`.
pub fn handle(signal: c_int, handler: Handler) {
    // SAFETY: all zeros is a valid sigaction; the handler has the type that
    // SA_SIGINFO wants, and uses nothing but atomics and system calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = SA_SIGINFO;
        libc::sigaction(signal, &action, null_mut());
    }
}

extern "C" fn unprotect(_: c_int, info: *const siginfo_t, _: *const c_void) {
    // SAFETY: the kernel passes a valid structure, and SIGSEGV has an address.
    let at = unsafe { (*info).si_addr() } as usize;
    let first = PROTECTED.load(Ordering::Relaxed) as usize;
    if !(first..first + Mapping::SIZE).contains(&at) {
        // SAFETY: ends the process, as the fault would have without a handler.
        unsafe { libc::_exit(139) };
    }
    FAULTS.fetch_add(1, Ordering::Relaxed);
    let page = (at & !(PAGE - 1)) as *mut c_void;
    // SAFETY: the page belongs to the mapping, as was just seen.
    unsafe { libc::mprotect(page, PAGE, PROT_READ | PROT_WRITE) };
}

/// Forks: the child changes its copy of every page, and ours stays.
pub fn fork() -> Result<(), Failed> {
    let mapping = Mapping::new()?;
    for page in 0..PAGES {
        mapping.word(page).store(page, Ordering::Relaxed);
    }
    // SAFETY: the child only writes to memory of its own and leaves by `_exit`,
    // whatever other threads were doing.
    let child = unsafe { libc::fork() };
    if child == 0 {
        for page in 0..PAGES {
            mapping.word(page).store(!page, Ordering::Relaxed);
        }
        let status = c_int::from(holds(&mapping, |page| !page).is_err());
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(status) };
    }
    ensure(child > 0, || {
        format!("fork: {}", io::Error::last_os_error())
    })?;
    let mut status = 0;
    // SAFETY: waits for the child of just now, which nobody else waits for.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    ensure(waited == child && status == 0, || {
        format!("the child ended with {status:#x}")
    })?;
    holds(&mapping, |page| page)
}
