//! The VM's memory, as the crates for device models want it.

use anyhow::{Context, Result};
use underlay_vm::{Memory, Rights, Vm};
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

/// Memory of the VM's, from 0 on.
pub struct Ram {
    /// For device models.
    pub view: GuestMemoryMmap,
    /// What `view` looks at, if it has none of its own. Dropped behind it.
    _memory: Option<Memory>,
}

impl Ram {
    /// Gives `vm` `bytes` of memory.
    pub fn new(vm: &mut Vm, bytes: u64) -> Result<Self> {
        let memory = vm.memory(bytes).context("memory for the VM")?;
        vm.map(0, &memory, Rights::ALL)?;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let (at, size) = (memory.as_ptr(), memory.size());
        // SAFETY: `memory` is such a mapping, of so many bytes, and lives as long
        // as what looks at it.
        let region = unsafe { MmapRegion::build_raw(at, size, protection, flags) }?;
        let region = GuestRegionMmap::new(region, GuestAddress(0));
        let region = region.context("memory beyond the address space")?;
        let view = GuestMemoryMmap::from_regions(vec![region])?;
        Ok(Self {
            view,
            _memory: Some(memory),
        })
    }

    /// Memory of no VM's.
    #[cfg(test)]
    pub fn of_nobody(bytes: usize) -> Self {
        let view = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), bytes)]);
        Self {
            view: view.expect("memory for a test"),
            _memory: None,
        }
    }
}
