//! Every operation that is measured: what is done, what it may cost, and what it
//! costs beneath others. All comparisons and pages are made from this table.

use super::cost::Cost;
use crate::machine::Machine;

/// One operation.
pub struct Operation {
    /// Its name, as guests and files say it.
    pub name: &'static str,
    /// How it is measured.
    pub kind: Kind,
    /// In which ring, if it is done there.
    pub ring: &'static str,
    /// What is done, with formatting for a page.
    pub sentence: &'static str,
    /// What it may cost, on either machine.
    pub wanted: Option<u64>,
    /// What it costs in the place of Underlay, on VT-x.
    pub vtx: Elsewhere,
    /// The same on AMD-V.
    pub svm: Elsewhere,
}

/// How an operation is measured, and what its figure is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Many singles in one guest; ticks.
    Single,
    /// What the firmware's map reserves; bytes.
    Memory,
    /// Boots with Underlay and without; the least, as millionths of the native one.
    /// What comes in between only makes one longer.
    Boot,
}

/// One, as millionths.
const MILLION: u64 = 1_000_000;

/// Who else was measured.
pub const OTHERS: [&str; 4] = ["bare minimum", "BitVisor", "Xen 4.17", "KVM 6.1"];

/// The figure of each of [`OTHERS`], where somebody measured it.
pub type Elsewhere = [Option<u64>; OTHERS.len()];

const NOBODY: Elsewhere = [None; OTHERS.len()];

/// All of them, in the order of every table.
pub const OPERATIONS: [Operation; 18] = [
    Operation {
        wanted: Some(110),
        vtx: [Some(51), Some(465), Some(873), Some(1056)],
        svm: [Some(46), Some(371), None, Some(3068)],
        ..single("cpuid", "3", "CPUID of leaf 0")
    },
    Operation {
        wanted: Some(90),
        vtx: [Some(42), Some(364), Some(815), Some(1092)],
        svm: [Some(34), Some(265), None, Some(3327)],
        ..single("ping", "3", "the cheapest service")
    },
    Operation {
        wanted: Some(150),
        vtx: [None, None, Some(773), Some(1172)],
        ..single(
            "rdmsr",
            "0",
            "RDMSR of a register that Underlay answers for",
        )
    },
    Operation {
        wanted: Some(200),
        vtx: [None, None, Some(1120), Some(1310)],
        ..single(
            "port_out",
            "0",
            "OUT of a byte to a port that a controller watches",
        )
    },
    Operation {
        wanted: Some(900),
        // KVM has a way past its decoder for this.
        vtx: [None, None, None, Some(1210)],
        ..single(
            "mmio_write",
            "0",
            "MOV of a byte to a page that a controller watches",
        )
    },
    single("mmio_write8", "0", "the same with 8 bytes"),
    Operation {
        wanted: Some(700),
        vtx: [None, Some(24_546), None, None],
        ..single(
            "resolve6",
            "3",
            "the number of a service of six letters that there is not: all names are compared",
        )
    },
    Operation {
        wanted: Some(1500),
        vtx: [None, Some(16_000_000), None, None],
        ..single(
            "read4k",
            "0",
            "4 KiB from the caller's linear memory to a physical page",
        )
    },
    single("write4k", "0", "the same, back"),
    single(
        "copy4k",
        "3",
        "`memory_copy` of 4 KiB between two pages of the caller's",
    ),
    single("copy8", "3", "the same with 8 bytes"),
    single("copy0", "3", "the same with none"),
    Operation {
        wanted: Some(900),
        vtx: [None, None, None, Some(7267)],
        ..single(
            "child_port_out",
            "0",
            "OUT of a byte in a child, to the program that runs it and back",
        )
    },
    Operation {
        wanted: Some(1600),
        vtx: [None, None, None, Some(9666)],
        ..single(
            "child_mmio_write",
            "0",
            "MOV of a byte to a device's register in a child, to its program and back",
        )
    },
    Operation {
        wanted: Some(160),
        vtx: [None, None, None, Some(1056)],
        ..single("child_cpuid", "0", "CPUID of leaf 0 in a child")
    },
    Operation {
        wanted: Some(700),
        vtx: [None, None, None, Some(2927)],
        ..single(
            "child_first_touch",
            "0",
            "a child's first write to a page of its memory",
        )
    },
    Operation {
        wanted: Some(1_003_000),
        vtx: [Some(1_000_000), Some(1_033_000), None, None],
        ..other(
            Kind::Boot,
            "boot",
            "Debian's kernel, from its EFI stub to its first process",
        )
    },
    Operation {
        wanted: Some(6 << 20),
        vtx: [None, Some(128 << 20), None, None],
        ..other(
            Kind::Memory,
            "memory",
            "what the firmware's map of a machine with 1 GiB and two CPUs reserves for Underlay",
        )
    },
];

const fn single(name: &'static str, ring: &'static str, sentence: &'static str) -> Operation {
    Operation {
        ring,
        ..other(Kind::Single, name, sentence)
    }
}

const fn other(kind: Kind, name: &'static str, sentence: &'static str) -> Operation {
    Operation {
        name,
        kind,
        ring: "",
        sentence,
        wanted: None,
        vtx: NOBODY,
        svm: NOBODY,
    }
}

/// The operation called `name`.
pub fn named(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.name == name)
}

impl Operation {
    /// What it costs in the place of Underlay.
    pub fn elsewhere(&self, machine: Machine) -> Elsewhere {
        match machine {
            Machine::Vtx => self.vtx,
            Machine::Svm => self.svm,
            Machine::Kvm => NOBODY,
        }
    }

    /// The number of `cost` that is compared with what is wanted, and with others.
    pub fn figure(&self, cost: &Cost) -> u64 {
        match (self.kind, cost.native) {
            (Kind::Boot, Some(native)) => cost.min.saturating_mul(MILLION) / native.max(1),
            _ => cost.median,
        }
    }

    /// What is wanted, in the unit of `cost`.
    pub fn most(&self, cost: &Cost) -> Option<u64> {
        match (self.kind, cost.native) {
            (Kind::Boot, Some(native)) => Some(self.wanted?.saturating_mul(native) / MILLION),
            _ => self.wanted,
        }
    }

    /// Whether something is wanted of it that `cost` is.
    pub fn is_reached(&self, cost: &Cost) -> bool {
        self.wanted.is_some_and(|most| self.figure(cost) <= most)
    }

    /// A figure for people.
    pub fn shown(&self, figure: u64) -> String {
        match self.kind {
            Kind::Single => thousands(figure),
            Kind::Memory => format!("{} MiB", figure as f64 / f64::from(1 << 20)),
            Kind::Boot => format!("{:.4} × native", figure as f64 / 1e6),
        }
    }
}

/// `number` with a comma behind the thousands.
pub fn thousands(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", thousands(number / 1000), number % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_in_their_units() {
        let shown = |name, figure| named(name).unwrap().shown(figure);
        assert_eq!(shown("ping", 90), "90");
        assert_eq!(shown("read4k", 16_000_001), "16,000,001");
        assert_eq!(shown("memory", 6 << 20), "6 MiB");
        assert_eq!(shown("boot", 1_003_000), "1.0030 × native");
    }

    #[test]
    fn a_boot_is_compared_with_the_native_one() {
        let boot = named("boot").unwrap();
        let cost = |min| Cost {
            machine: "vtx".to_owned(),
            operation: "boot".to_owned(),
            min,
            median: u64::MAX,
            native: Some(1_000_000_000),
            unit: "ticks".to_owned(),
        };
        assert_eq!(boot.figure(&cost(1_003_000_999)), 1_003_000);
        assert!(boot.is_reached(&cost(1_003_000_999)));
        assert!(!boot.is_reached(&cost(1_003_001_000)));
    }

    #[test]
    fn no_two_operations_share_a_name() {
        for (at, operation) in OPERATIONS.iter().enumerate() {
            let same = OPERATIONS[..at].iter().any(|o| o.name == operation.name);
            assert!(!same, "{}", operation.name);
        }
    }
}
