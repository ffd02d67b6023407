//! The matrix: every shape of the entries with every setting of what else
//! decides, numbered, so that a share of them can be taken.

use super::mode::{Features, Mode};
use super::shape::{self, Shape};
use super::space::LARGE;
use crate::random::Random;
use alloc::vec::Vec;

/// What is done to the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A read.
    Read,
    /// A write.
    Write,
    /// An instruction fetch.
    Fetch,
}

/// One case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The paging mode.
    pub mode: Mode,
    /// The level whose entry is the page: 1, or more for a large one.
    pub size: usize,
    /// What is wrong with the entries.
    pub shape: Shape,
    /// CR0.WP.
    pub write_protect: bool,
    /// CR4.SMEP.
    pub smep: bool,
    /// CR4.SMAP.
    pub smap: bool,
    /// EFER.NXE.
    pub no_execute: bool,
    /// CR4.PSE.
    pub large_pages: bool,
    /// With CR4.PKE: the two bits of the page's key in PKRU.
    pub key_rights: Option<u32>,
    /// RFLAGS.AC.
    pub alignment_check: bool,
    /// CPL.
    pub level: u8,
    /// What is done.
    pub access: Access,
    /// A read by `resolve`, which knows the length only when it has read.
    pub by_name: bool,
    /// The call asks for the fault.
    pub may_fault: bool,
    /// Where in the page.
    pub offset: u64,
    /// The page's key.
    pub key: u64,
}

impl Case {
    /// A read of a small page that allows everything, by a kernel.
    pub fn plain(mode: Mode) -> Self {
        Self {
            mode,
            size: 1,
            shape: Shape::default(),
            write_protect: true,
            smep: false,
            smap: false,
            no_execute: true,
            large_pages: true,
            key_rights: None,
            alignment_check: false,
            level: 0,
            access: Access::Read,
            by_name: false,
            may_fault: false,
            offset: 0x123,
            key: 0,
        }
    }
}

/// All cases of a mode and a page size.
pub struct Matrix<'a> {
    mode: Mode,
    size: usize,
    features: &'a Features,
    accesses: &'a [Access],
    shapes: Vec<Shape>,
}

/// A number as digits of which each has its own base.
struct Digits(u64);

impl Digits {
    fn next(&mut self, base: u64) -> u64 {
        let digit = self.0 % base;
        self.0 /= base;
        digit
    }

    /// One of two, or always no.
    fn flag(&mut self, free: bool) -> bool {
        free && self.next(2) != 0
    }
}

impl<'a> Matrix<'a> {
    /// See above.
    pub fn new(mode: Mode, size: usize, features: &'a Features, accesses: &'a [Access]) -> Self {
        Self {
            mode,
            size,
            features,
            accesses,
            shapes: shape::all(mode, size, features),
        }
    }

    /// With 4 KiB pages 32-bit paging may do without the extension.
    fn may_lack_large_pages(&self) -> bool {
        self.size == 1 && !self.mode.is_long()
    }

    /// Whether the entry above a 4 KiB page would be one of 4 MiB with the
    /// extension.
    fn is_ambiguous(&self, shape: &Shape) -> bool {
        self.mode == Mode::Narrow && self.size == 1 && shape.flips[1] & LARGE != 0
    }

    /// PKRU has four settings for a key; outside of long mode it must not
    /// matter.
    fn key_settings(&self) -> u64 {
        match (self.features.keys, self.mode.is_long()) {
            (false, _) => 1,
            (true, true) => 5,
            (true, false) => 2,
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        let features = self.features;
        let flags = [
            features.smep,
            features.smap,
            features.no_execute,
            self.may_lack_large_pages(),
        ];
        // WP, AC, and whether at CPL 3.
        let always = 3;
        let free = always + flags.iter().filter(|flag| **flag).count();
        let settings = (self.accesses.len() as u64) << free;
        settings * self.key_settings() * self.shapes.len() as u64
    }

    /// Case `number`. What hardly matters is drawn.
    pub fn case(&self, number: u64) -> Case {
        let features = self.features;
        let mut digits = Digits(number);
        let mut random = Random::of(self.mode as u64 * 8 + self.size as u64, number);
        let user = digits.flag(true);
        let level = if user {
            3
        } else {
            random.one_of(&[0, 0, 1, 2]) as u8
        };
        let access = self.accesses[digits.next(self.accesses.len() as u64) as usize];
        let shape = self.shapes[digits.next(self.shapes.len() as u64) as usize];
        let fewer_pages = digits.flag(self.may_lack_large_pages());
        Case {
            mode: self.mode,
            size: self.size,
            level,
            access,
            write_protect: digits.flag(true),
            smep: digits.flag(features.smep),
            smap: digits.flag(features.smap),
            no_execute: digits.flag(features.no_execute),
            large_pages: !(fewer_pages || self.is_ambiguous(&shape)),
            alignment_check: digits.flag(true),
            key_rights: match digits.next(self.key_settings()) {
                0 => None,
                setting => Some(4 - setting as u32),
            },
            shape,
            by_name: random.below(2) == 0,
            may_fault: random.below(2) == 0,
            offset: random.below(0x1000),
            key: 1 + random.below(15),
        }
    }
}
