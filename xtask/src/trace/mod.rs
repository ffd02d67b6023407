//! `cargo xtask trace`: every exit of a run, as a file for a trace viewer and
//! as a table.

pub mod log;

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use views::trace::{json, summary};

use crate::given;
use crate::paths;
use crate::run;

/// Record every exit of a run, for Perfetto or chrome://tracing.
///
/// Takes what `run` takes. The records are written out at the end of the run:
/// after the command of --exec, at `poweroff`, or at Ctrl-A X. The newest 4096
/// exits are kept; `--conf trace=4M` keeps more.
#[derive(clap::Args)]
#[group(id = "trace")]
#[command(after_help = "\
Examples:
  cargo xtask trace --exec true
      every exit of a boot; open target/underlay/trace.json in ui.perfetto.dev
  cargo xtask trace --machine vtx --exec 'dd if=/dev/zero of=/dev/null count=9'
      the same on an emulated Intel CPU
  cargo xtask trace --conf trace=4M --out long.json
      of an interactive session, with room for 65536 exits
  cargo xtask trace --from log.txt
      of the hypervisor's log of an earlier run, or of a real machine's, in
      which `underlayctl trace write` was run")]
pub struct Args {
    /// The file to write [default: trace.json in target/underlay]
    #[arg(long, value_name = "P")]
    out: Option<PathBuf>,
    /// Run nothing: take the trace from this log
    #[arg(long, value_name = "P", conflicts_with_all = ["exec", "efi", "native"])]
    from: Option<PathBuf>,
    #[command(flatten)]
    run: run::Args,
}

/// `cargo xtask trace`.
pub fn command(args: &mut Args) -> Result<u8> {
    let default = paths::underlay().join("trace.json");
    let out = args.out.as_deref().unwrap_or(&default);
    if args.out.is_some() {
        given::folder_of("--out", out)?;
    }
    let (log, status) = match &args.from {
        Some(path) => (
            fs::read(path).with_context(|| path.display().to_string())?,
            0,
        ),
        None => {
            args.run.trace()?;
            let (report, status) = run::run(&args.run)?;
            (report.log, status)
        }
    };
    write(&String::from_utf8_lossy(&log), out)?;
    Ok(status)
}

fn write(log: &str, out: &Path) -> Result<()> {
    let trace = log::read(log);
    ensure!(
        !trace.cpus.is_empty(),
        "there is no trace in the log: Underlay did not run, or nobody made it write \
         (`underlayctl trace write`; `trace` in underlay.conf must not be off)"
    );
    let file = File::create(out).map(BufWriter::new);
    file.and_then(|file| json::write(&trace, file))
        .with_context(|| format!("writing {}", out.display()))?;
    print!("{}", summary::text(&trace));
    println!(
        "\n{}: open it in ui.perfetto.dev or chrome://tracing.",
        paths::shown(out)
    );
    Ok(())
}
