//! `underlayctl hello`.

use super::{Command, Use};

pub const COMMAND: Command = Command {
    name: "hello",
    uses: &[Use {
        takes: "",
        does: "make the hypervisor greet: in its log, and here",
    }],
    options: &[],
    more: "",
    run: |given, out| {
        given.no_words()?;
        let count = given.underlay()?.hello()?;
        let logo = abi::greeting::LOGO.join("\n");
        let greeting = abi::greeting::GREETING;
        writeln!(out, "{logo}\n\n{greeting}")?;
        writeln!(out, "This was greeting number {count} since it started.")?;
        Ok(())
    },
};
