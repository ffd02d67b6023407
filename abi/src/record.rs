//! Records that services write into the caller's memory: little-endian, without
//! gaps, each field at a multiple of its size.

use crate::call::Service;
use crate::report::{BUCKETS, Exits, Oddity, Record};
use core::fmt;

/// What a field is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32 bits.
    U32,
    /// 64 bits.
    U64,
    /// A byte of text.
    Char,
}

/// One field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it is made of.
    pub element: Element,
    /// How many of them, if it is an array.
    pub count: Option<usize>,
    /// What it means.
    pub sentence: &'static str,
}

impl Field {
    /// Bytes that it takes.
    pub const fn size(&self) -> usize {
        let element = match self.element {
            Element::U32 => 4,
            Element::U64 => 8,
            Element::Char => 1,
        };
        match self.count {
            Some(count) => element * count,
            None => element,
        }
    }
}

/// A record as the reference page and the C header show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its name in C, without the prefix.
    pub name: &'static str,
    /// What it is.
    pub sentence: &'static str,
    /// Its fields in their order.
    pub fields: &'static [Field],
}

/// What can be a field.
trait Content: Sized {
    const ELEMENT: Element;
    const COUNT: Option<usize>;
    fn put(&self, into: &mut [u8]);
    fn take(from: &[u8]) -> Self;
}

fn put<const N: usize>(bytes: [u8; N], into: &mut [u8]) {
    for (place, byte) in into.iter_mut().zip(bytes) {
        *place = byte;
    }
}

fn take<const N: usize>(from: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    put_slice(from, &mut bytes);
    bytes
}

fn put_slice(bytes: &[u8], into: &mut [u8]) {
    for (place, byte) in into.iter_mut().zip(bytes) {
        *place = *byte;
    }
}

impl Content for u32 {
    const ELEMENT: Element = Element::U32;
    const COUNT: Option<usize> = None;
    fn put(&self, into: &mut [u8]) {
        put(self.to_le_bytes(), into);
    }
    fn take(from: &[u8]) -> Self {
        Self::from_le_bytes(take(from))
    }
}

impl Content for u64 {
    const ELEMENT: Element = Element::U64;
    const COUNT: Option<usize> = None;
    fn put(&self, into: &mut [u8]) {
        put(self.to_le_bytes(), into);
    }
    fn take(from: &[u8]) -> Self {
        Self::from_le_bytes(take(from))
    }
}

impl<const N: usize> Content for [u64; N] {
    const ELEMENT: Element = Element::U64;
    const COUNT: Option<usize> = Some(N);
    fn put(&self, into: &mut [u8]) {
        for (place, word) in into.chunks_exact_mut(8).zip(self) {
            word.put(place);
        }
    }
    fn take(from: &[u8]) -> Self {
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(from.chunks_exact(8)) {
            *word = u64::take(bytes);
        }
        words
    }
}

/// Text of at most `N` bytes, filled up with NULs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    /// No text.
    pub const NONE: Self = Self([0; N]);

    /// `text`, as far as it fits.
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; N];
        let mut end = N.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        put_slice(text.as_bytes().get(..end).unwrap_or(&[]), &mut bytes);
        Self(bytes)
    }

    /// The text, as far as it is one.
    pub fn as_str(&self) -> &str {
        let text = self.0.split(|byte| *byte == 0).next().unwrap_or(&[]);
        core::str::from_utf8(text).unwrap_or("")
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl<const N: usize> Content for Text<N> {
    const ELEMENT: Element = Element::Char;
    const COUNT: Option<usize> = Some(N);
    fn put(&self, into: &mut [u8]) {
        put(self.0, into);
    }
    fn take(from: &[u8]) -> Self {
        Self(take(from))
    }
}

macro_rules! records {
    ($($(#[doc = $about:literal])* $record:ident $c_name:literal {
        $($field:ident: $content:ty, $sentence:literal;)*
    })*) => {
        $(
            $(#[doc = $about])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct $record {
                $(#[doc = concat!($sentence, ".")] pub $field: $content,)*
            }

            impl $record {
                /// Its fields.
                pub const LAYOUT: Layout = Layout {
                    name: $c_name,
                    sentence: concat!($($about),*),
                    fields: &[$(Field {
                        name: stringify!($field),
                        element: <$content as Content>::ELEMENT,
                        count: <$content as Content>::COUNT,
                        sentence: $sentence,
                    }),*],
                };

                /// Bytes of the record.
                pub const SIZE: usize = size(Self::LAYOUT.fields);

                /// The record as it is written.
                pub fn to_bytes(&self) -> [u8; Self::SIZE] {
                    let mut bytes = [0; Self::SIZE];
                    let mut rest = bytes.as_mut_slice();
                    $(
                        let (place, behind) = rest.split_at_mut(size_of::<$content>());
                        self.$field.put(place);
                        rest = behind;
                    )*
                    let _ = rest;
                    bytes
                }

                /// The record that was written so.
                pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
                    let mut rest = bytes.as_slice();
                    $(
                        let (place, behind) = rest.split_at(size_of::<$content>());
                        let $field = <$content as Content>::take(place);
                        rest = behind;
                    )*
                    let _ = rest;
                    Self { $($field),* }
                }
            }
        )*

        /// All records.
        pub const LAYOUTS: &[Layout] = &[$($record::LAYOUT),*];
    };
}

impl From<&Service> for ServiceRecord {
    fn from(service: &Service) -> Self {
        Self {
            number: service.number as u32,
            who: service.who as u32,
            arguments: service.arguments.len() as u32,
            results: service.results.len() as u32,
            name: Text::new(service.name),
            sentence: Text::new(service.sentence),
        }
    }
}

impl From<Exits<'_>> for ExitsRecord {
    fn from(exits: Exits<'_>) -> Self {
        Self {
            kind: Text::new(exits.kind),
            count: exits.count,
            total: exits.total,
            most: exits.most,
            buckets: exits.buckets,
        }
    }
}

impl From<Oddity<'_>> for OddityRecord {
    fn from(oddity: Oddity<'_>) -> Self {
        Self {
            name: Text::new(oddity.name),
            count: oddity.count,
        }
    }
}

impl From<Record<'_>> for TraceRecord {
    fn from(record: Record<'_>) -> Self {
        Self {
            number: record.number,
            begin: record.begin,
            end: record.end,
            rip: record.rip,
            payload: record.payload,
            kind: Text::new(record.kind),
            outcome: Text::new(record.outcome),
            cpu: record.cpu,
        }
    }
}

impl<'a> From<&'a ExitsRecord> for Exits<'a> {
    fn from(record: &'a ExitsRecord) -> Self {
        Self {
            kind: record.kind.as_str(),
            count: record.count,
            total: record.total,
            most: record.most,
            buckets: record.buckets,
        }
    }
}

impl<'a> From<&'a OddityRecord> for Oddity<'a> {
    fn from(record: &'a OddityRecord) -> Self {
        Self {
            name: record.name.as_str(),
            count: record.count,
        }
    }
}

impl<'a> From<&'a TraceRecord> for Record<'a> {
    fn from(record: &'a TraceRecord) -> Self {
        Self {
            cpu: record.cpu,
            number: record.number,
            begin: record.begin,
            end: record.end,
            kind: record.kind.as_str(),
            outcome: record.outcome.as_str(),
            rip: record.rip,
            payload: record.payload,
        }
    }
}

impl VmExit {
    /// Bytes before the values, which mean something for few kinds.
    pub const HEAD: usize = Self::SIZE - size_of::<[u64; 5]>();

    /// The record as it is written without its values.
    #[inline(always)]
    pub fn to_head(&self) -> [u8; Self::HEAD] {
        let bytes = self.to_bytes();
        *bytes.first_chunk().unwrap_or(&[0; Self::HEAD])
    }
}

/// [`Info::features`]: the guest may print.
pub const FEATURE_PRINT: u32 = 4;
/// [`Info::features`]: exits can be traced.
pub const FEATURE_TRACE: u32 = 8;

const fn size(fields: &[Field]) -> usize {
    let mut size = 0;
    let mut rest = fields;
    while let [field, behind @ ..] = rest {
        size += field.size();
        rest = behind;
    }
    size
}

records! {
    /// What there is beneath, as `info` tells it.
    Info "info" {
        abi: u32, "Version of the call interface";
        vendor: u32, "Whose hardware virtualises: 1 Intel VT-x, 2 AMD-V";
        features: u32, "1 VMCALL is the instruction, 2 VMMCALL is; added: 4 the guest may print, 8 exits can be traced";
        cpus: u32, "CPUs that Underlay handles";
        memory: u64, "Bytes of memory that Underlay keeps to itself";
        used: u64, "Bytes of these that are in use";
        ticks_per_second: u64, "The time-stamp counter's ticks a second";
        version: Text<32>, "Version of the hypervisor";
    }
    /// A service, as `list` tells of it.
    ServiceRecord "service" {
        number: u32, "Its number";
        who: u32, "Who may call it: 0 any, 1 kernel, 2 owner";
        arguments: u32, "How many arguments it takes";
        results: u32, "How many results it returns";
        name: Text<48>, "Its name";
        sentence: Text<192>, "What it does";
    }
    /// The exits of one kind, as `statistics_read` tells of them. Times are the
    /// ticks from an exit to the next entry.
    ExitsRecord "exits" {
        kind: Text<24>, "The kind's name";
        count: u64, "How many there were";
        total: u64, "What they took together";
        most: u64, "What the longest took";
        buckets: [u64; BUCKETS], "How their times are spread: bucket n counts what took 2^n to 2^(n+1) - 1 ticks, the first also what took none, the last whatever took longer";
    }
    /// Something odd, as `oddities_read` tells of it.
    OddityRecord "oddity" {
        name: Text<40>, "Its name";
        count: u64, "How often it happened";
    }
    /// A CPU, as `cpus_read` tells of it.
    CpuRecord "cpu" {
        number: u32, "Its number, counted from 0: 0 is the one on which the loader ran";
        apic: u32, "The number of its local APIC, by which an operating system knows it";
        state: u32, "What it does: 0 it runs, 1 it waits for a start-up IPI, 2 it has got a signal that it has yet to take up";
        trace: u32, "Whether its exits are recorded: 0 there is no room for them, 1 not at the moment, 2 they are";
        exits: u64, "How many exits are counted";
    }
    /// An exit, as `trace_read` tells of it.
    TraceRecord "trace" {
        number: u64, "Its number on this CPU, without gaps but for what was lost";
        begin: u64, "Time-stamp counter after the exit";
        end: u64, "Time-stamp counter before the next entry";
        rip: u64, "RIP at the exit";
        payload: [u64; 2], "What the exit carried";
        kind: Text<24>, "The kind's name";
        outcome: Text<12>, "The word with which it was answered";
        cpu: u32, "The CPU";
    }
    /// A child, as `vm_list` and `vm_query` tell of it.
    VmRecord "vm" {
        number: u64, "Its number, which no other child had or will have";
        memory: u64, "Bytes of the pool that it has";
        vcpus: u32, "How many vCPUs it has";
        running: u32, "1 if one of them runs at this moment, else 0";
        name: Text<32>, "Its name";
    }
    /// What a program says when it has a vCPU run: the answer to the last exit,
    /// and what is to happen before the vCPU goes on.
    VmEntry "vm_entry" {
        flags: u32, "Added: 1 the last exit is answered by `values`, 2 it is answered by a general-protection fault, 4 `event` is raised, 8 the exit `window` comes when the vCPU can take an interrupt, 16 CPUID exits, 32 MSRs that the child may not use exit, 64 the vCPU does not go on but for what the answer asks";
        event: u32, "Bits 0 to 7 the vector, 8 to 10 the type (0 interrupt, 2 NMI, 3 exception), 11 an error code comes with it; all others 0";
        error: u32, "The error code";
        zero: u32, "0";
        values: [u64; 4], "A port's, register's or MSR's value, or a call's RAX; of CPUID, EAX, EBX, ECX, EDX";
    }
    /// What a vCPU needs its program for.
    VmExit "vm_exit" {
        kind: u32, "1 port, 2 memory, 3 call, 4 cpuid, 5 msr, 6 halt, 7 shutdown, 8 interrupted, 9 window, 10 entry failed, 11 other";
        flags: u32, "Added: 1 it reads and wants an answer, 2 of a string instruction, 4 of a repeated one, 8 the vCPU can take an interrupt now, 16 an event is due already, 32 the entry's event could not be raised and the vCPU did not go on";
        size: u32, "Bytes of the access: 1, 2, 4 or 8";
        port: u32, "The port, or the MSR's number";
        address: u64, "The child's physical address; of an entry that failed and of other exits, the reason";
        data: u64, "What is written; a call's RAX; CPUID's EAX; of an entry that failed and of other exits, what the CPU says beside";
        rip: u64, "Where the vCPU goes on";
        values: [u64; 5], "A call's RBX, RCX, RDX, RSI and RDI; of CPUID, ECX, and EAX, EBX, ECX and EDX as they would be answered if the program had not asked; of other exits they mean nothing";
    }
    /// The registers of a vCPU. Arrays of segments are in the order ES, CS, SS,
    /// DS, FS, GS, LDTR, TR.
    VmRegisters "vm_registers" {
        general: [u64; 16], "RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15";
        rip: u64, "RIP";
        rflags: u64, "RFLAGS";
        cr0: u64, "CR0";
        cr2: u64, "CR2";
        cr3: u64, "CR3";
        cr4: u64, "CR4";
        efer: u64, "EFER";
        selectors: [u64; 8], "The segments' selectors";
        bases: [u64; 8], "Their bases";
        limits: [u64; 8], "Their limits in bytes";
        rights: [u64; 8], "Their access rights: bits 8 to 15 and 20 to 23 of the descriptor, moved down by 8; bit 16: unusable";
        gdt_base: u64, "GDTR's base";
        gdt_limit: u64, "Its limit";
        idt_base: u64, "IDTR's base";
        idt_limit: u64, "Its limit";
        debug: [u64; 6], "DR0 to DR3, DR6, DR7";
        system_call: [u64; 5], "STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE";
        system_enter: [u64; 3], "IA32_SYSENTER_CS, ESP, EIP";
        xcr0: u64, "XCR0";
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::SERVICES;

    #[test]
    fn fields_are_aligned_and_records_are_whole_words() {
        for layout in LAYOUTS {
            let mut at = 0;
            for field in layout.fields {
                let element = field.size() / field.count.unwrap_or(1);
                assert_eq!(at % element, 0, "{} {}", layout.name, field.name);
                at += field.size();
            }
            assert_eq!(at % 8, 0, "{}", layout.name);
        }
    }

    #[test]
    fn a_record_comes_back_and_its_fields_lie_in_their_order() {
        let info = Info {
            abi: 0x0403_0201,
            vendor: 5,
            features: 6,
            cpus: 7,
            memory: 0x1111_2222_3333_4444,
            used: 9,
            ticks_per_second: 10,
            version: Text::new("1.2.3"),
        };
        let bytes = info.to_bytes();
        assert_eq!(bytes[..8], [1, 2, 3, 4, 5, 0, 0, 0]);
        assert_eq!(bytes[16..20], [0x44, 0x44, 0x33, 0x33]);
        assert_eq!(bytes[40..46], *b"1.2.3\0");
        assert_eq!(Info::from_bytes(&bytes), info);
    }

    #[test]
    fn what_is_told_by_call_is_what_the_log_would_say() {
        let exits = Exits {
            kind: "cpuid",
            count: 1,
            total: 2,
            most: 3,
            buckets: core::array::from_fn(|bucket| bucket as u64),
        };
        assert_eq!(Exits::from(&ExitsRecord::from(exits)), exits);
        let oddity = Oddity {
            name: "init",
            count: 4,
        };
        assert_eq!(Oddity::from(&OddityRecord::from(oddity)), oddity);
        let record = Record {
            cpu: 1,
            number: 2,
            begin: 3,
            end: 4,
            kind: "rdmsr",
            outcome: "fault",
            rip: 5,
            payload: [6, 7],
        };
        assert_eq!(Record::from(&TraceRecord::from(record)), record);
    }

    #[test]
    fn every_service_fits_its_record() {
        for service in SERVICES {
            assert_eq!(Text::<48>::new(service.name).as_str(), service.name);
            assert_eq!(
                Text::<192>::new(service.sentence).as_str(),
                service.sentence
            );
        }
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(Text::<4>::new("abcdef").as_str(), "abcd");
        assert_eq!(Text::<4>::new("abc\u{e9}").as_str(), "abc");
    }
}
