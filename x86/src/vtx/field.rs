//! The fields of the VMCS. Each carries its width and direction in its type: a
//! read-only field cannot be written, and a value of the wrong width does not
//! compile. Intel SDM volume 3, appendix "Field Encoding in VMCS".

use core::marker::PhantomData;

/// The width of a field.
pub trait Width {
    /// Bits 14:13 of the encoding.
    const CODE: u32;
    /// The largest value.
    const MAX: u64;
    /// What the field holds.
    type Value: Copy + Into<u64>;
    /// The field's value from what VMREAD returns.
    fn from_raw(raw: u64) -> Self::Value;
}

macro_rules! width {
    ($($(#[$doc:meta])* $name:ident $code:literal $value:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}
        impl Width for $name {
            const CODE: u32 = $code;
            const MAX: u64 = <$value>::MAX as u64;
            type Value = $value;
            #[inline]
            fn from_raw(raw: u64) -> $value { raw as $value }
        }
    )*};
}
width! {
    /// 16 bits.
    W16 0 u16;
    /// 64 bits.
    W64 1 u64;
    /// 32 bits.
    W32 2 u32;
    /// As wide as a register.
    Natural 3 u64;
}

/// Direction: VMREAD and VMWRITE.
#[derive(Clone, Copy, Debug)]
pub enum ReadWrite {}
/// Direction: VMREAD only.
#[derive(Clone, Copy, Debug)]
pub enum ReadOnly {}

/// One field.
#[derive(Debug)]
pub struct Field<W, D = ReadWrite> {
    encoding: u32,
    kind: PhantomData<(W, D)>,
}

impl<W, D> Clone for Field<W, D> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<W, D> Copy for Field<W, D> {}

impl<W: Width, D> Field<W, D> {
    /// Refuses, when compiled, an encoding of another width or type.
    const fn new(encoding: u32, read_only: bool) -> Self {
        assert!(
            (encoding >> 13) & 3 == W::CODE,
            "width of the field's encoding"
        );
        assert!(
            ((encoding >> 10) & 3 == 1) == read_only,
            "direction of the field's encoding"
        );
        Self {
            encoding,
            kind: PhantomData,
        }
    }

    /// What VMREAD and VMWRITE take.
    #[inline]
    pub const fn encoding(self) -> u64 {
        self.encoding as u64
    }
}

/// The name that a field has here, by its encoding.
pub fn name(encoding: u64) -> &'static str {
    let known = ALL.iter().find(|(known, _)| u64::from(*known) == encoding);
    known.map_or("unknown", |(_, name)| name)
}

/// Something from which fields can be read: the active VMCS, or a fake.
pub trait Fields {
    /// The value of `field`.
    fn read<W: Width, D>(&self, field: Field<W, D>) -> W::Value;
}

macro_rules! fields {
    ($($width:ident $direction:ident { $($name:ident = $encoding:literal,)* })*) => {
        $($(
            #[allow(missing_docs)]
            pub const $name: Field<$width, $direction> =
                Field::new($encoding, fields!(@$direction));
        )*)*
        /// Every field of this table: encoding and name.
        pub const ALL: &[(u32, &str)] = &[$($(($encoding, stringify!($name)),)*)*];
    };
    (@ReadOnly) => { true };
    (@ReadWrite) => { false };
}

fields! {
    W16 ReadWrite {
        VPID = 0x0000,
        POSTED_INTERRUPT_VECTOR = 0x0002,
        LAST_PID_INDEX = 0x0008,
        GUEST_ES = 0x0800,
        GUEST_CS = 0x0802,
        GUEST_SS = 0x0804,
        GUEST_DS = 0x0806,
        GUEST_FS = 0x0808,
        GUEST_GS = 0x080a,
        GUEST_LDTR = 0x080c,
        GUEST_TR = 0x080e,
        GUEST_USER_INTERRUPT_VECTOR = 0x0814,
        HOST_ES = 0x0c00,
        HOST_CS = 0x0c02,
        HOST_SS = 0x0c04,
        HOST_DS = 0x0c06,
        HOST_FS = 0x0c08,
        HOST_GS = 0x0c0a,
        HOST_TR = 0x0c0c,
    }
    W64 ReadWrite {
        IO_BITMAP_A = 0x2000,
        IO_BITMAP_B = 0x2002,
        MSR_BITMAP = 0x2004,
        EXIT_MSR_STORE_AREA = 0x2006,
        EXIT_MSR_LOAD_AREA = 0x2008,
        ENTRY_MSR_LOAD_AREA = 0x200a,
        PAGE_LOG = 0x200e,
        VIRTUAL_APIC = 0x2012,
        APIC_ACCESS = 0x2014,
        POSTED_INTERRUPT_DESCRIPTOR = 0x2016,
        VM_FUNCTIONS = 0x2018,
        EPT_POINTER = 0x201a,
        EPTP_LIST = 0x2024,
        VMREAD_BITMAP = 0x2026,
        VMWRITE_BITMAP = 0x2028,
        VIRTUALISATION_EXCEPTION = 0x202a,
        XSS_EXITING_BITMAP = 0x202c,
        SUB_PAGE_POINTER = 0x2030,
        TSC_MULTIPLIER = 0x2032,
        TERTIARY_CONTROLS = 0x2034,
        LOW_PASID_DIRECTORY = 0x2038,
        HIGH_PASID_DIRECTORY = 0x203a,
        HLAT_POINTER = 0x2040,
        PID_POINTER_TABLE = 0x2042,
        SECONDARY_EXIT_CONTROLS = 0x2044,
        VMCS_LINK = 0x2800,
        GUEST_DEBUG_CONTROL = 0x2802,
        GUEST_PAT = 0x2804,
        GUEST_EFER = 0x2806,
        GUEST_PERFORMANCE_CONTROL = 0x2808,
        GUEST_PDPTE0 = 0x280a,
        GUEST_PDPTE1 = 0x280c,
        GUEST_PDPTE2 = 0x280e,
        GUEST_PDPTE3 = 0x2810,
        GUEST_BNDCFGS = 0x2812,
        GUEST_TRACE_CONTROL = 0x2814,
        GUEST_LBR_CONTROL = 0x2816,
        GUEST_PKRS = 0x2818,
        HOST_PAT = 0x2c00,
        HOST_EFER = 0x2c02,
        HOST_PERFORMANCE_CONTROL = 0x2c04,
        HOST_PKRS = 0x2c06,
    }
    W64 ReadOnly {
        GUEST_PHYSICAL_ADDRESS = 0x2400,
    }
    W32 ReadWrite {
        PIN_CONTROLS = 0x4000,
        PROCESSOR_CONTROLS = 0x4002,
        EXCEPTION_BITMAP = 0x4004,
        PAGE_FAULT_MASK = 0x4006,
        PAGE_FAULT_MATCH = 0x4008,
        CR3_TARGETS = 0x400a,
        EXIT_CONTROLS = 0x400c,
        EXIT_MSR_STORES = 0x400e,
        EXIT_MSR_LOADS = 0x4010,
        ENTRY_CONTROLS = 0x4012,
        ENTRY_MSR_LOADS = 0x4014,
        ENTRY_EVENT = 0x4016,
        ENTRY_EVENT_CODE = 0x4018,
        ENTRY_INSTRUCTION_LENGTH = 0x401a,
        TPR_THRESHOLD = 0x401c,
        SECONDARY_CONTROLS = 0x401e,
        GUEST_ES_LIMIT = 0x4800,
        GUEST_CS_LIMIT = 0x4802,
        GUEST_SS_LIMIT = 0x4804,
        GUEST_DS_LIMIT = 0x4806,
        GUEST_FS_LIMIT = 0x4808,
        GUEST_GS_LIMIT = 0x480a,
        GUEST_LDTR_LIMIT = 0x480c,
        GUEST_TR_LIMIT = 0x480e,
        GUEST_GDTR_LIMIT = 0x4810,
        GUEST_IDTR_LIMIT = 0x4812,
        GUEST_ES_RIGHTS = 0x4814,
        GUEST_CS_RIGHTS = 0x4816,
        GUEST_SS_RIGHTS = 0x4818,
        GUEST_DS_RIGHTS = 0x481a,
        GUEST_FS_RIGHTS = 0x481c,
        GUEST_GS_RIGHTS = 0x481e,
        GUEST_LDTR_RIGHTS = 0x4820,
        GUEST_TR_RIGHTS = 0x4822,
        GUEST_INTERRUPTIBILITY = 0x4824,
        GUEST_ACTIVITY = 0x4826,
        GUEST_SYSENTER_CS = 0x482a,
        PREEMPTION_TIMER = 0x482e,
        HOST_SYSENTER_CS = 0x4c00,
    }
    W32 ReadOnly {
        INSTRUCTION_ERROR = 0x4400,
        EXIT_REASON = 0x4402,
        EXIT_EVENT = 0x4404,
        EXIT_EVENT_CODE = 0x4406,
        VECTORING_EVENT = 0x4408,
        VECTORING_EVENT_CODE = 0x440a,
        EXIT_INSTRUCTION_LENGTH = 0x440c,
    }
    Natural ReadWrite {
        CR0_MASK = 0x6000,
        CR4_MASK = 0x6002,
        CR0_SHADOW = 0x6004,
        CR4_SHADOW = 0x6006,
        GUEST_CR0 = 0x6800,
        GUEST_CR3 = 0x6802,
        GUEST_CR4 = 0x6804,
        GUEST_ES_BASE = 0x6806,
        GUEST_CS_BASE = 0x6808,
        GUEST_SS_BASE = 0x680a,
        GUEST_DS_BASE = 0x680c,
        GUEST_FS_BASE = 0x680e,
        GUEST_GS_BASE = 0x6810,
        GUEST_LDTR_BASE = 0x6812,
        GUEST_TR_BASE = 0x6814,
        GUEST_GDTR_BASE = 0x6816,
        GUEST_IDTR_BASE = 0x6818,
        GUEST_DR7 = 0x681a,
        GUEST_RSP = 0x681c,
        GUEST_RIP = 0x681e,
        GUEST_RFLAGS = 0x6820,
        GUEST_PENDING_DEBUG = 0x6822,
        GUEST_SYSENTER_ESP = 0x6824,
        GUEST_SYSENTER_EIP = 0x6826,
        GUEST_S_CET = 0x6828,
        GUEST_SSP = 0x682a,
        GUEST_SSP_TABLE = 0x682c,
        HOST_CR0 = 0x6c00,
        HOST_CR3 = 0x6c02,
        HOST_CR4 = 0x6c04,
        HOST_FS_BASE = 0x6c06,
        HOST_GS_BASE = 0x6c08,
        HOST_TR_BASE = 0x6c0a,
        HOST_GDTR_BASE = 0x6c0c,
        HOST_IDTR_BASE = 0x6c0e,
        HOST_SYSENTER_ESP = 0x6c10,
        HOST_SYSENTER_EIP = 0x6c12,
        HOST_RSP = 0x6c14,
        HOST_RIP = 0x6c16,
        HOST_S_CET = 0x6c18,
        HOST_SSP = 0x6c1a,
        HOST_SSP_TABLE = 0x6c1c,
    }
    Natural ReadOnly {
        EXIT_QUALIFICATION = 0x6400,
        GUEST_LINEAR_ADDRESS = 0x640a,
    }
}
