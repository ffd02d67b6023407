//! The hypervisor's program: an ELF file that the loader places into memory
//! and calls. All of it is in the library; this gives it an entry point.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

#[cfg(target_os = "none")]
machine::entry!(hypervisor::start::start);

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    machine::exceptions::panic(info)
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is the hypervisor: build it for x86_64-unknown-none; `cargo xtask run` does");
}
