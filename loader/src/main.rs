//! `underlay.efi`, the UEFI program that puts the hypervisor beneath a machine
//! whose firmware is still running: it reads the config, starts the hypervisor
//! if it may and can, and starts what boots next in either case.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

#[cfg(target_os = "uefi")]
extern crate alloc;

#[cfg(target_os = "uefi")]
mod boot;

#[cfg(not(target_os = "uefi"))]
fn main() {
    println!("This is a UEFI program: build it with --target x86_64-unknown-uefi.");
}
