//! The hypervisor's `main`: which vendor, is everything there, and then the
//! loop.

use crate::chain;
use crate::instruction;
use crate::outcome::Stop;
use crate::printer::Printer;
use crate::run::run;
use crate::statistics::Statistics;
use crate::trace::Trace;
use crate::vm::{Cpu, Features, Vm};
use abi::handoff::{Compat, Presence};
use abi::refusal::Refusal;
use abi::token::Token;
use machine::nested::Format;
use machine::svm::SvmCpu;
use machine::vtx::VtxCpu;
use machine::{Boot, GuestMemory, Memory, Vcpu, exceptions, instructions, svm, vtx};
use x86::cpuid::Vendor;
use x86::exit::EntryFailure;
use x86::vtx::control::secondary;

/// Puts the running machine on the hypervisor. Returns only when it cannot.
pub fn start(mut boot: Boot) -> Refusal {
    let region = boot.handoff.region_base;
    let size = boot.handoff.region_size;
    log::info!(
        "Underlay {} at {region:#x}, {} KiB",
        env!("CARGO_PKG_VERSION"),
        size / 1024
    );
    instruction::warm_up();
    let answer = match boot.vendor() {
        Some(Vendor::Intel) => start_vtx(&mut boot),
        Some(Vendor::Amd) => start_svm(&mut boot),
        None => Err(Refusal::NoVirtualisation),
    };
    match answer {
        Ok(never) => match never {},
        Err(refusal) => {
            log::error!("cannot run: {refusal}");
            refusal
        }
    }
}

/// The guest runs until the machine ends.
enum Never {}

fn start_vtx(boot: &mut Boot) -> Result<Never, Refusal> {
    let support = vtx::support()?;
    let features = Features {
        rdtscp: support.has(secondary::RDTSCP),
        invpcid: support.has(secondary::INVPCID),
        xsaves: support.has(secondary::XSAVES),
        user_wait: support.has(secondary::USER_WAIT),
    };
    let memory = boot.guest_memory(Format::Ept, support.gib_pages())?;
    let cpu = VtxCpu::new(boot, &memory, support)?;
    log::info!(
        "VT-x: {features:?}, EPT with 1 GiB pages: {}",
        support.gib_pages()
    );
    serve(boot, memory, cpu, features, VtxCpu::leave)
}

fn start_svm(boot: &mut Boot) -> Result<Never, Refusal> {
    let support = svm::support()?;
    let memory = boot.guest_memory(Format::Npt, support.gib_pages())?;
    let cpu = SvmCpu::new(boot, &memory, support)?;
    log::info!("AMD-V: {support:?}");
    serve(boot, memory, cpu, Features::ALL, SvmCpu::leave)
}

fn serve<V: Vcpu>(
    boot: &mut Boot,
    memory: GuestMemory,
    mut vcpu: V,
    features: Features,
    leave: fn(V),
) -> Result<Never, Refusal> {
    let presence = Presence::from_code(boot.handoff.presence).unwrap_or_default();
    let mut vm = Vm::new(memory, presence, features);
    vm.token = Token(boot.handoff.token);
    if boot.handoff.compat == Compat::BitVisor.code() {
        vm.compat = Compat::BitVisor;
    }
    if boot.handoff.print != 0 {
        vm.printer = Some(Printer::new(vm.memory.reserved().start));
    }
    vm.ticks_per_second = boot.handoff.tsc_hz;
    let declared = chain::declare(&vm, &mut vcpu).map_err(|_| boot.too_small());
    let (statistics, trace) = match declared.and_then(|()| records(boot)) {
        Ok(records) => records,
        Err(refusal) => {
            leave(vcpu);
            return Err(refusal);
        }
    };
    vm.cpus = boot.handoff.cpus;
    vm.memory_used = boot.used();
    let mut cpu = Cpu::watched(vcpu, statistics, trace);
    log::info!(
        "{} of {} KiB used; presence {presence:?}; the guest goes on",
        boot.used() / 1024,
        boot.handoff.region_size / 1024
    );
    let stop = run(&vm, &mut cpu);
    match stop {
        Stop::EntryFailed(failure) if cpu.statistics.total() == 1 => {
            leave(cpu.vcpu);
            Err(refusal(failure))
        }
        Stop::Reset => instructions::reset_machine(),
        other => exceptions::stop(format_args!("{other:?} after {}", cpu.statistics)),
    }
}

/// Where a CPU counts its exits, and traces them if the config says so. Not on
/// the stack, which is small and nobody else's to read; and made in a frame of
/// its own, which is gone when the guest runs.
#[inline(never)]
fn records(boot: &mut Boot) -> Result<(&'static Statistics, &'static Trace), Refusal> {
    let statistics = boot.place(Statistics::default())?;
    let trace = Trace::new(boot.words(boot.handoff.trace_size)?);
    Ok((statistics, boot.place(trace)?))
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
