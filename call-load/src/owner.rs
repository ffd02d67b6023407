//! What the machine's owner may ask, whose token root can read.

use abi::call::TRANSFER_MAX;
use underlay::Underlay;

use crate::Failed;

/// The owner.
pub struct Owner {
    underlay: Underlay,
    cpus: u32,
}

impl Owner {
    /// Reads the token.
    pub fn new(underlay: Underlay) -> Result<Self, Failed> {
        let underlay = underlay.as_owner().map_err(|reason| reason.to_string())?;
        let cpus = underlay.info().map_err(|error| error.to_string())?.cpus;
        Ok(Self { underlay, cpus })
    }

    /// Calls of any kind that reached the hypervisor on any CPU, those among them
    /// that raised a fault and were made again.
    pub fn calls(&self) -> Result<u64, Failed> {
        (0..self.cpus).map(|cpu| self.calls_on(cpu)).sum()
    }

    /// How many calls it is to ask for that.
    pub fn questions(&self) -> u64 {
        self.cpus.into()
    }

    fn calls_on(&self, cpu: u32) -> Result<u64, Failed> {
        let mut buffer = vec![0; TRANSFER_MAX];
        let exits = self.underlay.statistics_read(&mut buffer, 0, cpu);
        let mut rows = exits.map_err(|error| error.to_string())?.records;
        let calls = rows.find(|row| row.kind.as_str() == "hypercall");
        Ok(calls.map_or(0, |row| row.count))
    }

    /// How often `name` was noted.
    pub fn oddity(&self, name: &str) -> Result<u64, Failed> {
        let rows = self
            .underlay
            .oddities()
            .map_err(|error| error.to_string())?;
        let named = rows.iter().find(|row| row.name.as_str() == name);
        let named = named.ok_or_else(|| format!("nothing is called {name}"))?;
        Ok(named.count)
    }
}
