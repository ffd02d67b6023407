//! One run of a machine: starts the emulator, turns everything that happens
//! into events, and ends when the guest, the emulator, the clock or the person
//! says so.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::machine::{Machine, Spec};
use crate::serial::{Line, Port, type_into};
use crate::terminal;
use crate::trailer;
use crate::transcript::Plain;

/// Something that happened.
pub enum Event {
    /// The machine sent bytes.
    Bytes(Port, Vec<u8>),
    /// Nothing more will come from one of the ports.
    Closed,
    /// The emulator is gone.
    Exited,
    /// The person typed.
    Typed(Vec<u8>),
    /// The person wants to leave.
    Leave,
    /// The operating system asks us to end.
    Signal(i32),
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// The guest reported this status.
    Result(u8),
    /// The console said what the plan waits for.
    Said,
    /// The guest said that it switches the machine off, or halts.
    Halted,
    /// The machine was switched off: the emulator ended as it does then.
    SwitchedOff,
    /// The person left.
    Left,
    /// The guest's kernel, or its firmware, panicked.
    GuestPanicked,
    /// The hypervisor stopped the machine with a report in its log.
    Stopped,
    /// The emulator ended by itself without a result.
    Died(ExitStatus),
    /// Nothing ended it in time.
    TimedOut(Duration),
    /// We were asked to end.
    Signal(i32),
}

/// What a session shall do.
pub struct Plan<'a> {
    /// The machine.
    pub machine: Machine,
    /// Its parts, but for the serial lines, which the session makes.
    pub spec: Spec<'a>,
    /// Whether the person's terminal is the guest's console.
    pub interactive: bool,
    /// Whether the guest will report a result; without one, its power-off is
    /// an ordinary end.
    pub wants_result: bool,
    /// Whether the guest's power-off ends the emulator.
    pub powers_off: bool,
    /// Whether a guest that is left has something to do before it ends.
    pub at_end: bool,
    /// Where output of the guest's command goes at once.
    pub output: Option<&'a mut dyn Write>,
    /// Words on the console that end it.
    pub ends_with: Option<String>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// The file for the console's transcript.
    pub console: PathBuf,
    /// The file for the hypervisor's log.
    pub log: PathBuf,
}

/// What came of it.
pub struct Report {
    /// How it ended.
    pub ending: Ending,
    /// Everything that the guest's console showed.
    pub console: Vec<u8>,
    /// Everything that the hypervisor logged.
    pub log: Vec<u8>,
    /// What the guest's command or the test guest had to say.
    pub output: Vec<u8>,
    /// What the emulator itself said.
    pub emulator: Vec<u8>,
    /// The file that has it.
    pub emulator_file: PathBuf,
}

/// The file for what the emulator writes to its terminal.
pub const EMULATOR_SAYS: &str = "emulator-terminal.txt";
/// The file for the emulator's own log.
pub const EMULATOR_LOG: &str = "emulator-log.txt";

/// Once an ending is certain, what is still under way gets this long.
const GRACE: Duration = Duration::from_secs(3);

/// A machine that Linux switches off is off after this, if it can be at all.
const SWITCHING_OFF: Duration = Duration::from_secs(60);

/// A guest that is left may do what it does at its end for as long as it does
/// not fall silent for this long. Leaving a second time does not wait.
const FAREWELL: Duration = Duration::from_secs(10);

/// Words on the console, or in the log, that end a session.
const MARKS: [(Port, &[u8], Mark); 5] = [
    (Port::Console, b"Kernel panic - not syncing", Mark::Panicked),
    (Port::Console, b"reboot: System halted", Mark::Halted),
    (Port::Console, b"reboot: Power down", Mark::Off),
    (Port::Console, b"X64 Exception Type", Mark::Panicked),
    (Port::Log, b"UNDERLAY STOPS:", Mark::Stopped),
];

/// No words that are waited for are longer.
const MARK_MAX: usize = 256;

#[derive(Clone, Copy)]
enum Mark {
    Panicked,
    Halted,
    Off,
    Stopped,
}

/// Runs the machine of `plan` to its end.
pub fn run(mut plan: Plan<'_>) -> Result<Report> {
    let lines = [Line::open()?, Line::open()?, Line::open()?];
    plan.spec.serial = lines.each_ref().map(|line| line.path.clone());
    let (sender, events) = channel();
    for (line, port) in lines.iter().zip(Port::ALL) {
        line.listen(port, sender.clone())?;
    }
    let signals = listen_for_signals(sender.clone())?;
    let turn = plan.machine.turn(plan.spec.dir)?;
    let mut emulator = Emulator::start(plan.machine.command(&plan.spec)?, plan.spec.dir)?;
    if let Some(turn) = turn {
        turn.pass(&emulator.0)?;
    }
    emulator.watch(sender.clone());
    let raw = if plan.interactive {
        terminal::listen(sender.clone());
        Some(terminal::Raw::enter()?)
    } else {
        None
    };
    drop(sender);

    let mut keyboard = lines[0].typing()?;
    let mut farewell = lines[2].typing()?;
    let mut state = State::new(&mut plan)?;
    let ending = state.until_the_end(&events, &mut keyboard, &mut farewell)?;
    let status = emulator.end()?;
    drop(raw);
    signals.close();
    drop(lines);
    state.collect_the_rest(&events)?;
    Ok(state.report(ending, status))
}

/// What has happened so far.
struct State<'a, 'b> {
    plan: &'a mut Plan<'b>,
    console_file: File,
    log_file: File,
    /// The firmware, too, has its console on the log's port.
    plain: Plain,
    received: [Vec<u8>; 3],
    shown: usize,
    closed: usize,
    deadline: Option<Instant>,
    ending: Option<Ending>,
}

impl<'a, 'b> State<'a, 'b> {
    fn new(plan: &'a mut Plan<'b>) -> Result<Self> {
        let create = |path: &Path| {
            File::create(path).with_context(|| format!("creating {}", path.display()))
        };
        Ok(Self {
            console_file: create(&plan.console)?,
            log_file: create(&plan.log)?,
            plain: Plain::default(),
            received: Default::default(),
            shown: 0,
            closed: 0,
            deadline: plan.timeout.map(|timeout| Instant::now() + timeout),
            ending: None,
            plan,
        })
    }

    /// `None` means that the emulator ended before anything else did.
    fn until_the_end(
        &mut self,
        events: &Receiver<Event>,
        keyboard: &mut File,
        farewell: &mut File,
    ) -> Result<Option<Ending>> {
        loop {
            match self.next(events) {
                Err(_) => return Ok(Some(self.ending.take().unwrap_or_else(|| self.late()))),
                Ok(Event::Exited) => {
                    return Ok(self.ending.take_if(|ending| *ending != Ending::Halted));
                }
                Ok(Event::Leave) if self.plan.at_end && self.ending.is_none() => {
                    type_into(farewell, b"\n");
                    self.ending = Some(Ending::Left);
                    self.deadline = Some(Instant::now() + FAREWELL);
                }
                Ok(Event::Leave) => return Ok(Some(Ending::Left)),
                Ok(Event::Signal(number)) => return Ok(Some(Ending::Signal(number))),
                Ok(Event::Typed(bytes)) => type_into(keyboard, &bytes),
                Ok(Event::Bytes(port, bytes)) => self.bytes(port, &bytes)?,
                Ok(Event::Closed) => self.closed += 1,
            }
        }
    }

    fn next(&self, events: &Receiver<Event>) -> Result<Event, RecvTimeoutError> {
        match self.deadline {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => {
                events.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            }
        }
    }

    fn late(&self) -> Ending {
        Ending::TimedOut(self.plan.timeout.unwrap_or_default())
    }

    fn bytes(&mut self, port: Port, bytes: &[u8]) -> Result<()> {
        let before = self.received[port as usize].len();
        self.received[port as usize].extend_from_slice(bytes);
        match port {
            Port::Console => {
                self.console_file.write_all(bytes)?;
                if self.plan.interactive {
                    let mut out = std::io::stdout().lock();
                    out.write_all(bytes).and_then(|()| out.flush())?;
                }
            }
            Port::Log => {
                self.log_file.write_all(&self.plain.filter(bytes))?;
                if self.ending == Some(Ending::Left) {
                    self.deadline = Some(Instant::now() + FAREWELL);
                }
            }
            Port::Results => self.results()?,
        }
        self.look_for_marks(port, before);
        Ok(())
    }

    fn results(&mut self) -> Result<()> {
        // What has been shown holds no trailer: searching it again for each
        // byte would take for ever.
        let fresh = &self.received[Port::Results as usize][self.shown..];
        let certain = trailer::certain(fresh);
        if let Some(output) = &mut self.plan.output {
            output.write_all(&fresh[..certain])?;
            output.flush()?;
        }
        let status = trailer::parse(fresh).map(|results| results.status);
        self.shown += certain;
        if self.ending == Some(Ending::Left) {
            self.deadline = status.map(|_| Instant::now()).or(self.deadline);
        } else if let Some(status) = status {
            let grace = if self.plan.powers_off {
                GRACE
            } else {
                Duration::ZERO
            };
            self.end_soon(Ending::Result(status), grace);
        }
        Ok(())
    }

    fn look_for_marks(&mut self, port: Port, before: usize) {
        let from = before.saturating_sub(MARK_MAX);
        let recent = &self.received[port as usize][from..];
        let words = self.plan.ends_with.as_ref().map(String::as_bytes);
        if let Some(words) = words
            && port == Port::Console
            && recent.windows(words.len()).any(|w| w == words)
        {
            return self.end_soon(Ending::Said, GRACE);
        }
        let found = MARKS
            .iter()
            .find(|(p, words, _)| *p == port && recent.windows(words.len()).any(|w| w == *words));
        match found.map(|(.., mark)| *mark) {
            None => {}
            Some(Mark::Panicked) => self.end_soon(Ending::GuestPanicked, GRACE),
            Some(Mark::Stopped) => self.end_soon(Ending::Stopped, GRACE),
            Some(Mark::Off) if self.plan.powers_off => {
                self.end_soon(Ending::Halted, SWITCHING_OFF);
            }
            Some(Mark::Halted | Mark::Off) => self.end_soon(Ending::Halted, GRACE),
        }
    }

    /// The first ending counts, and the rest of the output still has a moment.
    /// A result may arrive behind the words of the power-off that follows it,
    /// which come by another port.
    fn end_soon(&mut self, ending: Ending, grace: Duration) {
        let is_late_result =
            matches!(ending, Ending::Result(_)) && self.ending == Some(Ending::Halted);
        if self.ending.is_none() || is_late_result {
            self.ending = Some(ending);
            self.deadline = Some(Instant::now() + grace);
        }
    }

    /// The emulator is gone and our far ends are closed: what is still in the
    /// lines arrives, then they close.
    fn collect_the_rest(&mut self, events: &Receiver<Event>) -> Result<()> {
        while self.closed < Port::ALL.len() {
            match events.recv_timeout(GRACE) {
                Ok(Event::Bytes(port, bytes)) => self.bytes(port, &bytes)?,
                Ok(Event::Closed) => self.closed += 1,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn report(mut self, ending: Option<Ending>, status: ExitStatus) -> Report {
        let last_words = self.ending.take();
        let halted = last_words == Some(Ending::Halted);
        let ending = match (ending, last_words) {
            (None | Some(Ending::Halted), Some(last_words)) if !halted => Some(last_words),
            (ending, _) => ending,
        };
        let (emulator, emulator_file) = emulator_said(self.plan.spec.dir);
        let ending = ending.unwrap_or_else(|| {
            let is_clean = status.success() && (halted || !self.plan.wants_result);
            if is_clean || self.plan.machine.was_switched_off(&emulator) {
                Ending::SwitchedOff
            } else {
                Ending::Died(status)
            }
        });
        let [console, log, mut output] = self.received;
        output.truncate(self.shown);
        Report {
            ending,
            console,
            log,
            output,
            emulator,
            emulator_file,
        }
    }
}

/// What the emulator wrote to its terminal; of Bochs, which writes a lot, what
/// made it end. And the file that has it.
fn emulator_said(dir: &Path) -> (Vec<u8>, PathBuf) {
    let [log, terminal] = [EMULATOR_LOG, EMULATOR_SAYS].map(|name| dir.join(name));
    // Without the files there is nothing to show.
    let read = |path: &Path| fs::read(path).unwrap_or_default();
    for path in [&log, &terminal] {
        let panics = panics(&read(path));
        if !panics.is_empty() {
            return (panics, path.clone());
        }
    }
    (read(&terminal), terminal)
}

fn panics(said: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(said);
    let panics: Vec<&str> = text.lines().filter(|line| line.contains("PANIC")).collect();
    panics.join("\n").into_bytes()
}

/// The emulator's process. It ends with this value, and with the thread that
/// started it, whatever ends that.
struct Emulator(Child);

impl Emulator {
    fn start(command: Command, dir: &Path) -> Result<Self> {
        let name = command.get_program().to_owned();
        let errors = File::create(dir.join(EMULATOR_SAYS))?;
        // Ctrl-C must not reach it, only us: it gets a group of its own.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&name)
            .args(command.get_args())
            .stdin(Stdio::null())
            .stdout(errors.try_clone()?)
            .stderr(errors)
            .group()
            .spawn();
        Ok(Self(child.with_context(|| format!("starting {name:?}"))?))
    }

    /// Waits without reaping, so that the process id stays ours until
    /// [`Self::end`].
    fn watch(&self, events: Sender<Event>) {
        let pid = Pid::from_child(&self.0);
        thread::spawn(move || {
            // An error means that it has been waited for, so it is gone.
            let _ = waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            );
            let _ = events.send(Event::Exited);
        });
    }

    fn end(&mut self) -> Result<ExitStatus> {
        // It may be gone already.
        let _ = self.0.kill();
        self.0.wait().context("waiting for the emulator")
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

trait OwnGroup {
    fn group(&mut self) -> &mut Self;
}

impl OwnGroup for Command {
    fn group(&mut self) -> &mut Self {
        std::os::unix::process::CommandExt::process_group(self, 0)
    }
}

fn listen_for_signals(events: Sender<Event>) -> Result<Handle> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let handle = signals.handle();
    thread::spawn(move || {
        for number in signals.forever() {
            if events.send(Event::Signal(number)).is_err() {
                break;
            }
        }
    });
    Ok(handle)
}
