//! Work that the standard library has words for.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::{Failed, ensure};

/// What the last round computed; every other must compute the same.
static COMPUTED: AtomicU64 = AtomicU64::new(0);

/// Integers, floating point and vectors, whose registers the kernel saves when
/// it gives the CPU to others.
pub fn compute() -> Result<(), Failed> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut sums = [0.0_f64; 8];
    for round in 0..20_000_usize {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        sums[round % 8] += (state as f64).sqrt().sin();
    }
    let bits = sums
        .iter()
        .fold(state, |bits, sum| bits.rotate_left(7) ^ sum.to_bits());
    let before = COMPUTED.swap(bits, Ordering::Relaxed);
    ensure(before == 0 || before == bits, || {
        format!("computed {bits:#x}, and {before:#x} before")
    })
}

/// Starts a program and waits for it.
pub fn run_programs() -> Result<(), Failed> {
    let status = Command::new("true").status();
    let status = status.map_err(|error| error.to_string())?;
    ensure(status.success(), || format!("`true` ended with {status}"))
}

/// Sends a block around through a pipe and a socket.
pub fn pipes_and_sockets() -> Result<(), Failed> {
    let block: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    let returned = around(&block).map_err(|error| error.to_string())?;
    ensure(returned == block, || "a block came back changed".to_owned())
}

fn around(block: &[u8]) -> io::Result<Vec<u8>> {
    let (mut from_pipe, mut to_pipe) = io::pipe()?;
    let (mut near, mut far) = UnixStream::pair()?;
    let mut returned = vec![0; block.len()];
    thread::scope(|scope| {
        scope.spawn(move || to_pipe.write_all(block));
        scope.spawn(move || io::copy(&mut from_pipe, &mut far));
        near.read_exact(&mut returned)
    })?;
    Ok(returned)
}

/// Counts under a lock that several threads want.
pub fn threads() -> Result<(), Failed> {
    const THREADS: u64 = 4;
    const STEPS: u64 = 500;
    let count = Mutex::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..STEPS {
                    *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                    thread::yield_now();
                }
            });
        }
    });
    let count = count.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure(count == THREADS * STEPS, || {
        format!("{count} steps were counted")
    })
}

/// Writes a file, moves it, and reads it back.
pub fn files() -> Result<(), Failed> {
    let content: Vec<u8> = (0..300_000_u32).map(|n| (n / 7) as u8).collect();
    let read = through_a_file(&content).map_err(|error| error.to_string())?;
    ensure(read == content, || "a file changed".to_owned())
}

fn through_a_file(content: &[u8]) -> io::Result<Vec<u8>> {
    let name = format!("mixed-load-{}", process::id());
    let first = std::env::temp_dir().join(name);
    let second = first.with_extension("moved");
    fs::write(&first, content)?;
    fs::rename(&first, &second)?;
    let read = fs::read(&second)?;
    fs::remove_file(&second)?;
    Ok(read)
}
