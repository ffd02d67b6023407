//! The fields of a VMCS at one moment.

use super::Capabilities;
use crate::vtx::field::{self, Field, Fields, Width};

const SLOTS: usize = 181;

/// Where the value of a field is kept: each group of fields, by width and type,
/// has its range. Read-only fields have none: VM entry does not look at them.
fn slot(encoding: u64) -> Option<usize> {
    let (start, room) = match encoding >> 10 {
        0x00 => (0, 8),
        0x02 => (8, 12),
        0x03 => (20, 8),
        0x08 => (28, 40),
        0x0a => (68, 16),
        0x0b => (84, 4),
        0x10 => (88, 20),
        0x12 => (108, 24),
        0x13 => (132, 1),
        0x18 => (133, 8),
        0x1a => (141, 24),
        0x1b => (165, 16),
        _ => return None,
    };
    let index = (encoding >> 1 & 0x1ff) as usize;
    (index < room).then_some(start + index)
}

/// The values of all fields that this CPU has and VM entry looks at. A field
/// that the CPU lacks counts as 0; no rule looks at one.
#[derive(Clone, Debug)]
pub struct Snapshot {
    values: [u64; SLOTS],
    /// The physical address of the VMCS itself.
    pub vmcs: u64,
}

impl Snapshot {
    /// Nothing but zeros.
    pub const fn blank(vmcs: u64) -> Self {
        Self {
            values: [0; SLOTS],
            vmcs,
        }
    }

    /// Takes a snapshot of the VMCS at `vmcs`. `read` is asked for each field,
    /// by its encoding, that a CPU with `capabilities` has.
    pub fn take(vmcs: u64, capabilities: &Capabilities, read: &mut dyn FnMut(u64) -> u64) -> Self {
        let mut snapshot = Self::blank(vmcs);
        for &(encoding, _) in field::ALL {
            let encoding = u64::from(encoding);
            if slot(encoding).is_some() && capabilities.has_field(encoding) {
                snapshot.set(encoding, read(encoding));
            }
        }
        snapshot
    }

    /// The value of a field, by its encoding.
    pub fn value(&self, encoding: u64) -> u64 {
        let kept = slot(encoding).and_then(|slot| self.values.get(slot));
        kept.copied().unwrap_or(0)
    }

    /// Changes the value of a field, by its encoding; what does not fit is cut.
    pub fn set(&mut self, encoding: u64, value: u64) {
        let value = match encoding >> 13 & 3 {
            0 => value & 0xffff,
            2 => value & 0xffff_ffff,
            _ => value,
        };
        let kept = slot(encoding).and_then(|slot| self.values.get_mut(slot));
        if let Some(kept) = kept {
            *kept = value;
        }
    }
}

impl Fields for Snapshot {
    fn read<W: Width, D>(&self, field: Field<W, D>) -> W::Value {
        W::from_raw(self.value(field.encoding()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_field_but_the_read_only_ones_has_a_slot_of_its_own() {
        let writable = field::ALL.iter().filter(|(e, _)| e >> 10 & 3 != 1);
        let slots = writable.map(|(e, _)| slot(u64::from(*e)).ok_or(e));
        let slots: Vec<usize> = slots.collect::<Result<_, _>>().unwrap();
        assert!(slots.iter().all(|slot| *slot < SLOTS), "{slots:?}");
        assert_eq!(slots.iter().collect::<BTreeSet<_>>().len(), slots.len());
    }
}
