//! What the shell can do: one file and one line each.

mod control_block;
mod cpus;
mod dump;
mod exit;
mod help;
mod info;
mod log;
mod registers;
mod statistics;
mod trace;
mod walk;

use super::line;
use super::session::TEXT_MAX;
use crate::counted::{self, Counted};
use crate::text::Text;
use crate::vm::{Cpu, Vm};
use machine::{Memory, Vcpu};

/// A line of text under way.
pub type Out = Text<TEXT_MAX>;

/// Where a line runs.
pub struct Place<'a, V, M> {
    /// The guest.
    pub vm: &'a Vm<M>,
    /// The CPU that calls.
    pub cpu: &'a Cpu<V>,
}

/// What somebody asked for.
pub struct Asked<'a, V, M> {
    /// Where.
    pub place: &'a Place<'a, V, M>,
    /// The command.
    pub command: &'a str,
    /// Its arguments; empty behind the last one.
    pub arguments: [&'a str; 3],
}

/// How far a command is. It begins with zeros; `step` counts its steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct State {
    /// The number of the step.
    pub step: u64,
    /// The command's own: where it is, and where it ends.
    pub at: u64,
    /// See above.
    pub end: u64,
}

/// What comes after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another one.
    More,
    /// The next line.
    Done,
    /// Nothing: the session ends.
    End,
}

impl Next {
    /// Another step while `more`.
    fn more(more: bool) -> Self {
        if more { Self::More } else { Self::Done }
    }
}

/// A command as `help` shows it.
pub struct Command {
    /// Its name and what it takes.
    pub usage: &'static str,
    /// What it does.
    pub sentence: &'static str,
}

macro_rules! commands {
    ($($module:ident $name:literal $takes:literal $sentence:literal;)*) => {
        /// All of them.
        pub const COMMANDS: &[Command] = &[$(Command {
            usage: concat!($name, $takes),
            sentence: $sentence,
        },)*];

        /// Takes a command one step further, which makes one line of text or
        /// none.
        pub fn step<V: Vcpu, M: Memory>(
            asked: &Asked<V, M>,
            state: &mut State,
            out: &mut Out,
        ) -> Next {
            match asked.command {
                "" => Next::Done,
                $($name => $module::step(asked, state, out),)*
                unknown => {
                    out.say(format_args!("no command is called `{unknown}`; `help` lists them"));
                    Next::Done
                }
            }
        }
    };
}

commands! {
    help "help" "" "lists the commands";
    info "info" "" "tells what there is beneath";
    cpus "cpus" "" "tells which CPUs there are, what each does, and which this is";
    registers "regs" "" "shows the registers of who calls, as they are at this call";
    statistics "stat" " [CPU]" "tells what the exits of a CPU cost, this one if none is named, and what was odd on any";
    trace "trace" " [COUNT [CPU]]" "shows the newest exits of a CPU, this one if none is named; 16 if no count is given";
    dump "dump" " [-p] ADDRESS [BYTES]" "shows memory: linear with a kernel's rights here, or guest-physical with -p";
    walk "walk" " ADDRESS" "shows each step of an address' translation, and the nested tables' last";
    control_block "vmcs" " [NAME]" "shows the fields of VT-x whose names contain NAME";
    control_block "vmcb" " [NAME]" "shows the fields of AMD-V whose names contain NAME";
    log "log" " level [LEVEL]" "shows or sets how important a line of the log must be";
    exit "exit" "" "ends the session";
}

impl<'a, V, M> Asked<'a, V, M> {
    /// The words of `line`.
    pub fn new(place: &'a Place<'a, V, M>, line: &'a str) -> Self {
        let [command, arguments @ ..] = line::words::<4>(line);
        Self {
            place,
            command,
            arguments,
        }
    }
}

impl<V, M> Asked<'_, V, M> {
    /// The CPU that the argument with this number names, or this one if it names
    /// none: its number, and what is counted there.
    fn cpu(&self, argument: usize) -> Result<(u64, &'static Counted), Wrong> {
        let (vm, cpu) = (self.place.vm, self.place.cpu);
        let number = match self.arguments.get(argument) {
            None | Some(&"") => cpu.number.into(),
            Some(word) => line::number(word).ok_or(Wrong::Usage)?,
        };
        let counted = counted::of(vm, cpu, number).ok_or(Wrong::Cpu(number))?;
        Ok((number, counted))
    }
}

/// What is wrong with an argument.
enum Wrong {
    /// It is none.
    Usage,
    /// There is no CPU with this number.
    Cpu(u64),
}

impl Wrong {
    fn tell(self, command: &str, out: &mut Out) -> Next {
        match self {
            Self::Usage => usage(command, out),
            Self::Cpu(number) => {
                out.say(format_args!("there is no cpu{number}; `cpus` lists them"));
                Next::Done
            }
        }
    }
}

/// Says how the command is used that was used wrongly.
fn usage(command: &str, out: &mut Out) -> Next {
    let mut all = COMMANDS.iter();
    let known = all.find(|known| known.usage.split(' ').next() == Some(command));
    if let Some(known) = known {
        out.say(format_args!("usage: {}", known.usage));
    }
    Next::Done
}
