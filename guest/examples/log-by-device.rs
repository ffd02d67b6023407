//! Reads the hypervisor's whole log by way of /dev/underlay, and says how much
//! there was.

use abi::call::{LOG_READ, TRANSFER_MAX};
use abi::device::PATH;
use std::error::Error;
use std::process::ExitCode;
use underlay::device::Device;

fn main() -> ExitCode {
    match read() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn read() -> Result<(), Box<dyn Error>> {
    let device = Device::open().map_err(|error| format!("{PATH}: {error}"))?;
    let mut lines = vec![0; TRANSFER_MAX];
    let (mut next, mut bytes, mut lost) = (0, 0, 0);
    loop {
        let arguments = [lines.as_mut_ptr() as u64, lines.len() as u64, next, 0, 0];
        // SAFETY: the service writes no more than the length of `lines`.
        let reply = unsafe { device.call(LOG_READ, arguments) }?;
        let done = reply.result()?;
        if done == 0 {
            break;
        }
        next = reply.results[0];
        lost += reply.results[1];
        bytes += done;
    }
    println!("the log: {next} lines, {bytes} bytes, {lost} lines lost");
    Ok(())
}
