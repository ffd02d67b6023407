//! Why a command did not do what it was asked for, and what helps.

use std::io::{self, ErrorKind};
use std::process::ExitCode;
use underlay::{Errno, Error, NotPresent, owner};

use abi::call::Who;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub enum Trouble {
    /// The command line makes no sense; the help of this command, or the
    /// general one, tells what does.
    Usage(String, Option<&'static str>),
    /// There is no Underlay.
    Absent(NotPresent),
    /// A call failed.
    Call(Error),
    /// A call failed, and what it answered has been shown.
    Shown,
    /// Something else.
    Other(String),
    /// The output cannot be written.
    Output(io::Error),
}

impl From<lexopt::Error> for Trouble {
    fn from(error: lexopt::Error) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<NotPresent> for Trouble {
    fn from(absent: NotPresent) -> Self {
        Self::Absent(absent)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Trouble {
    /// A command line that makes no sense.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::Usage(what.into(), None)
    }

    /// The same, where the person meant this command.
    pub fn of(self, command: &'static str) -> Self {
        match self {
            Self::Usage(what, _) => Self::Usage(what, Some(command)),
            other => other,
        }
    }

    /// Something of which no other variant tells.
    pub fn other(what: impl Into<String>) -> Self {
        Self::Other(what.into())
    }

    /// A file that cannot be used.
    pub fn file(path: &str, error: &io::Error) -> Self {
        Self::Other(format!("{path}: {error}"))
    }

    /// Tells the person. The status tells it to scripts.
    pub fn tell(self) -> ExitCode {
        // Who reads no further has had enough.
        if matches!(&self, Self::Output(error) if error.kind() == ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        let status = self.status();
        if let Some(message) = self.message() {
            eprintln!("underlayctl: {message}");
        }
        ExitCode::from(status)
    }

    fn status(&self) -> u8 {
        match self {
            Self::Usage(..) => 2,
            Self::Absent(_) => 3,
            Self::Call(_) | Self::Shown | Self::Other(_) | Self::Output(_) => 1,
        }
    }

    fn message(&self) -> Option<String> {
        match self {
            Self::Usage(what, None) => Some(format!("{what}; try: underlayctl --help")),
            Self::Usage(what, Some(command)) => {
                Some(format!("{what}; try: underlayctl {command} --help"))
            }
            Self::Absent(absent) => Some(advise(*absent)),
            Self::Call(error) => Some(explain(error)),
            Self::Shown => None,
            Self::Other(what) => Some(what.clone()),
            Self::Output(error) => Some(format!("cannot write the output: {error}")),
        }
    }
}

/// What is wrong, and what to do about it.
fn advise(absent: NotPresent) -> String {
    let advice = match absent {
        NotPresent::Nothing | NotPresent::Other(_) => {
            "; boot this machine through underlay.efi, which says on the console why if it cannot start, and see that underlay.conf does not say `presence = hidden`"
        }
        NotPresent::Unanswered(_) => {
            "; leave out --instruction to use the one that this CPU has, and see that underlay.conf does not say `presence = hidden`"
        }
        _ => "",
    };
    format!("{absent}{advice}")
}

/// Who is refused what is the owner's learns why this program has no token.
fn explain(error: &Error) -> String {
    let refused = error.is(Errno::NotPermitted) && error.service.who == Who::Owner;
    match refused.then(owner::token) {
        Some(Err(reason)) => format!("{error} ({reason})"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_comes_with_advice() {
        let text = advise(NotPresent::Nothing);
        assert!(text.contains("underlay.efi"), "{text}");
        assert!(!text.contains('\n'));
    }

    #[test]
    fn wrong_usage_leads_to_the_help_of_its_command() {
        let told = |trouble: Trouble| trouble.message().unwrap();
        assert_eq!(
            told(Trouble::usage("what")),
            "what; try: underlayctl --help"
        );
        let of_one = told(Trouble::usage("what").of("mem"));
        assert_eq!(of_one, "what; try: underlayctl mem --help");
        assert_eq!(told(Trouble::other("what").of("mem")), "what");
    }

    #[test]
    fn scripts_can_tell_mistakes_absence_and_refusals_apart() {
        let troubles = [
            Trouble::usage("what"),
            Trouble::Absent(NotPresent::Nothing),
            Trouble::Shown,
            Trouble::other("what"),
        ];
        assert_eq!(troubles.map(|trouble| trouble.status()), [2, 3, 1, 1]);
    }
}
