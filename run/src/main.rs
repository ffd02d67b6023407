//! `underlay-run` boots a Linux kernel in a VM beneath Underlay, and plays the
//! machine around it: interrupt controllers, a serial port on the person's
//! terminal, a clock, a disk, a network interface, ACPI.
//!
//! Each vCPU has a thread (`vcpu`), which runs it by a call and does what it
//! comes back for. All threads share the devices (`devices`) and, among them, the
//! interrupt controllers (`interrupts`), by which one has another's vCPU look up.

mod boot;
mod clock;
mod cpuid;
mod devices;
mod disk;
mod end;
mod interrupts;
mod layout;
mod lock;
mod msrs;
mod network;
mod options;
mod ram;
mod tables;
mod terminal;
mod vcpu;
mod virtio;

use anyhow::{Context, Result};
use boot::Boot;
use devices::{Attached, Devices};
use disk::Disk;
use end::End;
use interrupts::Interrupts;
use layout::Place;
use network::{Network, Receiver, Tap};
use options::{HELP, Options};
use ram::Ram;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;
use underlay_vm::Vm;
use virtio::{Registers, Transport};

const WRONG_COMMAND_LINE: u8 = 2;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args_os()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("underlay-run: {error} (--help shows how)");
            return ExitCode::from(WRONG_COMMAND_LINE);
        }
    };
    let end = run(&options).unwrap_or_else(|error| End::Failed(format!("{error:#}")));
    terminal::put_back();
    eprintln!("underlay-run: {}: {end}", options.name);
    ExitCode::from(end.status())
}

/// The devices of virtio's that a VM has.
#[derive(Default)]
struct Extras {
    attached: Vec<Attached>,
    network: Option<Arc<Mutex<Transport<Network>>>>,
}

impl Extras {
    fn new(options: &Options, tap: Option<Tap>, ram: &Arc<Ram>) -> Result<Self> {
        let mut extras = Self::default();
        if let Some(path) = &options.disk {
            let disk = Transport::new(Disk::new(path)?, ram.clone())?;
            extras.attach(layout::DISK, Arc::new(Mutex::new(disk)));
        }
        if let Some(tap) = tap {
            let network = Network::new(Arc::new(tap), &options.name);
            let network = Arc::new(Mutex::new(Transport::new(network, ram.clone())?));
            extras.attach(layout::NETWORK, network.clone());
            extras.network = Some(network);
        }
        Ok(extras)
    }

    fn attach(&mut self, place: Place, registers: Arc<Mutex<dyn Registers>>) {
        self.attached.push(Attached { place, registers });
    }
}

fn run(options: &Options) -> Result<End> {
    // Whoever sees the VM finds that the tap device is in use.
    let tap = options.net.as_deref().map(Tap::open).transpose()?;
    let mut vm = Vm::new(&options.name).context("the VM")?;
    let ticks_per_second = vm.ticks_per_second()?;
    let ram = Arc::new(Ram::new(&mut vm, options.memory << 20)?);
    let boot = Boot {
        kernel: options.kernel.clone(),
        initrd: options.initrd.clone(),
        command_line: options.command_line(ticks_per_second),
    };
    let Extras { attached, network } = Extras::new(options, tap, &ram)?;
    let places: Vec<_> = attached.iter().map(|one| one.place).collect();
    let entry = boot.load(&ram.view, options.cpus, &places)?;
    let interrupts = Arc::new(Interrupts::new(options.cpus, ticks_per_second));
    let output = Box::new(std::io::stdout());
    let devices = Arc::new(Devices::new(interrupts, attached, output));

    interrupts::runner::prepare();
    terminal::end_at_signals(&devices);
    let mut threads = Vec::new();
    for number in 0..options.cpus {
        let vcpu = vm.vcpu()?;
        let mut runner = vcpu::Runner::new(number, vcpu, devices.clone(), ticks_per_second)?;
        if number == 0 {
            runner.begin_at(entry)?;
        }
        threads.push(thread::spawn(move || runner.run()));
    }
    let interrupts = &devices.interrupts;
    let receiver = network.map(|network| Receiver::start(network, interrupts.clone()));
    terminal::make_raw();
    terminal::type_in(devices.clone());
    let end = devices.wait();
    for thread in threads {
        // One that panicked ended this program.
        let _ = thread.join();
    }
    if let Some(receiver) = receiver {
        receiver.end();
    }
    Ok(end)
}
