//! Installs what is missing. Each step knows whether it is needed, so that
//! every command can ask at no cost.

mod debian;
mod rust;

use std::path::PathBuf;

use anyhow::{Result, bail};

/// Install what is missing: Debian packages, Rust targets, the guest's kernel
/// and its headers.
///
/// Says what it does and asks nothing. Every other command runs it when
/// something is missing. Without root it prints the one command to run.
#[derive(clap::Args)]
pub struct Args {
    /// Only print what is missing and how it would be installed
    #[arg(long)]
    print: bool,
}

/// The guest's parts from Debian.
pub struct Guest {
    /// The kernel, an EFI program.
    pub kernel: PathBuf,
    /// The statically linked busybox.
    pub busybox: PathBuf,
    /// The kernel's headers, what modules are built with.
    pub headers: PathBuf,
    /// The kernel's drivers for disks, each behind those that it needs.
    pub drivers: Vec<PathBuf>,
    /// Those for the disk and the network of a VM of the guest's.
    pub child_drivers: Vec<PathBuf>,
    /// That for the guest's end of such a network.
    pub tap_driver: PathBuf,
}

/// One thing that can be missing.
enum Step {
    Packages(Vec<&'static str>),
    Targets(Vec<&'static str>),
    Components(Vec<&'static str>),
    Guest,
}

impl Step {
    fn sentence(&self) -> String {
        match self {
            Self::Packages(names) => format!("installing Debian packages: {}", names.join(" ")),
            Self::Targets(names) => format!("adding Rust targets: {}", names.join(" ")),
            Self::Components(names) => format!("adding Rust components: {}", names.join(" ")),
            Self::Guest => {
                "downloading the guest's kernel, its headers and busybox from Debian".to_owned()
            }
        }
    }

    fn command_line(&self) -> String {
        match self {
            Self::Packages(names) => debian::install_line(names),
            Self::Targets(names) => format!("rustup target add {}", names.join(" ")),
            Self::Components(names) => format!("rustup component add {}", names.join(" ")),
            Self::Guest => debian::guest_line(),
        }
    }

    fn perform(&self) -> Result<()> {
        match self {
            Self::Packages(names) => debian::install(names),
            Self::Targets(names) => rust::add("target", names),
            Self::Components(names) => rust::add("component", names),
            Self::Guest => debian::fetch_guest(),
        }
    }
}

/// `cargo xtask setup`.
pub fn command(args: &Args) -> Result<()> {
    let missing = missing()?;
    if missing.is_empty() {
        println!("Nothing is missing.");
    } else if args.print {
        for step in &missing {
            println!("{}\n    {}", step.sentence(), step.command_line());
        }
    } else {
        perform(&missing)?;
        println!("Everything is installed.");
    }
    Ok(())
}

/// Installs what is missing, silently if nothing is.
pub fn ensure() -> Result<Guest> {
    perform(&missing()?)?;
    Ok(guest())
}

/// Where the guest's parts are, once they are there.
pub fn guest() -> Guest {
    debian::guest()
}

fn missing() -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let packages = debian::missing_packages();
    if !packages.is_empty() {
        steps.push(Step::Packages(packages));
    }
    let targets = rust::missing_targets()?;
    if !targets.is_empty() {
        steps.push(Step::Targets(targets));
    }
    let components = rust::missing_components();
    if !components.is_empty() {
        steps.push(Step::Components(components));
    }
    if debian::guest_is_missing() {
        steps.push(Step::Guest);
    }
    Ok(steps)
}

fn perform(steps: &[Step]) -> Result<()> {
    for step in steps {
        eprintln!("setup: {}", step.sentence());
        step.perform()?;
    }
    let still = if steps.is_empty() {
        Vec::new()
    } else {
        missing()?
    };
    if let Some(step) = still.first() {
        bail!(
            "{} brought no error, and it is still missing",
            step.sentence()
        );
    }
    Ok(())
}
