//! The hypervisor's `main`: which vendor, is everything there, and then the
//! loop.

use crate::chain;
use crate::children::{Children, Slot, no_pieces};
use crate::counted::Counted;
use crate::instruction;
use crate::outcome::Stop;
use crate::peers::{Peers, Together};
use crate::printer::Printer;
use crate::run::run;
use crate::statistics::Statistics;
use crate::trace::Trace;
use crate::vm::{Cpu, Features, Vm};
use abi::child::CHILDREN_MAX;
use abi::handoff::{Compat, Presence, StartupWatch};
use abi::refusal::Refusal;
use abi::token::Token;
use alloc::boxed::Box;
use core::any::Any;
use machine::nested::Format;
use machine::svm::SvmCpu;
use machine::vtx::VtxCpu;
use machine::{Boot, GuestMemory, Memory, Vcpu, exceptions, instructions, svm, vtx};
use spin::Once;
use x86::PAGE_SIZE;
use x86::cpuid::{self, Vendor};
use x86::exit::EntryFailure;
use x86::vtx::control::secondary;

/// Puts the running machine on the hypervisor. Returns only when it cannot.
pub fn start(mut boot: Boot) -> Refusal {
    if boot.number == 0 {
        log::info!(
            "Underlay {} at {:#x}, {} KiB",
            env!("CARGO_PKG_VERSION"),
            boot.handoff.region_base,
            boot.handoff.region_size / 1024
        );
        instruction::warm_up();
    }
    let answer = check_apic(&boot).and_then(|()| match boot.vendor() {
        Some(Vendor::Intel) => start_vtx(&mut boot),
        Some(Vendor::Amd) => start_svm(&mut boot),
        None => Err(Refusal::NoVirtualisation),
    });
    match answer {
        Ok(never) => match never {},
        Err(refusal) => {
            log::error!("cannot run: {refusal}");
            if let Some(vm) = GUEST.get().filter(|_| boot.number > 0) {
                vm.peers.decline(boot.number);
            }
            refusal
        }
    }
}

/// CPUs call each other by their local APICs, whose page is watched.
fn check_apic(boot: &Boot) -> Result<(), Refusal> {
    if boot.handoff.cpus == 1 {
        return Ok(());
    }
    let value = machine::apic::base();
    let usual = x86::apic::is_usual(value);
    usual.then_some(()).ok_or(Refusal::ApicMoved { value })
}

/// The guest runs until the machine ends.
enum Never {}

/// What all CPUs share. Made by the first, before it lets others in.
static GUEST: Once<Box<Vm<GuestMemory>>> = Once::new();

fn start_vtx(boot: &mut Boot) -> Result<Never, Refusal> {
    let support = vtx::support()?;
    if boot.handoff.cpus > 1 {
        support.calls()?;
    }
    let features = Features {
        rdtscp: support.has(secondary::RDTSCP),
        invpcid: support.has(secondary::INVPCID),
        xsaves: support.has(secondary::XSAVES),
        user_wait: support.has(secondary::USER_WAIT),
    };
    if boot.number > 0 {
        let vm = equal(boot, features, support.gib_pages())?;
        let cpu = VtxCpu::new(boot, &vm.memory, support)?;
        return follow(boot, vm, cpu, VtxCpu::leave);
    }
    let memory = boot.guest_memory(Format::Ept, support.gib_pages())?;
    let cpu = VtxCpu::new(boot, &memory, support)?;
    log::info!(
        "VT-x: {features:?}, EPT with 1 GiB pages: {}",
        support.gib_pages()
    );
    let mut vm = guest(boot, memory, features, support.gib_pages());
    vm.children = children::<VtxCpu>(boot)?;
    lead(boot, vm, cpu, VtxCpu::leave)
}

fn start_svm(boot: &mut Boot) -> Result<Never, Refusal> {
    let support = svm::support()?;
    if boot.number > 0 {
        let vm = equal(boot, Features::ALL, support.gib_pages())?;
        let cpu = SvmCpu::new(boot, &vm.memory, support)?;
        return follow(boot, vm, cpu, SvmCpu::leave);
    }
    let memory = boot.guest_memory(Format::Npt, support.gib_pages())?;
    let cpu = SvmCpu::new(boot, &memory, support)?;
    log::info!("AMD-V: {support:?}");
    let mut vm = guest(boot, memory, Features::ALL, support.gib_pages());
    vm.children = children::<SvmCpu>(boot)?;
    lead(boot, vm, cpu, SvmCpu::leave)
}

/// The guest as the config wants it. In memory of its own, because the stack is
/// small.
#[inline(never)]
fn guest(
    boot: &Boot,
    memory: GuestMemory,
    features: Features,
    gib_pages: bool,
) -> Box<Vm<GuestMemory>> {
    let presence = Presence::from_code(boot.handoff.presence).unwrap_or_default();
    let mut vm = Box::new(Vm::new(memory, presence, features));
    vm.token = Token(boot.handoff.token);
    if boot.handoff.compat == Compat::BitVisor.code() {
        vm.compat = Compat::BitVisor;
    }
    if boot.handoff.print != 0 {
        vm.printer = Some(Printer::new(vm.memory.reserved().start));
    }
    vm.sleep = boot.handoff.sleep;
    vm.ticks_per_second = boot.handoff.tsc_hz;
    vm.peers = Peers::new(boot.handoff.cpus);
    vm.peers.watch.may_end = vm.peers.are_several() && watch_may_end(boot, presence);
    vm.cpus = vm.peers.count();
    vm.gib_pages = gib_pages;
    vm
}

/// Room for children, if the config has memory for them.
fn children<V: Vcpu>(boot: &mut Boot) -> Result<Option<&'static (dyn Any + Send + Sync)>, Refusal> {
    let pool = machine::child::pool();
    if pool.is_empty() {
        return Ok(None);
    }
    log::info!(
        "children: {} KiB at {:#x}",
        (pool.end - pool.start) / 1024,
        pool.start
    );
    let pieces = boot.place(no_pieces())?;
    let first = slot::<V>(boot)?;
    let mut slots = [first; CHILDREN_MAX];
    for place in slots.iter_mut().skip(1) {
        *place = slot::<V>(boot)?;
    }
    let all = Children::new(slots, pieces, pool, boot.handoff.token);
    Ok(Some(boot.place(all)?))
}

/// In a frame of its own, because it is large.
#[inline(never)]
fn slot<V: Vcpu>(boot: &mut Boot) -> Result<&'static Slot<V>, Refusal> {
    boot.place(Slot::new(None))
}

/// Where this machine is a virtual one, an INIT that nobody expected may do more
/// than exit: QEMU resets the CPU in spite of the intercept. Where the guest sees
/// itself in one, Linux takes CPUs down without writing their caches back.
fn watch_may_end(boot: &Boot, presence: Presence) -> bool {
    let code = boot.handoff.startup_watch;
    match StartupWatch::from_code(code).unwrap_or_default() {
        StartupWatch::Always => false,
        StartupWatch::UntilUp => true,
        StartupWatch::Auto => {
            let features = instructions::cpuid(cpuid::FEATURES, 0);
            features.ecx & cpuid::ECX1_HYPERVISOR == 0 && presence != Presence::Bit
        }
    }
}

/// A CPU that is refused although nothing is wrong with it, in the build that
/// tests make: no CPU has this number in any other.
const UNFIT: u32 = if cfg!(feature = "breakable") {
    6
} else {
    u32::MAX
};

/// The guest, for a CPU that is like the first: its tables and its CPUID are
/// the same for all.
fn equal(
    boot: &Boot,
    features: Features,
    gib_pages: bool,
) -> Result<&'static Vm<GuestMemory>, Refusal> {
    let found = GUEST.get().filter(|vm| {
        let is_alike =
            vm.features == features && (gib_pages || !vm.gib_pages) && boot.number != UNFIT;
        if !is_alike {
            log::error!("CPU {} has other features: {features:?}", boot.number);
        }
        is_alike
    });
    found.map(Box::as_ref).ok_or(not_together(boot.number))
}

const fn not_together(number: u32) -> Refusal {
    Refusal::NotTogether {
        number: number as u64,
    }
}

/// The first CPU: makes what all share, and goes on when all others are ready.
fn lead<V: Vcpu>(
    boot: &mut Boot,
    mut vm: Box<Vm<GuestMemory>>,
    vcpu: V,
    leave: fn(V),
) -> Result<Never, Refusal> {
    let mut cpu = watched(boot, &vm, vcpu, leave)?;
    vm.memory_used = boot.used();
    let vm = GUEST.call_once(|| vm);
    introduce(vm, &cpu);
    boot.let_others_in();
    let begin = cpu.vcpu.ticks();
    let patience = vm.ticks_per_second.saturating_mul(PATIENCE);
    let is_late = || instructions::read_tsc().saturating_sub(begin) > patience;
    if let Together::Without(number) = vm.peers.gather(is_late) {
        leave(cpu.vcpu);
        return Err(not_together(number));
    }
    log::info!(
        "{} of {} KiB used; presence {:?}; {} CPUs; the guest goes on",
        vm.memory_used / 1024,
        boot.handoff.region_size / 1024,
        vm.presence,
        vm.cpus
    );
    if vm.peers.are_several() {
        let until = match vm.peers.watch.may_end {
            true => "until all CPUs are up",
            false => "for as long as they run",
        };
        log::info!("local APICs are watched {until}");
    }
    boot.settle(&mut cpu.vcpu);
    end(vm, run(vm, &mut cpu), cpu, leave)
}

/// Seconds that the others have to come in: firmware starts them in parallel,
/// within milliseconds.
const PATIENCE: u64 = 5;

/// Any other CPU: goes on when the first has decided so.
fn follow<V: Vcpu>(
    boot: &mut Boot,
    vm: &'static Vm<GuestMemory>,
    vcpu: V,
    leave: fn(V),
) -> Result<Never, Refusal> {
    let mut cpu = watched(boot, vm, vcpu, leave)?;
    introduce(vm, &cpu);
    if !vm.peers.wait_for_decision(boot.number) {
        leave(cpu.vcpu);
        return Err(not_together(boot.number));
    }
    boot.settle(&mut cpu.vcpu);
    end(vm, run(vm, &mut cpu), cpu, leave)
}

fn introduce<V: Vcpu>(vm: &Vm<GuestMemory>, cpu: &Cpu<V>) {
    let boot = cpu.vcpu.is_boot_processor();
    vm.peers.note_boot(cpu.number, boot);
    vm.peers.note_address(cpu.number, V::apic_address());
    vm.counted.note(cpu);
}

/// The CPU with all that controllers watch, and where it counts.
fn watched<V: Vcpu>(
    boot: &mut Boot,
    vm: &Vm<GuestMemory>,
    mut vcpu: V,
    leave: fn(V),
) -> Result<Cpu<V>, Refusal> {
    let declared = chain::declare(vm, &mut vcpu).map_err(|_| boot.too_small());
    match declared.and_then(|()| records(boot)) {
        Ok(counted) => {
            let mut cpu = Cpu::watched(vcpu, counted);
            cpu.number = boot.number;
            Ok(cpu)
        }
        Err(refusal) => {
            leave(vcpu);
            Err(refusal)
        }
    }
}

/// A guest cannot go on. Where it never began, on a single CPU, it can without
/// Underlay.
fn end<V: Vcpu>(
    vm: &Vm<GuestMemory>,
    stop: Stop,
    cpu: Cpu<V>,
    leave: fn(V),
) -> Result<Never, Refusal> {
    match stop {
        Stop::EntryFailed(failure) if cpu.counted.statistics.ever() == 1 && vm.cpus == 1 => {
            leave(cpu.vcpu);
            Err(refusal(failure))
        }
        Stop::Reset => instructions::reset_machine(),
        other => exceptions::stop(format_args!("{other:?} after {}", cpu.counted.statistics)),
    }
}

/// Where a CPU counts its exits, and traces them if the config says so. Not on
/// the stack, which is small and nobody else's to read; and made in a frame of
/// its own, which is gone when the guest runs.
#[inline(never)]
fn records(boot: &mut Boot) -> Result<&'static Counted, Refusal> {
    let base = boot.words((Statistics::BASE_BYTES as u64).next_multiple_of(PAGE_SIZE))?;
    let statistics = Statistics::new(base);
    let trace = Trace::new(boot.words(boot.handoff.trace_size)?);
    boot.place(Counted { statistics, trace })
}

fn refusal(failure: EntryFailure) -> Refusal {
    let (code, detail) = match failure {
        EntryFailure::Instruction(number) => (1, u64::from(number)),
        EntryFailure::GuestState(detail) => (2, detail),
        EntryFailure::MsrLoad(index) => (3, index),
        EntryFailure::MachineCheck => (4, 0),
    };
    Refusal::EntryFailed { code, detail }
}
