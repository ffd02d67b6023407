//! Which memory a call by way of /dev/underlay can use: whatever the program
//! itself can, present or not, and nothing else. Copies between all kinds of
//! it, and says so.

use abi::Errno;
use abi::call::MEMORY_COPY;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use underlay::device::Device;
use underlay::{Failure, Reply};

const PAGE: usize = 4096;
const PAGES: usize = 4;
const SIZE: usize = PAGES * PAGE;
const KINDS: usize = 5;
/// A copy begins and ends within a page.
const OFFSET: usize = 100;
const LENGTH: usize = SIZE - 2 * PAGE;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Memory of a kind that a program may have.
struct Memory {
    kind: &'static str,
    address: *mut u8,
}

impl Memory {
    fn at(&self) -> u64 {
        self.address as u64 + OFFSET as u64
    }

    /// What a copy from it must bring.
    fn bytes(&self) -> Vec<u8> {
        // SAFETY: this is asked of memory that `map` made readable, and that
        // nobody else changes.
        unsafe { std::slice::from_raw_parts(self.address.add(OFFSET), LENGTH) }.to_vec()
    }
}

/// Maps [`SIZE`] bytes, of `file` if there is one.
fn map(kind: &'static str, file: Option<&File>, protection: i32, flags: i32) -> Outcome<Memory> {
    let (descriptor, flags) = match file {
        Some(file) => (file.as_raw_fd(), flags),
        None => (-1, flags | libc::MAP_ANONYMOUS),
    };
    let nowhere = std::ptr::null_mut();
    // SAFETY: the kernel chooses a place where nothing is.
    let address = unsafe { libc::mmap(nowhere, SIZE, protection, flags, descriptor, 0) };
    if address == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error().into());
    }
    let address = address.cast();
    Ok(Memory { kind, address })
}

const READ: i32 = libc::PROT_READ;
const WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// A new file of `bytes` that tell their places.
fn file(bytes: usize) -> Outcome<File> {
    let path = format!("/tmp/device-memory-{}", std::process::id());
    let mut options = File::options();
    let mut file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(path)?;
    let content: Vec<u8> = (0..bytes).map(|at| (at / 3) as u8).collect();
    file.write_all(&content)?;
    Ok(file)
}

/// Each is a page fault of its own kind when it is read or written.
fn good(file: &File) -> Outcome<[Memory; KINDS]> {
    let copied = map("copied when written", None, WRITE, libc::MAP_PRIVATE)?;
    for at in 0..SIZE {
        // SAFETY: it was just mapped for writing, with this size.
        unsafe { copied.address.add(at).write((at / 5) as u8) };
    }
    Ok([
        map("new", None, WRITE, libc::MAP_PRIVATE)?,
        copied,
        map("a file's", Some(file), WRITE, libc::MAP_PRIVATE)?,
        map("a shared file's", Some(file), WRITE, libc::MAP_SHARED)?,
        map("a read-only file's", Some(file), READ, libc::MAP_SHARED)?,
    ])
}

fn bad(short: &File) -> Outcome<[Memory; KINDS]> {
    let unmapped = map("unmapped", None, READ, libc::MAP_PRIVATE)?;
    // SAFETY: nobody uses it.
    unsafe { libc::munmap(unmapped.address.cast(), SIZE) };
    let nowhere = |kind, address: usize| Memory {
        kind,
        address: address as *mut u8,
    };
    Ok([
        map("forbidden", None, libc::PROT_NONE, libc::MAP_PRIVATE)?,
        unmapped,
        map("behind a file's end", Some(short), WRITE, libc::MAP_SHARED)?,
        nowhere("the kernel's", kernel_code()?),
        nowhere("no address", 1 << 63),
    ])
}

/// Where the kernel's code begins: memory that is there, and not the program's.
fn kernel_code() -> Outcome<usize> {
    let symbols = std::fs::read_to_string("/proc/kallsyms")?;
    let line = symbols.lines().find(|line| line.ends_with(" _stext"));
    let address = line.and_then(|line| line.split(' ').next());
    let address = usize::from_str_radix(address.unwrap_or("0"), 16)?;
    if address == 0 {
        return Err("/proc/kallsyms does not say where the kernel is: are you root?".into());
    }
    Ok(address)
}

fn copy(device: &Device, into: &Memory, from: &Memory) -> std::io::Result<Reply> {
    let arguments = [into.at(), from.at(), LENGTH as u64, 0, 0];
    // SAFETY: the service writes `LENGTH` bytes there, which no reference
    // names, and is refused where nothing is.
    unsafe { device.call(MEMORY_COPY, arguments) }
}

/// Copies between two kinds, both freshly made: none of their pages was used.
fn copy_between(device: &Device, into: usize, from: usize) -> Outcome<()> {
    let [own, other] = [file(SIZE)?, file(SIZE)?];
    let (sources, targets) = (good(&own)?, good(&other)?);
    let (source, target) = (&sources[from], &targets[into]);
    // SAFETY: no other thread runs in this program.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // The pages of both belong to two programs while this one waits.
        loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
    }
    let reply = copy(device, target, source);
    // SAFETY: the child is ours, and is not waited for elsewhere.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    let done = reply?.result()?;
    if done != LENGTH as u64 || target.bytes() != source.bytes() {
        return Err(format!("from {} into {}: WRONG", source.kind, target.kind).into());
    }
    Ok(())
}

/// A call that reads or writes what cannot be is an error that names the
/// address.
fn refuse(device: &Device, into: &Memory, from: &Memory, bad: &Memory) -> Outcome<()> {
    let reply = copy(device, into, from)?;
    let address = reply.results[0];
    let inside = (bad.at()..bad.at() + LENGTH as u64).contains(&address);
    if reply.result() != Err(Failure::Errno(Errno::BadAddress)) || !inside {
        return Err(format!("{}: WRONG: {reply:x?}", bad.kind).into());
    }
    Ok(())
}

fn main() -> Outcome<()> {
    let device = Device::open()?;
    let mut copies = 0;
    for from in 0..KINDS {
        // The last kind cannot be written.
        for into in 0..KINDS - 1 {
            copy_between(&device, into, from)?;
            copies += 1;
        }
    }
    println!("{copies} copies between {KINDS} kinds of memory: all right");

    let (whole, short) = (file(SIZE)?, file(1)?);
    let [new, .., read_only] = good(&whole)?;
    refuse(&device, &read_only, &new, &read_only)?;
    let bad = bad(&short)?;
    for memory in &bad {
        refuse(&device, memory, &new, memory)?;
        refuse(&device, &new, memory, memory)?;
        println!("{}: refused", memory.kind);
    }
    if new.bytes().iter().any(|byte| *byte != 0) {
        return Err("a call that failed has written: WRONG".into());
    }
    Ok(())
}
