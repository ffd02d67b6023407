//! What a person sees during long work: a spinner on a terminal, plain lines
//! elsewhere, all on standard error.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A line about work that goes on; it disappears when the work is done.
pub struct Progress(ProgressBar);

impl Progress {
    /// Starts to show `what`.
    pub fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        if !stderr().is_terminal() {
            // Without a reader it goes on all the same.
            let _ = writeln!(stderr(), "{what} ...");
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner().with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
