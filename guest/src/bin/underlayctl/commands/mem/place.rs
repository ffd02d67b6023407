//! Where memory is: guest-physical, in an address space, or in a process.

use super::pagemap::{self, Frames, PAGE};
use crate::trouble::Trouble;
use underlay::services::Translated;
use underlay::{Errno, Error, Underlay};

/// Whose addresses are meant.
pub enum Place {
    /// Guest-physical ones.
    Physical,
    /// Linear ones of the address space with these tables.
    Space(u64),
    /// Linear ones of this process.
    Process(u64),
}

impl Place {
    /// Reads what one call brings; of a stretch with a hole what lies before
    /// the hole.
    pub fn read(
        &self,
        underlay: Underlay,
        address: u64,
        into: &mut [u8],
    ) -> Result<usize, Trouble> {
        let error = match self.read_whole(underlay, address, into) {
            Err(Trouble::Call(error)) => error,
            done => return done,
        };
        match before_hole(&error, address) {
            Some(length) if length < into.len() => {
                self.read_whole(underlay, address, &mut into[..length])
            }
            _ => Err(error.into()),
        }
    }

    fn read_whole(
        &self,
        underlay: Underlay,
        address: u64,
        into: &mut [u8],
    ) -> Result<usize, Trouble> {
        let done = match self {
            Self::Physical => underlay.memory_read_physical(into, address),
            Self::Space(root) => underlay.memory_read_space(into, address, *root),
            Self::Process(pid) => {
                let frames = pagemap::frames(*pid, address, into.len())?;
                underlay.memory_read_pages(into, &frames.pages, address % PAGE)
            }
        };
        Ok(done?)
    }

    /// Writes what one call takes.
    pub fn write(&self, underlay: Underlay, address: u64, from: &[u8]) -> Result<usize, Trouble> {
        // SAFETY: nothing of this program's own lies where a person sends it
        // to write, unless they mean it to.
        let done = unsafe {
            match self {
                Self::Physical => underlay.memory_write_physical(address, from),
                Self::Space(root) => underlay.memory_write_space(address, *root, from),
                Self::Process(pid) => {
                    let Frames { pages, shared } = pagemap::frames(*pid, address, from.len())?;
                    if let Some(page) = shared {
                        return Err(Trouble::other(format!(
                            "the page at {page:#x} is not the process' alone: others would see what is written"
                        )));
                    }
                    underlay.memory_write_pages(&pages, address % PAGE, from)
                }
            }
        };
        Ok(done?)
    }

    /// Where `address` lies.
    pub fn translate(&self, underlay: Underlay, address: u64) -> Result<Translated, Trouble> {
        let offset = address % PAGE;
        let page = match self {
            Self::Physical => address - offset,
            Self::Space(root) => return Ok(underlay.memory_translate(address, *root)?),
            Self::Process(pid) => {
                let frames = pagemap::frames(*pid, address, 1)?;
                frames.pages.first().copied().unwrap_or(0)
            }
        };
        Ok(Translated {
            physical: page + offset,
            left: PAGE - offset,
        })
    }
}

/// How many bytes lie between `address` and the one that made the call fail.
fn before_hole(error: &Error, address: u64) -> Option<usize> {
    let length = error.address.checked_sub(address)?;
    let length = usize::try_from(length).ok().filter(|length| *length > 0);
    length.filter(|_| error.is(Errno::BadAddress))
}
