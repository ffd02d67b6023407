//! Which operations are to be measured.

use anyhow::{Context, Result, ensure};

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
            known(name)?;
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

/// The operation called `name`.
fn known(name: &str) -> Result<&'static Operation> {
    operation::named(name).with_context(|| {
        let names: Vec<&str> = OPERATIONS.iter().map(|row| row.name).collect();
        format!(
            "no operation is called `{name}`; there are {}",
            names.join(", ")
        )
    })
}

/// An error unless the operation called `name` has a path that can be shown.
pub fn has_path(name: &str) -> Result<()> {
    let is_single = known(name)?.kind == Kind::Single;
    ensure!(is_single, "--path: `{name}` is more than one exit");
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

    #[test]
    fn single_operations_have_a_path() {
        let has_path = |name| has_path(name).is_ok();
        assert_eq!(["ping", "boot", "pong"].map(has_path), [true, false, false]);
    }
}
