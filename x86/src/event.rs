//! Events: what the CPU delivers through the IDT. VT-x (VM-entry interruption
//! information, IDT-vectoring information) and AMD-V (EVENTINJ, EXITINTINFO)
//! encode one alike: vector, type, whether an error code comes with it, and
//! whether there is one at all. Intel SDM volume 3, "VM-Entry Controls for
//! Event Injection"; AMD APM volume 2, "Event Injection".

use crate::Exception;

/// The event is there.
pub const VALID: u32 = 1 << 31;
/// An error code comes with it.
pub const ERROR_CODE: u32 = 1 << 11;
const TYPE_SHIFT: u32 = 8;
/// All bits of the type.
pub const TYPE_MASK: u32 = 7 << TYPE_SHIFT;
/// Type: non-maskable interrupt.
pub const TYPE_NMI: u32 = (EventType::Nmi as u32) << TYPE_SHIFT;
/// Type: hardware exception.
pub const TYPE_EXCEPTION: u32 = (EventType::Exception as u32) << TYPE_SHIFT;
/// The word that injects an NMI.
pub const NMI: u32 = VALID | (EventType::Nmi as u32) << TYPE_SHIFT | 2;

/// Whether `word` is an NMI, if it is an event.
#[inline]
pub const fn is_nmi(word: u32) -> bool {
    word & TYPE_MASK == (EventType::Nmi as u32) << TYPE_SHIFT
}

/// What kind of event it is. The numbers are VT-x's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventType {
    /// An external interrupt.
    Interrupt = 0,
    /// A non-maskable interrupt.
    Nmi = 2,
    /// An exception that the CPU found; on AMD-V also INT3 and INTO.
    Exception = 3,
    /// INT n.
    Software = 4,
    /// INT1.
    PrivilegedSoftware = 5,
    /// INT3 or INTO.
    SoftwareException = 6,
    /// A type without a meaning here.
    Unknown = 7,
}

impl EventType {
    const fn from_word(word: u32) -> Self {
        match (word & TYPE_MASK) >> TYPE_SHIFT {
            0 => Self::Interrupt,
            2 => Self::Nmi,
            3 => Self::Exception,
            4 => Self::Software,
            5 => Self::PrivilegedSoftware,
            6 => Self::SoftwareException,
            _ => Self::Unknown,
        }
    }
}

/// An event on its way through the IDT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its type.
    pub kind: EventType,
    /// Its vector.
    pub vector: u8,
    /// The error code that is pushed, where one is.
    pub error: Option<u32>,
}

impl Event {
    /// The event in `word`, with the error code from beside it. None if there
    /// is none.
    #[inline]
    pub const fn from_words(word: u32, error: u32) -> Option<Self> {
        if word & VALID == 0 {
            return None;
        }
        Some(Self {
            kind: EventType::from_word(word),
            vector: word as u8,
            error: if word & ERROR_CODE != 0 {
                Some(error)
            } else {
                None
            },
        })
    }

    /// The word that injects it; the error code goes beside it.
    pub const fn word(self) -> u32 {
        let code = if self.error.is_some() { ERROR_CODE } else { 0 };
        VALID | code | (self.kind as u32) << TYPE_SHIFT | self.vector as u32
    }

    /// `exception` as an event. In real mode (`protected` is false) no error
    /// code is pushed, and a VM entry that asks for one fails. Intel SDM
    /// volume 3, "Checks on VM-Entry Control Fields".
    pub const fn from_exception(exception: Exception, protected: bool) -> Self {
        Self {
            kind: EventType::Exception,
            vector: exception.vector(),
            error: if protected {
                exception.error_code()
            } else {
                None
            },
        }
    }

    /// Whether an instruction raised it, which does so again when it runs
    /// again: INT n, INT1, INT3, INTO.
    pub const fn is_instruction(self) -> bool {
        match self.kind {
            EventType::Software | EventType::PrivilegedSoftware | EventType::SoftwareException => {
                true
            }
            EventType::Exception => matches!(self.vector, 3 | 4),
            _ => false,
        }
    }
}

/// What becomes of an exception that is raised while an event is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// It is raised alone; the event is forgotten, or its instruction runs
    /// again.
    Second(Exception),
    /// The two make a double fault.
    DoubleFault,
    /// The CPU shuts down.
    TripleFault,
}

/// Merges an exception with the event in whose delivery it was raised. Intel
/// SDM volume 3, "Interrupt 8—Double Fault Exception (#DF)".
pub const fn merge(first: Event, second: Exception) -> Merged {
    let second = if first.is_instruction() {
        second
    } else {
        second.external()
    };
    if !matches!(first.kind, EventType::Exception) {
        return Merged::Second(second);
    }
    let second_counts = is_contributory(second.vector()) || second.vector() == PAGE_FAULT;
    match first.vector {
        DOUBLE_FAULT if second_counts => Merged::TripleFault,
        PAGE_FAULT if second_counts => Merged::DoubleFault,
        vector if is_contributory(vector) && is_contributory(second.vector()) => {
            Merged::DoubleFault
        }
        _ => Merged::Second(second),
    }
}

const DOUBLE_FAULT: u8 = 8;
const PAGE_FAULT: u8 = 14;

/// #DE, #TS, #NP, #SS, #GP, and #CP of CPUs that have it.
const fn is_contributory(vector: u8) -> bool {
    matches!(vector, 0 | 10..=13 | 21)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exception(vector: u8) -> Event {
        Event {
            kind: EventType::Exception,
            vector,
            error: Some(0),
        }
    }

    const GP: Exception = Exception::GeneralProtection(0);
    const EXTERNAL_GP: Exception = Exception::GeneralProtection(1);
    const PF: Exception = Exception::PageFault {
        address: 0x1000,
        code: 2,
    };

    #[test]
    fn words_come_back() {
        for word in [
            0x8000_0b0d,
            0x8000_0306,
            0x8000_0020,
            0x8000_0202,
            0x8000_0480,
        ] {
            let event = Event::from_words(word, 5).unwrap();
            assert_eq!(event.word(), word);
            assert_eq!(event.error.is_some(), word & 0x800 != 0);
        }
        assert_eq!(Event::from_words(0x0000_0b0d, 0), None);
        assert_eq!(NMI, 0x8000_0202);
    }

    #[test]
    fn real_mode_has_no_error_codes() {
        assert_eq!(Event::from_exception(GP, true).word(), 0x8000_0b0d);
        assert_eq!(Event::from_exception(GP, false).word(), 0x8000_030d);
        let undefined = Event::from_exception(Exception::InvalidOpcode, true);
        assert_eq!(undefined.word(), 0x8000_0306);
    }

    /// The manual's table of conditions for a double fault.
    #[test]
    fn exceptions_merge_as_the_manual_says() {
        let benign = [1, 6, 7, 16, 17, 18, 19];
        let contributory = [0, 10, 11, 12, 13];
        for vector in benign {
            assert_eq!(merge(exception(vector), GP), Merged::Second(EXTERNAL_GP));
            assert_eq!(merge(exception(vector), PF), Merged::Second(PF));
        }
        for vector in contributory {
            assert_eq!(merge(exception(vector), GP), Merged::DoubleFault);
            assert_eq!(merge(exception(vector), PF), Merged::Second(PF));
        }
        assert_eq!(merge(exception(14), GP), Merged::DoubleFault);
        assert_eq!(merge(exception(14), PF), Merged::DoubleFault);
        assert_eq!(merge(exception(8), GP), Merged::TripleFault);
        assert_eq!(merge(exception(8), PF), Merged::TripleFault);
        for vector in 0..32 {
            let second = Exception::InvalidOpcode;
            assert_eq!(merge(exception(vector), second), Merged::Second(second));
        }
    }

    #[test]
    fn an_interrupt_never_makes_a_double_fault() {
        for kind in [EventType::Interrupt, EventType::Nmi, EventType::Software] {
            let first = Event {
                kind,
                vector: 13,
                error: None,
            };
            let asked_for = kind == EventType::Software;
            let expected = if asked_for { GP } else { EXTERNAL_GP };
            assert_eq!(merge(first, GP), Merged::Second(expected));
        }
    }
}
