//! Whether KVM is usable here and gives its guests virtualisation. The device
//! file alone says nothing; QEMU is asked for a CPU with VMX or SVM, and ends
//! if a guest would not get it.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};

/// Whether a guest of KVM can be a hypervisor.
pub fn offers_virtualisation() -> bool {
    let device = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    device.is_ok() && ["vmx", "svm"].into_iter().any(gives)
}

fn gives(feature: &str) -> bool {
    let child = Command::new("qemu-system-x86_64")
        .args(["-accel", "kvm", "-cpu", &format!("host,+{feature},enforce")])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-S"])
        .args(["-monitor", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        return false;
    };
    if let Some(mut monitor) = child.stdin.take() {
        // If it has ended already, its status says so.
        let _ = monitor.write_all(b"quit\n");
    }
    child.wait().is_ok_and(|status| status.success())
}
