//! What is counted and traced on each CPU, where every CPU finds it.

use crate::statistics::Statistics;
use crate::trace::Trace;
use crate::vm::{Cpu, Vm};
use machine::boot::CPUS_MAX;
use spin::Once;

/// Of one CPU, which alone writes it in `run`; any CPU may read, switch and
/// reset.
pub struct Counted {
    /// What its exits cost.
    pub statistics: Statistics,
    /// Its newest exits, if they are traced.
    pub trace: Trace,
}

/// Those of all CPUs. Each CPU notes its own, once, before its guest runs.
pub struct All([Once<&'static Counted>; CPUS_MAX as usize]);

impl Default for All {
    fn default() -> Self {
        Self([const { Once::new() }; CPUS_MAX as usize])
    }
}

impl All {
    /// Notes what is counted on `cpu`, where others find it.
    pub fn note<V>(&self, cpu: &Cpu<V>) {
        if let Some(place) = self.0.get(cpu.number as usize) {
            place.call_once(|| cpu.counted);
        }
    }

    /// What is counted on CPU `number`, if there is one that counts.
    fn get(&self, number: u64) -> Option<&'static Counted> {
        let place = self.0.get(usize::try_from(number).ok()?)?;
        place.get().copied()
    }
}

/// What is counted on CPU `number`, as `cpu` finds it; None if there is no such
/// CPU.
pub fn of<V, M>(vm: &Vm<M>, cpu: &Cpu<V>, number: u64) -> Option<&'static Counted> {
    if number == u64::from(cpu.number) {
        return Some(cpu.counted);
    }
    vm.counted.get(number)
}
