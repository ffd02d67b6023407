//! What the machine's owner may ask, whose token root can read.

use abi::call::TRANSFER_MAX;
use underlay::Underlay;

use crate::Failed;

/// The owner.
pub struct Owner(Underlay);

impl Owner {
    /// Reads the token.
    pub fn new(underlay: Underlay) -> Result<Self, Failed> {
        let owner = underlay.as_owner().map_err(|reason| reason.to_string())?;
        Ok(Self(owner))
    }

    /// Calls of any kind that reached the hypervisor, those among them that
    /// raised a fault and were made again. Asking is one call.
    pub fn calls(&self) -> Result<u64, Failed> {
        let mut buffer = vec![0; TRANSFER_MAX];
        let exits = self.0.statistics_read(&mut buffer, 0);
        let mut rows = exits.map_err(|error| error.to_string())?.records;
        let calls = rows.find(|row| row.kind.as_str() == "hypercall");
        Ok(calls.map_or(0, |row| row.count))
    }

    /// How often `name` was noted.
    pub fn oddity(&self, name: &str) -> Result<u64, Failed> {
        let rows = self.0.oddities().map_err(|error| error.to_string())?;
        let named = rows.iter().find(|row| row.name.as_str() == name);
        let named = named.ok_or_else(|| format!("nothing is called {name}"))?;
        Ok(named.count)
    }
}
