//! Which operations are to be measured.

use anyhow::{Result, ensure};

use super::operation::{self, Kind, OPERATIONS, Operation};

/// Those that were asked for.
pub struct Choice<'a> {
    names: &'a [String],
    boot: bool,
}

impl<'a> Choice<'a> {
    /// Those with these `names`, or all: with the boot of Linux only if `boot`.
    pub fn new(names: &'a [String], boot: bool) -> Result<Self> {
        for name in names {
            is_known(name)?;
        }
        Ok(Self { names, boot })
    }

    /// Those of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &'static Operation> {
        let named = |operation: &&Operation| match self.names {
            [] => self.boot || operation.kind != Kind::Boot,
            names => names.iter().any(|name| name == operation.name),
        };
        OPERATIONS
            .iter()
            .filter(move |operation| operation.kind == kind)
            .filter(named)
    }
}

/// An error unless an operation is called `name`.
pub fn is_known(name: &str) -> Result<()> {
    let names: Vec<&str> = OPERATIONS.iter().map(|row| row.name).collect();
    ensure!(
        operation::named(name).is_some(),
        "no operation is called `{name}`; there are {}",
        names.join(", ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], boot: bool) -> [usize; 3] {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let choice = Choice::new(&names, boot).unwrap();
        [Kind::Single, Kind::Memory, Kind::Boot].map(|kind| choice.of(kind).count())
    }

    #[test]
    fn what_is_named_is_measured_and_else_all() {
        let singles = OPERATIONS.len() - 2;
        assert_eq!(chosen(&[], true), [singles, 1, 1]);
        assert_eq!(chosen(&[], false), [singles, 1, 0]);
        assert_eq!(chosen(&["ping", "cpuid"], true), [2, 0, 0]);
        assert_eq!(chosen(&["boot"], false), [0, 0, 1]);
        assert!(Choice::new(&["pong".to_owned()], true).is_err());
    }
}
