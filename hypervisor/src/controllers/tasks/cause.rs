//! What asked for a task switch, and what follows from that.

use x86::event::EventType;
use x86::exit::{TaskSource, TaskSwitch};
use x86::{Event, Exception};

/// What asked for a switch.
pub struct Cause {
    pub source: TaskSource,
    /// The new task's.
    pub selector: u16,
    /// The event that comes through a task gate of the IDT.
    event: Option<Event>,
    /// What is pushed on the new task's stack.
    pub error: Option<u32>,
}

impl Cause {
    pub fn new(request: &TaskSwitch, event: Option<Event>) -> Self {
        let event = event.filter(|_| request.source == TaskSource::Gate);
        Self {
            source: request.source,
            selector: request.selector,
            event,
            error: request.error.or(event.and_then(|event| event.error)),
        }
    }

    /// An instruction asked for it, behind which the old task goes on.
    pub fn is_instruction(&self) -> bool {
        self.source != TaskSource::Gate || self.event.is_some_and(Event::is_instruction)
    }

    pub fn is_nmi(&self) -> bool {
        self.event.is_some_and(|event| event.kind == EventType::Nmi)
    }

    /// The new task returns to the old one by IRET.
    pub fn nests(&self) -> bool {
        matches!(self.source, TaskSource::Call | TaskSource::Gate)
    }

    /// The old task is done with, so that it can be switched to again.
    pub fn frees_old(&self) -> bool {
        !self.nests()
    }

    /// EXT of an error code: the switch is not what the program asked for. INT1
    /// counts as such. Intel SDM volume 2, "INT n/INTO/INT3/INT1".
    pub fn external(&self) -> u32 {
        let asked =
            |event: Event| event.is_instruction() && event.kind != EventType::PrivilegedSoftware;
        u32::from(self.event.is_some_and(|event| !asked(event)))
    }

    /// The error code that names `selector`.
    pub fn code(&self, selector: u16) -> u32 {
        u32::from(selector & !3) | self.external()
    }

    /// What a TSS descriptor that is not what it should be raises.
    pub fn wrong_task(&self) -> Exception {
        let code = self.code(self.selector);
        match self.source {
            TaskSource::Iret => Exception::InvalidTaskState(code),
            _ => Exception::GeneralProtection(code),
        }
    }

    pub fn invalid(&self, selector: u16) -> Exception {
        Exception::InvalidTaskState(self.code(selector))
    }
}
