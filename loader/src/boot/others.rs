//! The machine's other CPUs, which the firmware starts on its own and sends to
//! the hypervisor.

use alloc::boxed::Box;
use core::ffi::c_void;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use abi::Handoff;
use abi::handoff::ROLE_OTHER;
use uefi::boot::{self, EventType, Tpl};
use uefi::proto::pi::mp::MpServices;
use uefi::{Event, Result};
use x86_64::instructions::interrupts;

use super::executable::{self, Entry};
use super::protocol;

/// How long they are waited for, in steps.
const STEP: Duration = Duration::from_micros(100);
const STEPS: u32 = 200_000;

/// What they are told. Never freed: one that is late may still read it.
struct Way {
    entry: Entry,
    handoff: *mut Handoff,
    /// The region, which this CPU has made executable.
    pages: Range<u64>,
    /// How many have come back, each as a guest or refused.
    back: AtomicU32,
}

/// The other CPUs, on their way.
pub(super) struct Others {
    way: &'static Way,
    count: u32,
    done: Option<Event>,
}

impl Others {
    /// Sends `count` others to `entry`, where they wait for this CPU.
    pub(super) fn send(
        count: u32,
        entry: Entry,
        handoff: *mut Handoff,
        pages: Range<u64>,
    ) -> Result<Self> {
        let way = Box::leak(Box::new(Way {
            entry,
            handoff,
            pages,
            back: AtomicU32::new(0),
        }));
        let mut others = Self {
            way,
            count,
            done: None,
        };
        if count > 0 {
            others.done = Some(others.start()?);
        }
        Ok(others)
    }

    /// With an event the service does not wait for them.
    fn start(&self) -> Result<Event> {
        let handle = boot::get_handle_for_protocol::<MpServices>()?;
        let services = protocol::open::<MpServices>(handle)?;
        let services = services.get().ok_or(uefi::Status::NOT_FOUND)?;
        // SAFETY: without a function to call, it runs nothing of ours.
        let done = unsafe { boot::create_event(EventType::empty(), Tpl::APPLICATION, None, None) }?;
        let argument = core::ptr::from_ref(self.way).cast_mut().cast();
        // SAFETY: the event stays open until it was signalled.
        let signalled = unsafe { done.unsafe_clone() };
        services.startup_all_aps(false, go, argument, Some(signalled), None)?;
        Ok(done)
    }

    /// Waits until all are back. False: some are not, and may still use the
    /// hypervisor's memory.
    pub(super) fn wait(self) -> bool {
        let all = comes(|| self.way.back.load(Ordering::Acquire) == self.count);
        if let Some(done) = self.done.filter(|_| all) {
            // The firmware notices on its own time that they are done; until
            // then it would refuse others its service.
            comes(|| matches!(boot::check_event(&done), Ok(true)));
            let _ = boot::close_event(done);
        }
        all
    }
}

/// Waits until `condition` holds. False: it does not in time.
fn comes(condition: impl Fn() -> bool) -> bool {
    (0..STEPS).any(|_| {
        let holds = condition();
        if !holds {
            boot::stall(STEP);
        }
        holds
    })
}

/// Runs on each of them, on a stack of the firmware's.
extern "efiapi" fn go(way: *mut c_void) {
    // SAFETY: `start` passes a way, which is never freed.
    let way = unsafe { &*way.cast::<Way>() };
    executable::forget(way.pages.clone());
    // Its answer is the first CPU's, too.
    let _ = interrupts::without_interrupts(|| (way.entry)(way.handoff, ROLE_OTHER));
    way.back.fetch_add(1, Ordering::AcqRel);
}
