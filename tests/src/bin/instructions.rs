//! Instructions that may leave the guest, or that a hypervisor must switch on,
//! do what they do on the bare CPU.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use core::arch::asm;
use core::time::Duration;
use tests::attempt::{GP, UD};
use tests::cpu::Register::{Ebx, Ecx, Edx};
use tests::cpu::{self, feature};
use tests::uefi::boot::{self, EventType, TimerTrigger, Tpl};
use tests::{Fault, Report, attempt};
use x86::control::Cr4;

tests::guest!(check);

fn check(report: &mut Report) {
    caches(report);
    time(report);
    invalidation(report);
    protection_keys(report);
    debug_registers(report);
    task_priority(report);
    halt(report);
}

/// The instruction works if the CPU has it, else raises #UD.
fn exists(report: &mut Report, name: &str, has: bool, found: Result<(), Fault>) {
    if has {
        report.equal(name, found, Ok(()));
    } else {
        report.raises(format_args!("{name} without the feature"), UD, found);
    }
}

fn caches(report: &mut Report) {
    // SAFETY: changes no memory.
    let found = attempt(|| unsafe { asm!("wbinvd") });
    report.equal("WBINVD", found, Ok(()));
    // On a real CPU INVD forgets writes; a hypervisor must turn it into WBINVD.
    // Tests run in emulators, which have no caches.
    // SAFETY: as just said.
    let found = attempt(|| unsafe { asm!("wbinvd", "invd") });
    report.equal("INVD", found, Ok(()));
}

fn time(report: &mut Report) {
    // SAFETY: RDTSC changes nothing.
    let ticks = || unsafe { core::arch::x86_64::_rdtsc() };
    let (first, second) = (ticks(), ticks());
    report.holds("RDTSC rises", second > first);
    // SAFETY: changes only the registers named.
    let found = attempt(|| unsafe {
        asm!("rdtscp", out("rax") _, out("rcx") _, out("rdx") _);
    });
    exists(report, "RDTSCP", feature(0x8000_0001, Edx, 27), found);
    // SAFETY: as above.
    let found = attempt(|| unsafe { asm!("rdpid rax", out("rax") _) });
    exists(report, "RDPID", feature(7, Ecx, 22), found);
    // SAFETY: as above.
    let found = attempt(|| unsafe { asm!("rdrand rax", out("rax") _) });
    exists(report, "RDRAND", feature(1, Ecx, 30), found);
}

fn invalidation(report: &mut Report) {
    let descriptor = [0u64; 2];
    let invpcid = |kind: u64| {
        // SAFETY: forgets translations that the CPU can find again.
        attempt(|| unsafe { asm!("invpcid {}, [{}]", in(reg) kind, in(reg) &descriptor) })
    };
    let has = feature(7, Ebx, 10);
    exists(report, "INVPCID of everything", has, invpcid(2));
    exists(report, "INVPCID of one address", has, invpcid(0));
    if has {
        report.raises("INVPCID of an unknown type", GP, invpcid(4));
    }
    // SAFETY: as above.
    let found = attempt(|| unsafe { asm!("invlpg [{}]", in(reg) &descriptor) });
    report.equal("INVLPG", found, Ok(()));
}

fn protection_keys(report: &mut Report) {
    // SAFETY: changes only the registers named.
    let read = || unsafe {
        let rights: u32;
        asm!("rdpkru", out("eax") rights, in("ecx") 0, out("edx") _);
        rights
    };
    let before = cpu::read_cr4();
    let found = attempt(|| {
        // SAFETY: no page of the firmware is a user's.
        unsafe { cpu::write_cr4(before & !Cr4::PKE.bits()) };
        read()
    });
    report.raises("RDPKRU without CR4.PKE", UD, found);
    if feature(7, Ecx, 3) {
        let found = attempt(|| {
            // SAFETY: as above; PKRU is put back.
            unsafe {
                cpu::write_cr4(before | Cr4::PKE.bits());
                let old = read();
                asm!("wrpkru", in("eax") 0x5555_5550u32, in("ecx") 0, in("edx") 0);
                let new = read();
                asm!("wrpkru", in("eax") old, in("ecx") 0, in("edx") 0);
                new
            }
        });
        report.equal("WRPKRU reads back", found, Ok(0x5555_5550));
    }
    // SAFETY: the value from before.
    unsafe { cpu::write_cr4(before) };
}

fn debug_registers(report: &mut Report) {
    let found = attempt(|| {
        let (old, new): (u64, u64);
        // SAFETY: DR7 enables no breakpoint; DR0 is put back.
        unsafe {
            asm!(
                "mov {old}, dr0", "mov dr0, {value}", "mov {new}, dr0", "mov dr0, {old}",
                old = out(reg) old, new = out(reg) new, value = in(reg) 0x1234_5678u64,
            );
        }
        let _ = old;
        new
    });
    report.equal("DR0 reads back", found, Ok(0x1234_5678));
}

fn task_priority(report: &mut Report) {
    let found = attempt(|| {
        let (old, new): (u64, u64);
        // SAFETY: interrupts are off; CR8 is put back.
        unsafe {
            asm!(
                "mov {old}, cr8", "mov cr8, {value}", "mov {new}, cr8", "mov cr8, {old}",
                old = out(reg) old, new = out(reg) new, value = in(reg) 9u64,
            );
        }
        let _ = old;
        new
    });
    report.equal("CR8 reads back", found, Ok(9));
}

/// HLT ends when the firmware's timer interrupts.
fn halt(report: &mut Report) {
    const ENOUGH: u32 = 1000;
    // SAFETY: no callback.
    let event = unsafe { boot::create_event(EventType::TIMER, Tpl::APPLICATION, None, None) };
    let event = event.expect("a timer event");
    let soon = TimerTrigger::Relative(Duration::from_millis(50));
    boot::set_timer(&event, soon).expect("a timer");
    let halts = (1..ENOUGH).find(|_| {
        // SAFETY: interrupts are on, as the firmware has them for programs.
        unsafe { asm!("hlt", options(nomem, nostack)) };
        boot::check_event(&event).unwrap_or(false)
    });
    report.say(format_args!("woken {halts:?} times"));
    report.holds("HLT until a timer's event", halts.is_some());
}
