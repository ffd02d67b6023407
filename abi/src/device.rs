//! The device of the Linux module, which makes calls for programs that opened
//! it: they need no token.

/// Where it is.
pub const PATH: &str = "/dev/underlay";

/// Bytes of the argument of [`CALL`]: RAX, RBX, RCX, RDX, RSI and RDI, as
/// before a call and then as after it.
pub const CALL_SIZE: usize = 6 * 8;

/// The ioctl that makes a call. Linux' documentation, "ioctl Numbers": read and
/// written, the argument's size, a letter, a number that nobody else has with
/// it.
pub const CALL: u32 = 3 << 30 | (CALL_SIZE as u32) << 16 | (b'U' as u32) << 8 | 0xf0;
