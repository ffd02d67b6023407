//! Results and status flags, as numbers. Flags that the manual leaves undefined
//! are as both makers' CPUs mostly have them: AF is clear after logic and
//! shifts; OF after a shift by more than one is what the rule for one gives;
//! BT and its like change CF alone. Intel SDM volume 2, the instructions by
//! name.

use super::width::Width;
use x86::control::Rflags;

/// The flags that arithmetic sets.
pub const STATUS: Rflags = Rflags::CF
    .union(Rflags::PF)
    .union(Rflags::AF)
    .union(Rflags::ZF)
    .union(Rflags::SF)
    .union(Rflags::OF);

/// A result, and RFLAGS with it.
pub type Computed = (u64, Rflags);

/// An operation of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    AddWithCarry,
    Subtract,
    SubtractWithBorrow,
    And,
    Or,
    ExclusiveOr,
}

/// An operation of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unary {
    Increment,
    Decrement,
    Negate,
    Not,
}

/// A shift or a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Shift {
    RotateLeft,
    RotateRight,
    RotateCarryLeft,
    RotateCarryRight,
    Left,
    Right,
    RightSigned,
}

/// What is done to a bit after it went to CF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BitChange {
    Keep,
    Set,
    Reset,
    Complement,
}

fn carry(flags: Rflags) -> u64 {
    u64::from(flags.contains(Rflags::CF))
}

fn with(flags: Rflags, flag: Rflags, on: bool) -> Rflags {
    if on { flags | flag } else { flags - flag }
}

/// SF, ZF and PF of `result`.
fn of_result(width: Width, result: u64, flags: Rflags) -> Rflags {
    let flags = with(flags, Rflags::SF, width.top(result));
    let flags = with(flags, Rflags::ZF, result == 0);
    with(
        flags,
        Rflags::PF,
        (result as u8).count_ones().is_multiple_of(2),
    )
}

/// `a` and `b`, cut to `width`, combined.
pub fn binary(operation: Binary, width: Width, a: u64, b: u64, flags: Rflags) -> Computed {
    let carried = carry(flags);
    match operation {
        Binary::Add => add(width, a, b, 0, flags),
        Binary::AddWithCarry => add(width, a, b, carried, flags),
        Binary::Subtract => subtract(width, a, b, 0, flags),
        Binary::SubtractWithBorrow => subtract(width, a, b, carried, flags),
        Binary::And => logic(width, a & b, flags),
        Binary::Or => logic(width, a | b, flags),
        Binary::ExclusiveOr => logic(width, a ^ b, flags),
    }
}

fn add(width: Width, a: u64, b: u64, carried: u64, flags: Rflags) -> Computed {
    let sum = u128::from(a) + u128::from(b) + u128::from(carried);
    let result = width.cut(sum as u64);
    let flags = with(flags, Rflags::CF, sum >> width.bits() != 0);
    let overflow = width.top((a ^ result) & (b ^ result));
    (result, of_sum(width, (a, b, result), overflow, flags))
}

fn subtract(width: Width, a: u64, b: u64, borrowed: u64, flags: Rflags) -> Computed {
    let result = width.cut(a.wrapping_sub(b).wrapping_sub(borrowed));
    let short = u128::from(a) < u128::from(b) + u128::from(borrowed);
    let flags = with(flags, Rflags::CF, short);
    let overflow = width.top((a ^ b) & (a ^ result));
    (result, of_sum(width, (a, b, result), overflow, flags))
}

fn of_sum(width: Width, (a, b, result): (u64, u64, u64), overflow: bool, flags: Rflags) -> Rflags {
    let flags = with(flags, Rflags::OF, overflow);
    let flags = with(flags, Rflags::AF, (a ^ b ^ result) & 0x10 != 0);
    of_result(width, result, flags)
}

fn logic(width: Width, result: u64, flags: Rflags) -> Computed {
    let flags = flags - Rflags::CF - Rflags::OF - Rflags::AF;
    (result, of_result(width, result, flags))
}

/// `a`, cut to `width`, changed.
pub fn unary(operation: Unary, width: Width, a: u64, flags: Rflags) -> Computed {
    let kept = flags & Rflags::CF;
    match operation {
        Unary::Not => (width.cut(!a), flags),
        Unary::Negate => subtract(width, 0, a, 0, flags),
        Unary::Increment => {
            let (result, flags) = add(width, a, 1, 0, flags);
            (result, (flags - Rflags::CF) | kept)
        }
        Unary::Decrement => {
            let (result, flags) = subtract(width, a, 1, 0, flags);
            (result, (flags - Rflags::CF) | kept)
        }
    }
}

/// How far the CPU shifts: five bits of the count, or six.
fn shift_count(width: Width, count: u64) -> u32 {
    let mask = if width == Width::Quad { 0x3f } else { 0x1f };
    (count & mask) as u32
}

/// `a`, cut to `width`, shifted or rotated.
pub fn shift(operation: Shift, width: Width, a: u64, count: u64, flags: Rflags) -> Computed {
    let count = shift_count(width, count);
    if count == 0 {
        return (a, flags);
    }
    match operation {
        Shift::Left => shift_left(width, a, count, flags),
        Shift::Right => {
            let (result, out) = (a >> (count - 1) >> 1, a >> (count - 1) & 1 != 0);
            shifted(width, result, out, width.top(a), flags)
        }
        Shift::RightSigned => {
            let before = width.extend(a) as i64 >> (count - 1);
            let result = width.cut((before >> 1) as u64);
            shifted(width, result, before & 1 != 0, false, flags)
        }
        Shift::RotateLeft | Shift::RotateRight => rotate(operation, width, a, count, flags),
        Shift::RotateCarryLeft | Shift::RotateCarryRight => {
            rotate_carry(operation, width, a, count, flags)
        }
    }
}

fn shift_left(width: Width, a: u64, count: u32, flags: Rflags) -> Computed {
    let wide = u128::from(a) << count;
    let result = width.cut(wide as u64);
    let out = wide >> width.bits() & 1 != 0;
    shifted(width, result, out, width.top(result) != out, flags)
}

fn shifted(width: Width, result: u64, out: bool, overflow: bool, flags: Rflags) -> Computed {
    let flags = with(flags - Rflags::AF, Rflags::CF, out);
    let flags = with(flags, Rflags::OF, overflow);
    (result, of_result(width, result, flags))
}

fn rotate(operation: Shift, width: Width, a: u64, count: u32, flags: Rflags) -> Computed {
    let bits = width.bits();
    let left = if operation == Shift::RotateLeft {
        count % bits
    } else {
        (bits - count % bits) % bits
    };
    let twice = u128::from(a) << bits | u128::from(a);
    let result = width.cut((twice << left >> bits) as u64);
    let out = if operation == Shift::RotateLeft {
        result & 1 != 0
    } else {
        width.top(result)
    };
    let flags = with(flags, Rflags::CF, out);
    let overflow = rotation_overflows(operation, width, result, out);
    (result, with(flags, Rflags::OF, overflow))
}

/// To the left: whether the sign changed; to the right: whether the two top
/// bits differ.
fn rotation_overflows(operation: Shift, width: Width, result: u64, out: bool) -> bool {
    match operation {
        Shift::RotateLeft | Shift::RotateCarryLeft => width.top(result) != out,
        _ => width.top(result) != width.top(result << 1),
    }
}

/// Through CF, which makes the value one bit longer.
fn rotate_carry(operation: Shift, width: Width, a: u64, count: u32, flags: Rflags) -> Computed {
    let bits = width.bits() + 1;
    let count = count % bits;
    if count == 0 {
        return (a, flags);
    }
    let left = if operation == Shift::RotateCarryLeft {
        count
    } else {
        bits - count
    };
    let whole = u128::from(carry(flags)) << width.bits() | u128::from(a);
    let rotated = whole << left | whole >> (bits - left);
    let result = width.cut(rotated as u64);
    let out = rotated >> width.bits() & 1 != 0;
    let flags = with(flags, Rflags::CF, out);
    let overflow = rotation_overflows(operation, width, result, out);
    (result, with(flags, Rflags::OF, overflow))
}

/// SHLD or SHRD: `a` shifted, `b` filling the gap.
pub fn double_shift(
    left: bool,
    width: Width,
    (a, b): (u64, u64),
    count: u64,
    flags: Rflags,
) -> Computed {
    let count = shift_count(width, count);
    let bits = width.bits();
    // The manual leaves results open where a 16-bit value is shifted further.
    let count = if count > bits { count - bits } else { count };
    if count == 0 {
        return (a, flags);
    }
    let (result, out) = if left {
        let wide = (u128::from(a) << bits | u128::from(b)) << count;
        let out = u128::from(a) >> (bits - count) & 1 != 0;
        (width.cut((wide >> bits) as u64), out)
    } else {
        let wide = u128::from(b) << bits | u128::from(a);
        (width.cut((wide >> count) as u64), a >> (count - 1) & 1 != 0)
    };
    shifted(width, result, out, width.top(a ^ result), flags)
}

/// Bit `number` of `a` goes to CF and is changed.
pub fn bit(change: BitChange, a: u64, number: u32, flags: Rflags) -> Computed {
    let one = 1u64 << (number & 63);
    let result = match change {
        BitChange::Keep => a,
        BitChange::Set => a | one,
        BitChange::Reset => a & !one,
        BitChange::Complement => a ^ one,
    };
    (result, with(flags, Rflags::CF, a & one != 0))
}

/// Whether the condition with this number holds, as Jcc, SETcc and CMOVcc
/// encode it. Intel SDM volume 1, "EFLAGS Condition Codes".
pub fn holds(condition: u8, flags: Rflags) -> bool {
    let has = |flag| flags.contains(flag);
    let less = has(Rflags::SF) != has(Rflags::OF);
    let positive = match condition >> 1 {
        0 => has(Rflags::OF),
        1 => has(Rflags::CF),
        2 => has(Rflags::ZF),
        3 => has(Rflags::CF) || has(Rflags::ZF),
        4 => has(Rflags::SF),
        5 => has(Rflags::PF),
        6 => less,
        _ => less || has(Rflags::ZF),
    };
    positive != (condition & 1 != 0)
}
