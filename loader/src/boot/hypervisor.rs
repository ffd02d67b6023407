//! Starts the hypervisor beneath the running firmware: file, checks, survey,
//! memory, handoff, call. Whatever fails leaves the machine as it was.

use core::fmt;

use abi::handoff::{self, Handoff, Presence, footprint};
use abi::token::Token;
use abi::{Refusal, handoff::REGION_ALIGN};
use loader::config::{Config, Cpus, Memory};
use loader::image::{Image, Plan};
use loader::memory;

use super::executable::Answer;
use super::failure::Failure;
use super::region::Region;
use super::survey::{self, Survey};
use super::volume::{self, HYPERVISOR, HYPERVISOR_MAX};
use super::{clock, console::say, executable, sleep, token};

/// A hypervisor that runs, as one line for the console.
pub(super) struct Running {
    region_base: u64,
    region_size: u64,
    microseconds: u64,
}

/// Puts the hypervisor beneath this machine. `started` is the time-stamp
/// counter at the loader's first instruction.
pub(super) fn start(config: &Config, started: u64) -> Result<Running, Failure> {
    survey::check_not_beneath()?;
    let file = volume::read(HYPERVISOR, HYPERVISOR_MAX)?;
    let image = Image::parse(&file)?;
    let survey = Survey::new();
    check_cpus(config, &survey)?;
    let size = wanted(config, &image.plan, &survey) + config.pool;
    let mut region = Region::reserve(&survey.map, size)?;
    let base = region.base();
    image.load(region.bytes(), base)?;
    let token = token::make();
    let mut handoff = Handoff {
        loader_tsc: started,
        token: token.0,
        ..describe(config, &image.plan, &survey, &region)
    };
    let answer = executable::call(&region, image.plan.entry, &mut handoff)?;
    handoff.token = Token::NONE.0;
    let running = settle(region, &answer, &handoff)?;
    offer(config, token);
    Ok(running)
}

/// Lets the administrator of the operating system find the token. A hidden
/// hypervisor leaves no table behind.
fn offer(config: &Config, token: Token) {
    if config.presence == Presence::Hidden {
        return;
    }
    if token == Token::NONE {
        say!("no random numbers here: what is the owner's is for kernels alone");
    } else if let Err(why) = token::publish(token) {
        say!("the firmware takes no ACPI table ({why}): what is the owner's is for kernels alone");
    }
}

/// A machine of which not every CPU can be taken is not taken at all: one that
/// is left out could reach everything. Firmware does not start one that is
/// switched off, but an operating system that changes the loop in which that
/// one waits can.
fn check_cpus(config: &Config, survey: &Survey) -> Result<(), Refusal> {
    if survey.disabled > 0 {
        let disabled = survey.disabled.into();
        return Err(Refusal::DisabledCpus { disabled });
    }
    let handled = match config.cpus {
        Cpus::One => 1,
        Cpus::All => handoff::CPUS_MAX,
    };
    let refusal = Refusal::TooManyCpus {
        enabled: u64::from(survey.cpus),
        handled: u64::from(handled),
    };
    (survey.cpus <= handled).then_some(()).ok_or(refusal)
}

/// Bytes to reserve.
fn wanted(config: &Config, plan: &Plan, survey: &Survey) -> u64 {
    let needed = footprint::region(
        plan.size,
        survey.cpus,
        config.trace,
        config.pool,
        memory::end(&survey.map),
        survey.physical_bits,
        survey.gib_pages,
        survey.variable_mtrrs,
    );
    match config.memory {
        Memory::Auto => needed,
        Memory::AtLeast(bytes) => needed.max(bytes.next_multiple_of(REGION_ALIGN)),
    }
}

fn describe(config: &Config, plan: &Plan, survey: &Survey, region: &Region) -> Handoff {
    Handoff {
        magic: handoff::MAGIC,
        version: handoff::VERSION,
        cpus: survey.cpus,
        region_base: region.base(),
        region_size: region.size() - config.pool,
        image_size: plan.size,
        segments: plan.segments,
        memory: memory::ranges(&survey.map),
        tsc_hz: clock::ticks_per_second(),
        presence: config.presence.code(),
        log_port: config.log.code(),
        log_level: config.log_level.code(),
        print: u32::from(config.print),
        trace_size: config.trace,
        compat: config.compat.code(),
        startup_watch: config.startup_watch.code(),
        sleep: sleep::survey(),
        // Reserved in one piece with the region, behind it.
        pool_base: region.base() + region.size() - config.pool,
        pool_size: config.pool,
        ..Handoff::default()
    }
}

/// What the hypervisor's answer means for the region: kept if it lives there,
/// or if a failed entry, or a CPU that did not come back, leaves it open who
/// still refers to it; else given back.
fn settle(region: Region, answer: &Answer, handoff: &Handoff) -> Result<Running, Failure> {
    let code = answer.code;
    if code == 0 {
        region.keep();
        return Ok(Running::new(handoff));
    }
    let refusal = Refusal::decode(code, handoff.detail);
    if matches!(refusal, Refusal::EntryFailed { .. }) || !answer.all_back {
        region.keep();
    }
    Err(refusal.into())
}

impl Running {
    fn new(handoff: &Handoff) -> Self {
        let elapsed = clock::ticks().wrapping_sub(handoff.loader_tsc);
        let microseconds = u128::from(elapsed) * 1_000_000 / u128::from(handoff.tsc_hz.max(1));
        Self {
            region_base: handoff.region_base,
            region_size: handoff.region_size,
            microseconds: microseconds as u64,
        }
    }
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Underlay {} runs beneath this machine: {}, {} KiB reserved at {:#x}, started in {} us",
            env!("CARGO_PKG_VERSION"),
            survey::vendor(),
            self.region_size / 1024,
            self.region_base,
            self.microseconds
        )
    }
}
