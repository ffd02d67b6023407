//! Starts another kernel in place of the running one, as kexec does: `next-kernel
//! KERNEL INITRD PARAMETERS`. Comes back only if that fails.

use std::env;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let why = match arguments.as_slice() {
        [kernel, initrd, parameters] => match start(kernel, initrd, parameters) {
            Ok(never) => match never {},
            Err(error) => error.to_string(),
        },
        _ => "usage: next-kernel KERNEL INITRD PARAMETERS".to_owned(),
    };
    eprintln!("next-kernel: {why}");
    ExitCode::FAILURE
}

enum Never {}

fn start(kernel: &str, initrd: &str, parameters: &str) -> io::Result<Never> {
    let (kernel, initrd) = (File::open(kernel)?, File::open(initrd)?);
    let parameters = CString::new(parameters)?;
    // SAFETY: the files are open, and the parameters end with the NUL that the
    // length counts; the kernel copies all of it.
    let loaded = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initrd.as_raw_fd(),
            parameters.as_bytes_with_nul().len(),
            parameters.as_ptr(),
            0,
        )
    };
    if loaded != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: nothing of this process outlives it, which is what is asked for.
    unsafe { libc::reboot(libc::LINUX_REBOOT_CMD_KEXEC) };
    Err(io::Error::last_os_error())
}
