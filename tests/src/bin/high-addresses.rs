//! Every physical address that CPUID allows can be reached through the nested
//! tables: devices above 4 GiB live there.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use tests::cpu::cpuid;
use tests::linear::{PRESENT_WRITABLE, Window};
use tests::{Report, attempt};

tests::guest!(check);

fn check(report: &mut Report) {
    let bits = cpuid(0x8000_0008).eax & 0xff;
    report.say(format_args!("{bits} bits of physical address"));
    let mut window = Window::open();
    let ends = (32..bits).map(|bit| 1u64 << bit);
    for at in ends.chain([(1 << bits) - 4096]) {
        window.set(0, at | PRESENT_WRITABLE);
        // SAFETY: the window's page is mapped, and nothing of this program's
        // lies at that address; reads of what is not there do no harm.
        let read = attempt(|| unsafe { (Window::address(0) as *const u32).read_volatile() });
        report.holds(format_args!("{at:#x} can be read: {read:x?}"), read.is_ok());
    }
}
