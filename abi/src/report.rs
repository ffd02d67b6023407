//! Lines of the hypervisor's log that tools read: statistics of exits, and
//! records of a trace. The log is for people, so these stand among other
//! lines; each names itself and ends with a full stop, by which one that was
//! cut on its way is known, even where the next begins behind it.

use core::fmt;

/// Buckets of a histogram: bucket n counts what took 2^n to 2^(n+1) - 1 ticks,
/// the first also what took none, the last whatever took longer.
pub const BUCKETS: usize = 32;

const STATISTICS: &str = "statistics: ";
const EXITS: &str = "exits: ";
const ODDITY: &str = "oddity: ";
const TRACE: &str = "trace: ";
const RECORD: &str = "record: ";
const END: &str = " .";

/// What stands before the table of a CPU's statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// The CPU.
    pub cpu: u32,
    /// Its time-stamp counter's ticks a second.
    pub hz: u64,
    /// Lines that follow: one for each kind of exit or oddity that happened.
    pub lines: u64,
}

/// The exits of one kind. Times are the ticks from an exit to the next entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exits<'a> {
    /// The kind's name.
    pub kind: &'a str,
    /// How many there were.
    pub count: u64,
    /// What they took together.
    pub total: u64,
    /// What the longest took.
    pub most: u64,
    /// How their times are spread.
    pub buckets: [u64; BUCKETS],
}

/// How often something odd happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oddity<'a> {
    /// Its name, without spaces.
    pub name: &'a str,
    /// How often.
    pub count: u64,
}

/// How far a CPU's trace has been written out. Stands behind its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The CPU.
    pub cpu: u32,
    /// Its time-stamp counter's ticks a second.
    pub hz: u64,
    /// The number of the next record.
    pub next: u64,
    /// Records before that one which were overwritten before anyone read them.
    pub lost: u64,
}

/// One record of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The CPU.
    pub cpu: u32,
    /// Its number on this CPU, without gaps but for what was lost.
    pub number: u64,
    /// Time-stamp counter after the exit.
    pub begin: u64,
    /// Time-stamp counter before the next entry.
    pub end: u64,
    /// The kind of the exit.
    pub kind: &'a str,
    /// The word with which it was answered.
    pub outcome: &'a str,
    /// RIP at the exit.
    pub rip: u64,
    /// What the exit carried.
    pub payload: [u64; 2],
    /// The number of the child that exited; 0: it was the guest.
    pub child: u32,
    /// Which of the child's vCPUs it was.
    pub vcpu: u32,
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, hz, lines } = self;
        write!(f, "{STATISTICS}{cpu} {hz} {lines}{END}")
    }
}

impl fmt::Display for Exits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, count, total, most) = (self.kind, self.count, self.total, self.most);
        write!(f, "{EXITS}{kind} {count} {total} {most}")?;
        let filled = self.buckets.iter().enumerate().filter(|(_, n)| **n > 0);
        for (bucket, count) in filled {
            write!(f, " {bucket}:{count}")?;
        }
        f.write_str(END)
    }
}

impl fmt::Display for Oddity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ODDITY}{} {}{END}", self.name, self.count)
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cpu, hz, next, lost) = (self.cpu, self.hz, self.next, self.lost);
        write!(f, "{TRACE}{cpu} {hz} {next} {lost}{END}")
    }
}

/// Numbers are hexadecimal: a serial line is slow. What says whose it is stands
/// behind a child's alone.
impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cpu, number, [first, second]) = (self.cpu, self.number, self.payload);
        let (begin, end, rip) = (self.begin, self.end, self.rip);
        let (kind, outcome) = (self.kind, self.outcome);
        write!(f, "{RECORD}{cpu:x} {number:x} {begin:x} {end:x} ")?;
        write!(f, "{kind} {outcome} {rip:x} {first:x} {second:x}")?;
        if self.child != 0 {
            write!(f, " {:x} {:x}", self.child, self.vcpu)?;
        }
        f.write_str(END)
    }
}

/// Whose a record is, for people, behind it: nothing, or `, VM 3 vCPU 0`.
#[derive(Clone, Copy, Debug)]
pub struct Whose {
    child: u32,
    vcpu: u32,
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.child {
            0 => Ok(()),
            child => write!(f, ", VM {child} vCPU {}", self.vcpu),
        }
    }
}

impl Record<'_> {
    /// Whose it is.
    pub const fn whose(&self) -> Whose {
        Whose {
            child: self.child,
            vcpu: self.vcpu,
        }
    }
}

impl Statistics {
    /// The head of a table, if `line` is one.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = words(line, STATISTICS)?;
        Some(Self {
            cpu: words.next()?.parse().ok()?,
            hz: words.next()?.parse().ok()?,
            lines: words.next()?.parse().ok()?,
        })
    }
}

impl<'a> Exits<'a> {
    /// A row of a table, if `line` is one.
    pub fn parse(line: &'a str) -> Option<Self> {
        let mut words = words(line, EXITS)?;
        let mut row = Self {
            kind: words.next()?,
            count: words.next()?.parse().ok()?,
            total: words.next()?.parse().ok()?,
            most: words.next()?.parse().ok()?,
            buckets: [0; BUCKETS],
        };
        for word in words {
            let (bucket, count) = word.split_once(':')?;
            let bucket: usize = bucket.parse().ok()?;
            *row.buckets.get_mut(bucket)? = count.parse().ok()?;
        }
        Some(row)
    }
}

impl<'a> Oddity<'a> {
    /// A row of a table, if `line` is one.
    pub fn parse(line: &'a str) -> Option<Self> {
        let mut words = words(line, ODDITY)?;
        Some(Self {
            name: words.next()?,
            count: words.next()?.parse().ok()?,
        })
    }
}

impl Written {
    /// How far a trace has been written, if `line` says so.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = words(line, TRACE)?;
        Some(Self {
            cpu: words.next()?.parse().ok()?,
            hz: words.next()?.parse().ok()?,
            next: words.next()?.parse().ok()?,
            lost: words.next()?.parse().ok()?,
        })
    }
}

impl<'a> Record<'a> {
    /// A record, if `line` is a whole one.
    pub fn parse(line: &'a str) -> Option<Self> {
        let mut words = words(line, RECORD)?;
        let mut record = Self {
            cpu: narrow(words.next()?)?,
            number: hexadecimal(words.next()?)?,
            begin: hexadecimal(words.next()?)?,
            end: hexadecimal(words.next()?)?,
            kind: words.next()?,
            outcome: words.next()?,
            rip: hexadecimal(words.next()?)?,
            payload: [hexadecimal(words.next()?)?, hexadecimal(words.next()?)?],
            child: 0,
            vcpu: 0,
        };
        if let Some(child) = words.next() {
            record.child = narrow(child)?;
            record.vcpu = narrow(words.next()?)?;
        }
        words.next().is_none().then_some(record)
    }
}

fn hexadecimal(word: &str) -> Option<u64> {
    u64::from_str_radix(word, 16).ok()
}

fn narrow(word: &str) -> Option<u32> {
    u32::try_from(hexadecimal(word)?).ok()
}

/// The words between `name`, which may stand behind a time and a module, and
/// the full stop.
fn words<'a>(line: &'a str, name: &str) -> Option<impl Iterator<Item = &'a str>> {
    let (_, body) = line.rsplit_once(name)?;
    Some(body.trim_end().strip_suffix(END)?.split(' '))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;
    use std::string::ToString;

    const RECORDED: Record<'static> = Record {
        cpu: 0,
        number: 0x10,
        begin: u64::MAX,
        end: 3,
        kind: "cpuid",
        outcome: "done",
        rip: 0xffff_ffff_8100_0000,
        payload: [0x4000_0000, 0],
        child: 0,
        vcpu: 0,
    };

    #[test]
    fn a_record_survives_the_log_and_a_cut_one_is_not_taken_for_whole() {
        let of_child = Record {
            child: 0x12,
            vcpu: 3,
            ..RECORDED
        };
        for record in [RECORDED, of_child] {
            let line = format!("{record}\r\n");
            assert_eq!(Record::parse(&line), Some(record));
            let written = line.trim_end();
            for end in 0..written.len() {
                let cut = &written[..end];
                assert_eq!(Record::parse(cut), None, "{end}");
                assert_eq!(Record::parse(&format!("{cut}{line}")), Some(record));
            }
        }
    }

    #[test]
    fn a_row_survives_the_log_with_its_histogram() {
        let mut row = Exits {
            kind: "rdmsr",
            count: 3,
            total: u64::MAX,
            most: 1 << 40,
            buckets: [0; BUCKETS],
        };
        row.buckets[0] = 1;
        row.buckets[BUCKETS - 1] = 2;
        let line = format!("[    1.000002 cpu0 INFO  statistics] {row}");
        assert_eq!(Exits::parse(&line), Some(row));
        assert_eq!(Exits::parse("exits: rdmsr 1 1 1 32:1 ."), None);
    }

    #[test]
    fn heads_and_oddities_survive_and_are_not_mistaken_for_each_other() {
        let head = Statistics {
            cpu: 1,
            hz: 2_000_000_000,
            lines: 7,
        };
        let oddity = Oddity {
            name: "init",
            count: 4,
        };
        let written = Written {
            cpu: 1,
            hz: 5,
            next: 70,
            lost: 6,
        };
        let lines = [head.to_string(), oddity.to_string(), written.to_string()];
        assert_eq!(
            lines.each_ref().map(|l| Statistics::parse(l)),
            [Some(head), None, None]
        );
        assert_eq!(
            lines.each_ref().map(|l| Oddity::parse(l)),
            [None, Some(oddity), None]
        );
        assert_eq!(
            lines.each_ref().map(|l| Written::parse(l)),
            [None, None, Some(written)]
        );
    }
}
