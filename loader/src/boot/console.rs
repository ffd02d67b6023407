//! Lines for the person in front of the machine.

use core::fmt::{self, Write};

use uefi::{system, table};

/// Prints one line on the firmware's console.
macro_rules! announce {
    ($($argument:tt)*) => {
        $crate::boot::console::line(format_args!($($argument)*))
    };
}

/// Prints one line that starts with `underlay: `, so that a reader knows which
/// of the programs that start in a boot is talking.
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::boot::console::line(format_args!("underlay: {}", format_args!($($argument)*)))
    };
}
pub(super) use {announce, say};

/// Prints a line. Unlike the `uefi` crate's own macros it never panics: a
/// console that is absent or broken must not keep the machine from booting.
pub(super) fn line(text: fmt::Arguments<'_>) {
    if exists() {
        let _ = system::with_stdout(|console| writeln!(console, "{text}"));
    }
}

fn exists() -> bool {
    table::system_table_raw().is_some_and(|table| {
        // SAFETY: `entry` stored the pointer that the firmware passed to the
        // program; the table stays in place and nothing else writes to it
        // while this one thread reads two pointers.
        let table = unsafe { table.as_ref() };
        !table.boot_services.is_null() && !table.stdout.is_null()
    })
}
