//! `underlay-run` boots a Linux kernel in a VM beneath Underlay, and plays the
//! machine around it: interrupt controllers, a serial port on the person's
//! terminal, a clock, a disk, ACPI.
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
mod msrs;
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
use options::{HELP, Options};
use ram::Ram;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;
use underlay_vm::Vm;
use virtio::Transport;

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

fn run(options: &Options) -> Result<End> {
    let mut vm = Vm::new(&options.name).context("the VM")?;
    let ticks_per_second = vm.ticks_per_second()?;
    let ram = Arc::new(Ram::new(&mut vm, options.memory << 20)?);
    let boot = Boot {
        kernel: options.kernel.clone(),
        initrd: options.initrd.clone(),
        command_line: options.command_line(ticks_per_second),
    };
    let mut attached = Vec::new();
    if let Some(path) = &options.disk {
        attached.push(Attached {
            place: layout::DISK,
            registers: Arc::new(Mutex::new(Transport::new(Disk::new(path)?, ram.clone())?)),
        });
    }
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
    terminal::make_raw();
    terminal::type_in(devices.clone());
    let end = devices.wait();
    for thread in threads {
        // One that panicked ended this program.
        let _ = thread.join();
    }
    Ok(end)
}
