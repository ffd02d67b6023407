//! The segment registers of a new task: their descriptors are checked in its
//! own context, after it has begun. Intel SDM volume 3, "Task Switching", table
//! "Exception Conditions Checked During a Task Switch".

use super::cause::Cause;
use super::linear::Linear;
use machine::{Memory, Vcpu};
use x86::Exception;
use x86::segment::{
    ACCESSED, CODE, CODE_OR_DATA, CONFORMING, PRESENT, READABLE_OR_WRITABLE, Segment, SegmentName,
    UNUSABLE,
};

/// The order in which a TSS holds their selectors.
pub const NAMES: [SegmentName; 6] = [
    SegmentName::Es,
    SegmentName::Cs,
    SegmentName::Ss,
    SegmentName::Ds,
    SegmentName::Fs,
    SegmentName::Gs,
];

/// The type of a local descriptor table; it is no code or data segment.
const LOCAL_TABLE: u32 = 2;
const TYPE: u32 = 0xf | CODE_OR_DATA;
const ACCESS_BYTE: u32 = 5;
/// Code that runs at the privilege of whoever calls it.
const CONFORMING_CODE: u32 = CODE | CONFORMING;

/// A flat code segment: what a task has, at its own privilege, whose code
/// segment cannot be loaded. Nothing runs in it.
const UNLOADED_CODE: u32 = 0xc09b;

/// The context in which descriptors are looked up.
pub struct Context<'a, M> {
    pub linear: Linear<'a, M>,
    pub cause: &'a Cause,
}

/// A descriptor that was found.
struct Found {
    at: u32,
    segment: Segment,
}

/// Loads the selectors alone, so that the task is one in which a fault can be
/// raised whatever they are. CS says the privilege.
pub fn unload<V: Vcpu>(vcpu: &mut V, selectors: [u16; 6], ldt: u16) {
    let [_, code, ..] = selectors;
    let level = u32::from(privilege(code)) << 5;
    for (name, selector) in NAMES.into_iter().zip(selectors) {
        let null = Segment::null(selector);
        let segment = match name {
            SegmentName::Cs => Segment {
                limit: !0,
                rights: UNLOADED_CODE | level,
                ..null
            },
            SegmentName::Ss => Segment {
                rights: UNUSABLE | level,
                ..null
            },
            _ => null,
        };
        vcpu.set_segment(name, segment);
    }
    vcpu.set_segment(SegmentName::Ldtr, Segment::null(ldt));
}

/// Loads the segment registers of virtual-8086 mode, where nothing can fail.
pub fn load_virtual_8086<V: Vcpu>(vcpu: &mut V, selectors: [u16; 6]) {
    for (name, selector) in NAMES.into_iter().zip(selectors) {
        vcpu.set_segment(name, Segment::virtual_8086(selector));
    }
}

const fn is_null(selector: u16) -> bool {
    selector & !3 == 0
}

const fn privilege(selector: u16) -> u8 {
    selector as u8 & 3
}

impl<M: Memory> Context<'_, M> {
    /// The local descriptor table, which must be in the global one.
    pub fn load_ldt<V: Vcpu>(&self, vcpu: &mut V, selector: u16) -> Result<(), Exception> {
        if is_null(selector) {
            return Ok(());
        }
        let invalid = self.cause.invalid(selector);
        if is_local(selector) {
            return Err(invalid);
        }
        let Found { segment, .. } = self.find(vcpu, selector)?;
        if segment.rights & TYPE != LOCAL_TABLE || segment.rights & PRESENT == 0 {
            return Err(invalid);
        }
        vcpu.set_segment(SegmentName::Ldtr, segment);
        Ok(())
    }

    /// CS.
    pub fn load_code<V: Vcpu>(&self, vcpu: &mut V, selector: u16) -> Result<(), Exception> {
        let found = self.find(vcpu, selector)?;
        let (rights, dpl) = (found.segment.rights, found.segment.dpl());
        let fits = match rights & CONFORMING {
            0 => dpl == privilege(selector),
            _ => dpl <= privilege(selector),
        };
        if rights & (CODE_OR_DATA | CODE) != CODE_OR_DATA | CODE || !fits {
            return Err(self.cause.invalid(selector));
        }
        let absent = Exception::SegmentNotPresent(self.cause.code(selector));
        self.load(vcpu, SegmentName::Cs, found, absent)
    }

    /// SS.
    pub fn load_stack<V: Vcpu>(&self, vcpu: &mut V, selector: u16) -> Result<(), Exception> {
        const KIND: u32 = CODE_OR_DATA | CODE | READABLE_OR_WRITABLE;
        let found = self.find(vcpu, selector)?;
        let levels = [found.segment.dpl(), privilege(selector)];
        let kind = found.segment.rights & KIND;
        if kind != CODE_OR_DATA | READABLE_OR_WRITABLE || levels != [vcpu.cpl(); 2] {
            return Err(self.cause.invalid(selector));
        }
        let absent = Exception::StackFault(self.cause.code(selector));
        self.load(vcpu, SegmentName::Ss, found, absent)
    }

    /// DS, ES, FS or GS.
    pub fn load_data<V: Vcpu>(
        &self,
        vcpu: &mut V,
        name: SegmentName,
        selector: u16,
    ) -> Result<(), Exception> {
        if is_null(selector) {
            return Ok(());
        }
        let found = self.find(vcpu, selector)?;
        let rights = found.segment.rights;
        let unreadable = rights & (CODE | READABLE_OR_WRITABLE) == CODE;
        let anyone = rights & CONFORMING_CODE == CONFORMING_CODE;
        let least = vcpu.cpl().max(privilege(selector));
        let forbidden = !anyone && found.segment.dpl() < least;
        if rights & CODE_OR_DATA == 0 || unreadable || forbidden {
            return Err(self.cause.invalid(selector));
        }
        let absent = Exception::SegmentNotPresent(self.cause.code(selector));
        self.load(vcpu, name, found, absent)
    }

    /// The descriptor behind a selector that must not be null.
    fn find<V: Vcpu>(&self, vcpu: &V, selector: u16) -> Result<Found, Exception> {
        let (base, limit) = if is_local(selector) {
            let table = vcpu.segment(SegmentName::Ldtr);
            let usable = table.rights & UNUSABLE == 0;
            (table.base, usable.then_some(table.limit))
        } else {
            (vcpu.gdt().base, Some(vcpu.gdt().limit))
        };
        let inside = limit.is_some_and(|limit| u32::from(selector | 7) <= limit);
        if is_null(selector) || !inside {
            return Err(self.cause.invalid(selector));
        }
        let at = (base as u32).wrapping_add(u32::from(selector & !7));
        let low = u64::from_le_bytes(self.linear.read(at)?);
        let segment = Segment::from_descriptor(selector, low, 0);
        Ok(Found { at, segment })
    }

    /// Loads what is present, and marks its descriptor as accessed: VM entry
    /// takes no other.
    fn load<V: Vcpu>(
        &self,
        vcpu: &mut V,
        name: SegmentName,
        found: Found,
        absent: Exception,
    ) -> Result<(), Exception> {
        let Found { at, segment } = found;
        if segment.rights & PRESENT == 0 {
            return Err(absent);
        }
        if segment.rights & ACCESSED == 0 {
            let byte = self.linear.find_byte(at.wrapping_add(ACCESS_BYTE))?;
            self.linear.change_byte(byte, 0, ACCESSED as u8);
        }
        let rights = segment.rights | ACCESSED;
        vcpu.set_segment(name, Segment { rights, ..segment });
        Ok(())
    }
}

const fn is_local(selector: u16) -> bool {
    selector & 4 != 0
}
