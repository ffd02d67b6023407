//! Has the firmware switch the second CPU off, then starts the loader, which
//! must say so and boot on. The next stage reports; this guest only if the
//! loader comes back.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use tests::{Report, chain};
use uefi::boot;
use uefi::proto::pi::mp::MpServices;

tests::guest!(check);

fn check(report: &mut Report) {
    report.equal("CPU 1 is switched off", disable(), Ok(()));
    let ended = chain::start_loader();
    report.holds(format_args!("the loader goes on, not {ended:?}"), false);
}

fn disable() -> uefi::Result {
    let handle = boot::get_handle_for_protocol::<MpServices>()?;
    let services = boot::open_protocol_exclusive::<MpServices>(handle)?;
    services.enable_disable_ap(1, false, None)
}
