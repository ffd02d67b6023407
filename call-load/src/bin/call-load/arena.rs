//! A buffer made of pieces of every kind of memory that Linux has, and what
//! must be in it.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use libc::{MAP_PRIVATE, MAP_SHARED, POSIX_FADV_DONTNEED};

use call_load::mapping::{Mapping, private};
use call_load::pattern::{PAGE, Random, difference, fill};
use call_load::{Failed, ensure};

/// What a piece is when the call finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Never touched.
    Fresh,
    /// Written by this process.
    Written,
    /// Written, then sent to the swap file.
    SwappedOut,
    /// Shared with the process that forked this one, until one of them writes.
    CopyOnWrite,
    /// A file's, until this process writes.
    PrivateFile,
    /// A file's.
    SharedFile,
}

/// How often each is chosen: what waits for the disk less often.
const KINDS: [Kind; 12] = [
    Kind::Fresh,
    Kind::Fresh,
    Kind::Fresh,
    Kind::Written,
    Kind::Written,
    Kind::SwappedOut,
    Kind::CopyOnWrite,
    Kind::CopyOnWrite,
    Kind::PrivateFile,
    Kind::PrivateFile,
    Kind::SharedFile,
    Kind::SharedFile,
];

/// Pages that a process leaves to those that it forks.
pub const INHERITED: usize = 256;
/// The seed of what is in them: the same in all processes, so that the kernel
/// may merge them.
pub const INHERITED_SEED: u64 = 0x1111;

/// Pages of a file that are never written; as many behind them are.
const FILE_PAGES: usize = 128;

/// What pieces are made from.
pub struct Sources {
    /// Pages from the process that forked this one.
    inherited: Mapping,
    /// How many of them are used up.
    used: usize,
    file: File,
    seed: u64,
    /// The next page of the file's written half.
    cursor: usize,
    /// Buffers that were given back: the library would map and unmap them each
    /// time, which costs more than the calls.
    spare: Vec<Vec<u8>>,
}

impl Sources {
    /// With a file `path` of its own and fresh pages to be inherited.
    pub fn new(path: &str, seed: u64) -> Result<Self, Failed> {
        let mut inherited = private(INHERITED)?;
        fill(inherited.bytes_mut(0, INHERITED * PAGE), INHERITED_SEED, 0);
        inherited.advise(0, INHERITED, libc::MADV_MERGEABLE)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map_err(|error| format!("{path}: {error}"))?;
        let mut bytes = vec![0; 2 * FILE_PAGES * PAGE];
        fill(&mut bytes, seed, 0);
        write_at(&file, &bytes, 0)?;
        file.sync_all().map_err(|error| error.to_string())?;
        Ok(Self {
            inherited,
            used: 0,
            file,
            seed,
            cursor: 0,
            spare: Vec::new(),
        })
    }

    fn buffer(&mut self, size: usize) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.resize(size, 0);
        buffer
    }

    /// Whether what others inherited is as it was.
    pub fn check_inherited(&self) -> Result<(), Failed> {
        let mut expected = [0; PAGE];
        for (page, found) in self.inherited.bytes().chunks(PAGE).enumerate() {
            fill(&mut expected, INHERITED_SEED, page);
            ensure(difference(found, &expected).is_none(), || {
                format!("inherited page {page} changed in the process that owns it")
            })?;
        }
        Ok(())
    }

    /// Has the kernel forget what it keeps of the file's half that is never
    /// written.
    pub fn forget_file(&self) {
        let file = self.file.as_raw_fd();
        // SAFETY: changes nothing but what the kernel keeps in memory.
        unsafe { libc::posix_fadvise(file, 0, (FILE_PAGES * PAGE) as _, POSIX_FADV_DONTNEED) };
    }
}

fn write_at(file: &File, bytes: &[u8], page: usize) -> Result<(), Failed> {
    let done = file.write_all_at(bytes, (page * PAGE) as u64);
    done.map_err(|error| error.to_string())
}

/// A piece of an arena: its kind, its first page, its pages, and where in its
/// file it is.
struct Piece {
    kind: Kind,
    first: usize,
    pages: usize,
    place: usize,
}

/// The buffer.
pub struct Arena {
    mapping: Mapping,
    pieces: Vec<Piece>,
    /// What must be in it.
    expected: Vec<u8>,
}

impl Arena {
    /// `pages` of memory, of one to three kinds.
    pub fn new(sources: &mut Sources, random: &mut Random, pages: usize) -> Result<Self, Failed> {
        let mut arena = Self {
            mapping: private(pages)?,
            pieces: Vec::new(),
            expected: sources.buffer(pages * PAGE),
        };
        let mut first = 0;
        while first < pages {
            let left = pages - first;
            let pages = if arena.pieces.len() == 2 {
                left
            } else {
                1 + random.below(left)
            };
            let kind = KINDS[random.below(KINDS.len())];
            arena.lay(sources, random, kind, [first, pages])?;
            first += pages;
        }
        Ok(arena)
    }

    fn lay(
        &mut self,
        sources: &mut Sources,
        random: &mut Random,
        kind: Kind,
        [first, pages]: [usize; 2],
    ) -> Result<(), Failed> {
        let range = first * PAGE..(first + pages) * PAGE;
        let expected = &mut self.expected[range];
        let mut place = 0;
        match kind {
            Kind::Fresh => {}
            Kind::Written | Kind::SwappedOut => {
                fill(expected, random.word(), 0);
                let bytes = self.mapping.bytes_mut(first * PAGE, pages * PAGE);
                bytes.copy_from_slice(expected);
                if kind == Kind::SwappedOut {
                    self.mapping.swap_out(first, pages)?;
                }
            }
            Kind::CopyOnWrite => {
                // What is left of the inheritance; then the piece is fresh.
                if sources.used + pages <= INHERITED {
                    place = sources.used;
                    sources.used += pages;
                    fill(expected, INHERITED_SEED, place);
                    self.mapping
                        .take([first, pages], &mut sources.inherited, place)?;
                }
            }
            Kind::PrivateFile => {
                place = random.below(FILE_PAGES - pages);
                fill(expected, sources.seed, place);
                let file = sources.file.as_raw_fd();
                let at = place * PAGE;
                self.mapping
                    .map_file([first, pages], MAP_PRIVATE, file, at)?;
            }
            Kind::SharedFile => {
                if sources.cursor + pages > FILE_PAGES {
                    sources.cursor = 0;
                }
                place = FILE_PAGES + sources.cursor;
                sources.cursor += pages;
                fill(expected, random.word(), 0);
                write_at(&sources.file, expected, place)?;
                let file = sources.file.as_raw_fd();
                let at = place * PAGE;
                self.mapping
                    .map_file([first, pages], MAP_SHARED, file, at)?;
            }
        }
        let piece = Piece {
            kind,
            first,
            pages,
            place,
        };
        self.pieces.push(piece);
        Ok(())
    }

    /// The address of its byte number `at`.
    pub const fn address(&self, at: usize) -> u64 {
        (self.mapping.address() + at) as u64
    }

    /// Its size in bytes.
    pub const fn size(&self) -> usize {
        self.expected.len()
    }

    /// What must be in it from byte number `at` on.
    pub fn expected(&self, at: usize, bytes: usize) -> &[u8] {
        &self.expected[at..at + bytes]
    }

    /// Expects `bytes` from byte number `at` on.
    pub fn expect(&mut self, at: usize, bytes: &[u8]) {
        self.expected[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Writes `bytes` to it, from number `at` on.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        self.expect(at, bytes);
        self.mapping
            .bytes_mut(at, bytes.len())
            .copy_from_slice(bytes);
    }

    /// Whether everything is in it that must be.
    pub fn holds(&self) -> Result<(), Failed> {
        let at = difference(self.mapping.bytes(), &self.expected);
        ensure(at.is_none(), || self.complaint(at.unwrap_or(0)))
    }

    /// Ends it: whether everything is in it that must be, and in the files
    /// behind it.
    pub fn end(self, sources: &mut Sources) -> Result<(), Failed> {
        self.holds()?;
        for piece in &self.pieces {
            self.check_file(piece, sources)?;
        }
        sources.spare.push(self.expected);
        Ok(())
    }

    fn complaint(&self, at: usize) -> Failed {
        let kinds: Vec<_> = self.pieces.iter().map(|p| (p.kind, p.pages)).collect();
        let word = at * 8..at * 8 + 8;
        let (found, expected) = (&self.mapping.bytes()[word.clone()], &self.expected[word]);
        format!("word {at} of {kinds:?} holds {found:x?}, and should hold {expected:x?}")
    }

    fn check_file(&self, piece: &Piece, sources: &mut Sources) -> Result<(), Failed> {
        let range = piece.first * PAGE..(piece.first + piece.pages) * PAGE;
        let mut expected = sources.buffer(range.len());
        match piece.kind {
            Kind::SharedFile => expected.copy_from_slice(&self.expected[range]),
            Kind::PrivateFile => fill(&mut expected, sources.seed, piece.place),
            _ => return Ok(()),
        }
        let mut found = sources.buffer(expected.len());
        let place = (piece.place * PAGE) as u64;
        let done = sources.file.read_exact_at(&mut found, place);
        done.map_err(|error| error.to_string())?;
        let same = difference(&found, &expected).is_none();
        sources.spare.extend([expected, found]);
        ensure(same, || {
            format!("the file behind {:?} is not as it should be", piece.kind)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(name: &str) -> Sources {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let sources = Sources::new(path.to_str().unwrap(), 5).unwrap();
        std::fs::remove_file(path).unwrap();
        sources
    }

    #[test]
    fn pieces_of_every_kind_hold_what_is_expected() {
        let mut sources = sources("every-kind");
        let mut random = Random::new(3);
        for pages in (1..=18).cycle().take(100) {
            let mut arena = Arena::new(&mut sources, &mut random, pages).unwrap();
            arena.write(PAGE / 2 + 3, b"between the pages");
            assert_eq!(arena.expected(PAGE / 2 + 11, 3), b"the");
            assert_eq!(arena.end(&mut sources), Ok(()));
        }
    }

    #[test]
    fn a_byte_that_changes_unasked_is_found() {
        let mut sources = sources("unasked");
        let mut random = Random::new(4);
        for at in [0, 1, PAGE - 1, PAGE, 3 * PAGE - 1] {
            let mut arena = Arena::new(&mut sources, &mut random, 3).unwrap();
            arena.mapping.bytes_mut(at, 1)[0] ^= 0x10;
            assert!(arena.end(&mut sources).is_err(), "{at}");
        }
    }
}
