//! `underlayctl ping`.

use super::{Command, Use};

pub const COMMAND: Command = Command {
    name: "ping",
    uses: &[Use {
        takes: "",
        does: "show the version of the call interface",
    }],
    options: &[],
    more: "",
    run: |given, out| {
        given.no_words()?;
        let version = given.underlay()?.ping()?;
        writeln!(out, "ABI version {version}")?;
        Ok(())
    },
};
