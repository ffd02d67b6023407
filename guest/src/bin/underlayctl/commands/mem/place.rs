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
        let call = |into: &mut [u8]| match self {
            Self::Physical => underlay.memory_read_physical(into, address),
            Self::Space(root) => underlay.memory_read_space(into, address, *root),
            Self::Process(_) => Ok(0),
        };
        if let Self::Process(pid) = self {
            let frames = pagemap::frames(*pid, address, into.len())?;
            return Ok(underlay.memory_read_pages(into, &frames.pages, address % PAGE)?);
        }
        let done = call(into).or_else(|error| match before_hole(&error, address) {
            Some(length) if length < into.len() => call(&mut into[..length]),
            _ => Err(error),
        });
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
        let (offset, root) = match self {
            Self::Process(pid) => {
                let frames = pagemap::frames(*pid, address, 1)?;
                let page = frames.pages.first().copied().unwrap_or(0);
                let offset = address % PAGE;
                return Ok(Translated {
                    physical: page + offset,
                    left: PAGE - offset,
                });
            }
            Self::Space(root) => (address, *root),
            Self::Physical => return Err(Trouble::usage("it is physical already")),
        };
        Ok(underlay.memory_translate(offset, root)?)
    }
}

/// How many bytes lie between `address` and the one that made the call fail.
fn before_hole(error: &Error, address: u64) -> Option<usize> {
    let length = error.address.checked_sub(address)?;
    let length = usize::try_from(length).ok().filter(|length| *length > 0);
    length.filter(|_| error.is(Errno::BadAddress))
}
