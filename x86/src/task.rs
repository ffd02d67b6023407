//! Task-state segments: what a hardware task switch saves and loads, and where
//! it lies in the 32-bit and in the 16-bit form. Intel SDM volume 3,
//! "Task-State Segment (TSS)" and "16-Bit Task-State Segment (TSS)".

use core::ops::Range;

/// Bytes of the larger form, without the map of ports behind it.
pub const TASK_SIZE: usize = 0x68;

/// Bits of EFLAGS that exist; the others read as 0, bit 1 as 1.
const FLAGS: u32 = 0x003f_7fd5;
const FLAGS_FIXED: u32 = 1 << 1;
/// A 16-bit task leaves ones in the upper halves of the general registers, as
/// the CPU that brought 32-bit tasks did.
const UPPER_HALF: u32 = 0xffff_0000;

/// Which form a task-state segment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskWidth {
    /// The 80286's.
    Bits16,
    /// The 80386's.
    Bits32,
}

/// What a task switch saves, and what it loads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskState {
    /// CR3. Only loaded; only in the 32-bit form.
    pub cr3: u32,
    /// EIP.
    pub eip: u32,
    /// EFLAGS.
    pub eflags: u32,
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    pub general: [u32; 8],
    /// The selectors of ES, CS, SS, DS, FS, GS. The 16-bit form lacks the last
    /// two.
    pub segments: [u16; 6],
    /// The selector of the local descriptor table. Only loaded.
    pub ldt: u16,
    /// A debug trap is due when the task starts. Only loaded; only in the
    /// 32-bit form.
    pub trap: bool,
}

/// Where the fields lie, in bytes from the segment's base.
struct Layout {
    cr3: Option<usize>,
    eip: usize,
    eflags: usize,
    general: usize,
    /// Bytes of a register.
    register: usize,
    segments: usize,
    /// Bytes from one selector to the next.
    stride: usize,
    count: usize,
    ldt: usize,
    trap: Option<usize>,
}

const LAYOUT_16: Layout = Layout {
    cr3: None,
    eip: 0x0e,
    eflags: 0x10,
    general: 0x12,
    register: 2,
    segments: 0x22,
    stride: 2,
    count: 4,
    ldt: 0x2a,
    trap: None,
};

const LAYOUT_32: Layout = Layout {
    cr3: Some(0x1c),
    eip: 0x20,
    eflags: 0x24,
    general: 0x28,
    register: 4,
    segments: 0x48,
    stride: 4,
    count: 6,
    ldt: 0x60,
    trap: Some(0x64),
};

impl TaskWidth {
    /// The form of a TSS whose descriptor has these rights.
    pub const fn from_rights(rights: u32) -> Self {
        if rights & 8 == 0 {
            Self::Bits16
        } else {
            Self::Bits32
        }
    }

    /// Bytes that a TSS must have to be switched to.
    pub const fn size(self) -> usize {
        match self {
            Self::Bits16 => 0x2c,
            Self::Bits32 => TASK_SIZE,
        }
    }

    /// The bytes that leaving the task writes.
    pub const fn saved(self) -> Range<usize> {
        match self {
            Self::Bits16 => 0x0e..0x2a,
            Self::Bits32 => 0x20..0x60,
        }
    }

    /// Bytes of a register in it, and of an error code on the task's stack.
    pub const fn register(self) -> usize {
        self.layout().register
    }

    const fn layout(self) -> &'static Layout {
        match self {
            Self::Bits16 => &LAYOUT_16,
            Self::Bits32 => &LAYOUT_32,
        }
    }
}

impl TaskState {
    /// What a switch to the task whose TSS begins with `bytes` loads. Bytes
    /// that are missing count as 0.
    pub fn load(width: TaskWidth, bytes: &[u8]) -> Self {
        let layout = width.layout();
        let register = |at| get(bytes, at, layout.register);
        let upper = match width {
            TaskWidth::Bits16 => UPPER_HALF,
            TaskWidth::Bits32 => 0,
        };
        let mut state = Self {
            cr3: layout.cr3.map_or(0, register),
            eip: register(layout.eip),
            eflags: register(layout.eflags) & FLAGS | FLAGS_FIXED,
            ldt: get(bytes, layout.ldt, 2) as u16,
            trap: layout.trap.is_some_and(|at| get(bytes, at, 2) & 1 != 0),
            ..Self::default()
        };
        for (number, value) in state.general.iter_mut().enumerate() {
            *value = register(layout.general + number * layout.register) | upper;
        }
        for (number, value) in state.segments.iter_mut().take(layout.count).enumerate() {
            *value = get(bytes, layout.segments + number * layout.stride, 2) as u16;
        }
        state
    }

    /// Puts what leaving the task saves into `bytes`, which begin where the TSS
    /// does; all others stay as they are.
    pub fn save(&self, width: TaskWidth, bytes: &mut [u8]) {
        let layout = width.layout();
        let size = layout.register;
        put(bytes, layout.eip, size, self.eip);
        put(bytes, layout.eflags, size, self.eflags);
        for (number, value) in self.general.iter().enumerate() {
            put(bytes, layout.general + number * size, size, *value);
        }
        for (number, value) in self.segments.iter().take(layout.count).enumerate() {
            let at = layout.segments + number * layout.stride;
            put(bytes, at, 2, u32::from(*value));
        }
    }
}

fn get(bytes: &[u8], at: usize, size: usize) -> u32 {
    let field = bytes.iter().skip(at).take(size).rev();
    field.fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn put(bytes: &mut [u8], at: usize, size: usize, value: u32) {
    let field = bytes.iter_mut().skip(at).take(size);
    field
        .zip(value.to_le_bytes())
        .for_each(|(to, from)| *to = from);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TSS whose every byte is its offset.
    fn offsets() -> [u8; TASK_SIZE] {
        core::array::from_fn(|at| at as u8)
    }

    #[test]
    fn the_32_bit_form_lies_as_the_manual_draws_it() {
        let state = TaskState::load(TaskWidth::Bits32, &offsets());
        assert_eq!(state.cr3, 0x1f1e_1d1c);
        assert_eq!(state.eip, 0x2322_2120);
        assert_eq!(state.eflags, 0x0026_2506);
        assert_eq!(state.general.first(), Some(&0x2b2a_2928));
        assert_eq!(state.general.last(), Some(&0x4746_4544));
        assert_eq!(
            state.segments,
            [0x4948, 0x4d4c, 0x5150, 0x5554, 0x5958, 0x5d5c]
        );
        assert_eq!(state.ldt, 0x6160);
        assert!(!state.trap);
    }

    #[test]
    fn the_16_bit_form_lies_as_the_manual_draws_it() {
        let state = TaskState::load(TaskWidth::Bits16, &offsets());
        assert_eq!(state.cr3, 0);
        assert_eq!(state.eip, 0x0f0e);
        assert_eq!(state.general.first(), Some(&0xffff_1312));
        assert_eq!(state.general.last(), Some(&0xffff_2120));
        assert_eq!(state.segments, [0x2322, 0x2524, 0x2726, 0x2928, 0, 0]);
        assert_eq!(state.ldt, 0x2b2a);
    }

    #[test]
    fn what_is_saved_is_loaded_again_and_nothing_else_is_written() {
        let state = TaskState {
            eip: 0x1234_5678,
            eflags: 0x4002,
            general: [1, 2, 3, 4, 5, 6, 7, 8],
            segments: [8, 16, 24, 32, 40, 48],
            ..TaskState::default()
        };
        let mut bytes = [0xff; TASK_SIZE];
        state.save(TaskWidth::Bits32, &mut bytes);
        let saved = TaskWidth::Bits32.saved();
        assert!(bytes[..saved.start].iter().all(|byte| *byte == 0xff));
        assert!(bytes[saved.end..].iter().all(|byte| *byte == 0xff));
        let loaded = TaskState::load(TaskWidth::Bits32, &bytes);
        assert_eq!(loaded.general, state.general);
        assert_eq!(loaded.segments, state.segments);
        assert_eq!((loaded.eip, loaded.eflags), (state.eip, state.eflags));
        assert!(loaded.trap);
    }

    #[test]
    fn the_16_bit_form_keeps_the_low_halves() {
        let state = TaskState {
            eip: 0x1234_5678,
            general: [0x89ab_cdef; 8],
            ..TaskState::default()
        };
        let mut bytes = [0; TASK_SIZE];
        state.save(TaskWidth::Bits16, &mut bytes);
        assert_eq!(bytes[0x0e..0x14], [0x78, 0x56, 0, 0, 0xef, 0xcd]);
        assert!(bytes[0x2a..].iter().all(|byte| *byte == 0));
    }
}
