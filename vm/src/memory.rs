//! Memory of a VM as its program sees it: pieces of the pool, one behind the
//! other in this program's address space.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

/// Memory that a VM was given. The VM may change what it was shown of it at any
/// moment, so it is copied in and out, and never borrowed.
#[derive(Debug)]
pub struct Memory {
    at: NonNull<u8>,
    size: usize,
    /// Where the pieces are, in the order in which they lie here.
    pub(crate) pieces: Vec<u64>,
}

// SAFETY: it is memory of the whole process, and every access a copy that
// expects others to write at the same time.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps pieces of `piece` bytes each.
    pub(crate) fn map(pieces: Vec<u64>, piece: usize) -> io::Result<Self> {
        let device = File::options().read(true).write(true).open("/dev/mem")?;
        let size = pieces.len() * piece;
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: the kernel chooses a place where nothing is.
        let room = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_NONE,
                anonymous,
                -1,
                0,
            )
        };
        if room == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(at) = NonNull::new(room.cast::<u8>()) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        let memory = Self { at, size, pieces };
        for (number, from) in memory.pieces.iter().enumerate() {
            let offset = libc::off_t::try_from(*from).map_err(io::Error::other)?;
            let both = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            // SAFETY: the place is within the room that was just taken.
            let mapped = unsafe {
                let place = memory.at.as_ptr().add(number * piece).cast();
                libc::mmap(place, piece, both, flags, device.as_raw_fd(), offset)
            };
            if mapped == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(memory)
    }

    /// Where it is in this program, for as long as this value lives. What reads
    /// or writes there must expect that the VM does so at the same time.
    pub fn as_ptr(&self) -> *mut u8 {
        self.at.as_ptr()
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Writes `bytes` at `offset`, by words where they are aligned there.
    ///
    /// # Panics
    ///
    /// If they do not fit.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let (edge, words) = self.parts(offset, bytes.len());
        let (before, rest) = bytes.split_at(edge);
        let (middle, after) = rest.as_chunks::<8>();
        assert_eq!(middle.len(), words);
        let mut at = offset;
        for byte in before {
            self.put(&mut at, *byte);
        }
        for word in middle {
            self.put(&mut at, u64::from_le_bytes(*word));
        }
        for byte in after {
            self.put(&mut at, *byte);
        }
    }

    /// Fills `bytes` from `offset`, by words where they are aligned there.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        let (edge, words) = self.parts(offset, bytes.len());
        let (before, rest) = bytes.split_at_mut(edge);
        let (middle, after) = rest.as_chunks_mut::<8>();
        assert_eq!(middle.len(), words);
        let mut at = offset;
        for byte in before {
            *byte = self.get(&mut at);
        }
        for word in middle {
            *word = self.get::<u64>(&mut at).to_le_bytes();
        }
        for byte in after {
            *byte = self.get(&mut at);
        }
    }

    /// Bytes before the first aligned word of the `size` at `offset`, and how many
    /// words there are. All are within the memory.
    fn parts(&self, offset: usize, size: usize) -> (usize, usize) {
        let end = offset.checked_add(size);
        assert!(end.is_some_and(|end| end <= self.size), "beyond the memory");
        let edge = (offset.next_multiple_of(8) - offset).min(size);
        (edge, (size - edge) / 8)
    }

    fn put<T: Word>(&self, at: &mut usize, value: T) {
        // SAFETY: within the mapping, which `parts` was asked, and aligned; a
        // volatile write expects others.
        unsafe { self.at.as_ptr().add(*at).cast::<T>().write_volatile(value) };
        *at += size_of::<T>();
    }

    fn get<T: Word>(&self, at: &mut usize) -> T {
        // SAFETY: as for `put`.
        let value = unsafe { self.at.as_ptr().add(*at).cast::<T>().read_volatile() };
        *at += size_of::<T>();
        value
    }
}

/// What is copied at once. Any bytes are one.
trait Word {}
impl Word for u8 {}
impl Word for u64 {}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's alone, and nothing borrows it.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.size) };
    }
}
