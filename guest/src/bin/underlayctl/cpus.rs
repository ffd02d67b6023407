//! One CPU after the other: services that tell of exits tell of those of the
//! CPU that calls.

use crate::trouble::Trouble;
use std::mem::{MaybeUninit, size_of};

/// Does `each` on every CPU on which this program may run.
pub fn each<T>(mut each: impl FnMut() -> Result<T, Trouble>) -> Result<Vec<T>, Trouble> {
    let Some(all) = Set::of_this_thread() else {
        return each().map(|one| vec![one]);
    };
    let _restored = Restored(all);
    let cpus = (0..libc::CPU_SETSIZE as usize).filter(|cpu| all.has(*cpu));
    cpus.map(|cpu| {
        Set::only(cpu).apply()?;
        each()
    })
    .collect()
}

/// A set of CPUs.
#[derive(Clone, Copy)]
struct Set(libc::cpu_set_t);

/// Gives the thread its CPUs back, whatever happened.
struct Restored(Set);

impl Drop for Restored {
    fn drop(&mut self) {
        // The set was the kernel's own.
        let _ = self.0.apply();
    }
}

impl Set {
    /// None where the kernel has more CPUs than a set holds.
    fn of_this_thread() -> Option<Self> {
        let mut set = Self::empty();
        // SAFETY: the set has the size that is given, and outlives the call.
        let status =
            unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set.0) };
        (status == 0).then_some(set)
    }

    fn empty() -> Self {
        // SAFETY: a set is an array of numbers, for which zero is valid.
        Self(unsafe { MaybeUninit::zeroed().assume_init() })
    }

    fn only(cpu: usize) -> Self {
        let mut set = Self::empty();
        // SAFETY: `cpu` is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(cpu, &mut set.0) };
        set
    }

    fn has(&self, cpu: usize) -> bool {
        // SAFETY: `cpu` is below CPU_SETSIZE.
        unsafe { libc::CPU_ISSET(cpu, &self.0) }
    }

    fn apply(&self) -> Result<(), Trouble> {
        // SAFETY: the set has the size that is given, and is only read.
        let status = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &self.0) };
        match status {
            0 => Ok(()),
            _ => Err(Trouble::other(format!(
                "cannot choose a CPU: {}",
                std::io::Error::last_os_error()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cpu_is_visited_once_and_the_thread_is_free_afterwards() {
        let before = Set::of_this_thread().unwrap();
        // SAFETY: it takes nothing and only returns a number.
        let visited = each(|| Ok(unsafe { libc::sched_getcpu() } as usize)).unwrap();
        let all: Vec<usize> = (0..1024).filter(|cpu| before.has(*cpu)).collect();
        assert_eq!(visited, all);
        let after = Set::of_this_thread().unwrap();
        assert!((0..1024).all(|cpu| after.has(cpu) == before.has(cpu)));
    }
}
