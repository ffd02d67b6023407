//! Random instructions with an operand in memory, for comparing how two
//! machines run them. Numbers and bytes alone: the hypervisor's own tests use
//! this file too.

/// Bytes of memory that a case touches at most.
pub const AREA: usize = 128;
/// Operands lie around the middle of the area.
const MIDDLE: i64 = AREA as i64 / 2;

const CF: u64 = 1 << 0;
const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
const SF: u64 = 1 << 7;
const DF: u64 = 1 << 10;
const OF: u64 = 1 << 11;
/// The flags that arithmetic sets.
pub const STATUS: u64 = CF | PF | AF | 1 << 6 | SF | OF;

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RSP: usize = 4;
const RBP: usize = 5;
const RSI: usize = 6;
const RDI: usize = 7;

/// Where cases run.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// 16, 32 or 64.
    pub bits: u32,
    /// Linear address of the page that is watched. Its neighbours are memory.
    pub page: u64,
    /// Linear address of the instruction.
    pub code: u64,
    /// The bases of ES, CS, SS, DS, FS, GS.
    pub bases: [u64; 6],
    /// Which of these, by bit, a prefix may name.
    pub overrides: u8,
    /// Whether the selectors may be stored.
    pub selectors: bool,
    /// Whether a locked operand may cross a cache line: many systems slow down
    /// or stop a program that does that.
    pub split_locks: bool,
}

/// One instruction and the state in which it runs.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The instruction.
    pub code: [u8; 15],
    /// Its size in bytes.
    pub size: usize,
    /// General registers by their numbers in instructions.
    pub registers: [u64; 16],
    /// Status flags and DF.
    pub flags: u64,
    /// Flags that the manual leaves open.
    pub undefined: u64,
    /// Linear address of the area.
    pub area: u64,
    /// What is in it.
    pub memory: [u64; AREA / 8],
}

/// A generator of numbers: splitmix64.
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A number as arithmetic likes it: often an edge of some width.
    fn value(&mut self) -> u64 {
        let edges = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff];
        match self.below(6) {
            0 => self.pick(&edges),
            1 => !self.pick(&edges),
            2 => 1 << self.below(64),
            3 => u64::MAX >> self.below(64),
            _ => self.number(),
        }
    }
}

/// What is special about a form.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// By an immediate.
    ShiftImmediate,
    ShiftOne,
    /// By CL.
    ShiftRegister,
    /// The bit's number is in a register.
    BitRegister,
    /// Compares with the accumulator.
    Compare,
    /// The address is an immediate.
    Offset,
    /// Uses the stack: memory to it or from it.
    Stack,
    /// Uses the stack; the other operand is no memory.
    StackOnly,
    Selector,
}

/// Operand sizes that a form has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sizes {
    /// One byte.
    Byte,
    /// 2, 4 and 8.
    All,
    /// 4 and 8.
    Wide,
    /// As the mode has it, or 2.
    Push,
    /// No prefix changes it.
    Fixed,
}

#[derive(Clone, Copy)]
struct Form {
    opcode: &'static [u8],
    /// The low bits of the last opcode byte that are random.
    vary: u8,
    sizes: Sizes,
    /// What stands in ModRM's register field, if that is no register.
    digits: &'static [u8],
    /// Bytes of the immediate; 4 means as many as the operand has, up to 4.
    immediate: u8,
    lock: bool,
    kind: Kind,
    undefined: u64,
    /// The narrowest code, in bits, that it is tried in.
    least: u32,
    /// With an address that counts from the end of the instruction, too.
    relative: bool,
}

const PLAIN: Form = Form {
    opcode: &[],
    vary: 0,
    sizes: Sizes::All,
    digits: &[],
    immediate: 0,
    lock: false,
    kind: Kind::Plain,
    undefined: 0,
    least: 16,
    relative: true,
};

const fn form(opcode: &'static [u8], sizes: Sizes) -> Form {
    Form {
        opcode,
        sizes,
        ..PLAIN
    }
}

impl Form {
    const fn digits(self, digits: &'static [u8]) -> Self {
        Self { digits, ..self }
    }
    const fn immediate(self, immediate: u8) -> Self {
        Self { immediate, ..self }
    }
    const fn lock(self) -> Self {
        Self { lock: true, ..self }
    }
    const fn kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }
    const fn vary(self, vary: u8) -> Self {
        Self { vary, ..self }
    }
    const fn undefined(self, undefined: u64) -> Self {
        Self { undefined, ..self }
    }
    const fn least(self, least: u32) -> Self {
        Self { least, ..self }
    }
    const fn not_relative(self) -> Self {
        Self {
            relative: false,
            ..self
        }
    }
}

const BIT: u64 = OF | SF | AF | PF;

/// The arithmetic of opcodes 0 to 0x3f: ADD, OR, ADC, SBB, AND, SUB, XOR, CMP.
const ARITHMETIC: [u8; 8] = [0x00, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38];

const FORMS: [Form; 56] = [
    form(&[0x88], Sizes::Byte),
    form(&[0x89], Sizes::All),
    form(&[0x8a], Sizes::Byte),
    form(&[0x8b], Sizes::All),
    form(&[0xc6], Sizes::Byte).digits(&[0]).immediate(1),
    form(&[0xc7], Sizes::All).digits(&[0]).immediate(4),
    form(&[0xa0], Sizes::Byte).kind(Kind::Offset),
    form(&[0xa1], Sizes::All).kind(Kind::Offset),
    form(&[0xa2], Sizes::Byte).kind(Kind::Offset),
    form(&[0xa3], Sizes::All).kind(Kind::Offset),
    form(&[0x8c], Sizes::Fixed)
        .kind(Kind::Selector)
        .digits(&[0, 1, 2, 3, 4, 5]),
    form(&[0x0f, 0xb6], Sizes::All),
    form(&[0x0f, 0xb7], Sizes::All),
    form(&[0x0f, 0xbe], Sizes::All),
    form(&[0x0f, 0xbf], Sizes::All),
    form(&[0x63], Sizes::Wide).least(64),
    // QEMU 7.2 takes 32 bits in 16-bit code.
    form(&[0x0f, 0x38, 0xf0], Sizes::All).least(32),
    form(&[0x0f, 0x38, 0xf1], Sizes::All).least(32),
    form(&[0x0f, 0xc3], Sizes::Wide).least(64),
    form(&[0x0f, 0x40], Sizes::All).vary(15),
    form(&[0x0f, 0x90], Sizes::Byte).vary(15).digits(&[0]),
    form(&[0x80], Sizes::Byte)
        .digits(&[0, 2, 3, 5])
        .immediate(1)
        .lock(),
    form(&[0x81], Sizes::All)
        .digits(&[0, 2, 3, 5])
        .immediate(4)
        .lock(),
    form(&[0x83], Sizes::All)
        .digits(&[0, 2, 3, 5])
        .immediate(1)
        .lock(),
    form(&[0x83], Sizes::All).digits(&[7]).immediate(1),
    form(&[0x83], Sizes::All)
        .digits(&[1, 4, 6])
        .immediate(1)
        .lock()
        .undefined(AF),
    form(&[0x81], Sizes::All)
        .digits(&[1, 4, 6])
        .immediate(4)
        .lock()
        .undefined(AF),
    form(&[0x84], Sizes::Byte).undefined(AF),
    form(&[0x85], Sizes::All).undefined(AF),
    form(&[0xf6], Sizes::Byte)
        .digits(&[0])
        .immediate(1)
        .undefined(AF),
    form(&[0xf7], Sizes::All)
        .digits(&[0])
        .immediate(4)
        .undefined(AF),
    form(&[0xf6], Sizes::Byte).digits(&[2, 3]).lock(),
    form(&[0xf7], Sizes::All).digits(&[2, 3]).lock(),
    form(&[0xfe], Sizes::Byte).digits(&[0, 1]).lock(),
    form(&[0xff], Sizes::All).digits(&[0, 1]).lock(),
    form(&[0xc0], Sizes::Byte)
        .digits(&ALL_DIGITS)
        .immediate(1)
        .kind(Kind::ShiftImmediate),
    form(&[0xc1], Sizes::All)
        .digits(&ALL_DIGITS)
        .immediate(1)
        .kind(Kind::ShiftImmediate),
    form(&[0xd0], Sizes::Byte)
        .digits(&ALL_DIGITS)
        .kind(Kind::ShiftOne),
    form(&[0xd1], Sizes::All)
        .digits(&ALL_DIGITS)
        .kind(Kind::ShiftOne),
    form(&[0xd2], Sizes::Byte)
        .digits(&ALL_DIGITS)
        .kind(Kind::ShiftRegister),
    form(&[0xd3], Sizes::All)
        .digits(&ALL_DIGITS)
        .kind(Kind::ShiftRegister),
    // QEMU 7.2 counts a relative address from before the immediate.
    form(&[0x0f, 0xa4], Sizes::All)
        .immediate(1)
        .kind(Kind::ShiftImmediate)
        .not_relative(),
    form(&[0x0f, 0xad], Sizes::Wide).kind(Kind::ShiftRegister),
    form(&[0x0f, 0xac], Sizes::All)
        .immediate(1)
        .kind(Kind::ShiftImmediate)
        .not_relative(),
    form(&[0x0f, 0xa3], Sizes::All)
        .kind(Kind::BitRegister)
        .undefined(BIT),
    form(&[0x0f, 0xab], Sizes::All)
        .kind(Kind::BitRegister)
        .undefined(BIT)
        .lock(),
    form(&[0x0f, 0xb3], Sizes::All)
        .kind(Kind::BitRegister)
        .undefined(BIT)
        .lock(),
    form(&[0x0f, 0xbb], Sizes::All)
        .kind(Kind::BitRegister)
        .undefined(BIT)
        .lock(),
    form(&[0x0f, 0xba], Sizes::All)
        .digits(&[4])
        .immediate(1)
        .undefined(BIT),
    form(&[0x0f, 0xba], Sizes::All)
        .digits(&[5, 6, 7])
        .immediate(1)
        .undefined(BIT)
        .lock(),
    form(&[0x0f, 0xb0], Sizes::Byte).kind(Kind::Compare).lock(),
    form(&[0x0f, 0xb1], Sizes::All).kind(Kind::Compare).lock(),
    form(&[0x0f, 0xc7], Sizes::Fixed)
        .digits(&[1])
        .kind(Kind::Compare)
        .lock(),
    form(&[0xff], Sizes::Push).digits(&[6]).kind(Kind::Stack),
    form(&[0x8f], Sizes::Push).digits(&[0]).kind(Kind::Stack),
    form(&[0x50], Sizes::Push).vary(15).kind(Kind::StackOnly),
];

const ALL_DIGITS: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

/// XCHG and XADD write both operands.
const EXCHANGES: [Form; 4] = [
    form(&[0x86], Sizes::Byte).lock(),
    form(&[0x87], Sizes::All).lock(),
    form(&[0x0f, 0xc0], Sizes::Byte).lock(),
    form(&[0x0f, 0xc1], Sizes::All).lock(),
];

/// MOVS, CMPS, STOS, LODS, SCAS.
const STRINGS: [u8; 5] = [0xa4, 0xa6, 0xaa, 0xac, 0xae];

/// A ModRM byte with what follows it, and the registers that it uses.
#[derive(Default)]
struct Address {
    modrm: u8,
    sib: Option<u8>,
    /// REX.X and REX.B.
    rex: u8,
    displacement: i64,
    displacement_size: usize,
    /// The displacement counts from the end of the instruction.
    relative: bool,
    base: Option<usize>,
    index: Option<(usize, u64)>,
}

impl Address {
    fn uses(&self, register: usize) -> bool {
        self.base == Some(register) || self.index.is_some_and(|(index, _)| index == register)
    }
}

/// The low byte of `value` in all bytes.
fn repeated(value: u64) -> u64 {
    (value & 0xff) * 0x0101_0101_0101_0101
}

/// Makes cases.
struct Maker<'a> {
    random: &'a mut Random,
    layout: Layout,
    case: Case,
    /// Bytes of an operand, of an address.
    size: u32,
    address_size: u32,
    rex: u8,
    segment: Option<usize>,
}

impl Case {
    /// A random one.
    pub fn new(random: &mut Random, layout: Layout) -> Self {
        let place = match random.below(8) {
            0 => 0,
            1 => 4096,
            _ => 72 + random.below(4096 - 144),
        };
        let case = Self {
            code: [0; 15],
            size: 0,
            registers: core::array::from_fn(|_| random.value()),
            flags: random.number() & STATUS | 2,
            undefined: 0,
            area: layout.page.wrapping_add(place).wrapping_sub(MIDDLE as u64),
            memory: core::array::from_fn(|_| random.value()),
        };
        let mut maker = Maker {
            random,
            layout,
            case,
            size: 0,
            address_size: 0,
            rex: 0,
            segment: None,
        };
        maker.fill();
        maker.case
    }
}

impl Maker<'_> {
    fn fill(&mut self) {
        if self.random.one_in(6) {
            return self.string();
        }
        let form = loop {
            let form = self.form();
            let fits = form.least <= self.layout.bits
                && (form.kind != Kind::Selector || self.layout.selectors);
            if fits {
                break form;
            }
        };
        self.ordinary(&form);
    }

    fn form(&mut self) -> Form {
        match self.random.below(8) {
            0 => self.random.pick(&EXCHANGES),
            1 | 2 => {
                let first = self.random.pick(&ARITHMETIC);
                self.arithmetic(first)
            }
            _ => self.random.pick(&FORMS),
        }
    }

    /// Opcode `first` and the three after it: bytes or wider, to memory or from
    /// it.
    fn arithmetic(&mut self, first: u8) -> Form {
        const OPCODES: [[u8; 1]; 64] = {
            let mut all = [[0]; 64];
            let mut n = 0;
            while n < 64 {
                all[n] = [n as u8];
                n += 1;
            }
            all
        };
        let which = self.random.below(4) as u8;
        let logic = matches!(first, 0x08 | 0x20 | 0x30);
        let sizes = if which & 1 == 0 {
            Sizes::Byte
        } else {
            Sizes::All
        };
        Form {
            opcode: &OPCODES[usize::from(first + which)],
            sizes,
            lock: which < 2 && first != 0x38,
            undefined: if logic { AF } else { 0 },
            ..PLAIN
        }
    }

    fn push(&mut self, byte: u8) {
        self.case.code[self.case.size] = byte;
        self.case.size += 1;
    }

    fn push_number(&mut self, number: u64, size: usize) {
        for byte in &number.to_le_bytes()[..size] {
            self.push(*byte);
        }
    }

    /// The prefixes for operand and address size.
    fn sizes(&mut self, sizes: Sizes) {
        let bits = self.layout.bits;
        let (default, other) = if bits == 16 { (2, 4) } else { (4, 2) };
        let wide = bits == 64 && self.random.one_in(2);
        let toggled = self.random.one_in(3);
        let mut prefix = false;
        self.size = match sizes {
            Sizes::Byte => 1,
            Sizes::Fixed => default,
            Sizes::All | Sizes::Wide if wide => {
                self.rex |= 0x48;
                8
            }
            Sizes::Wide => 4,
            Sizes::All | Sizes::Push if toggled => {
                prefix = true;
                other
            }
            Sizes::Push if bits == 64 => 8,
            Sizes::All | Sizes::Push => default,
        };
        if sizes == Sizes::Wide && self.size == 4 && bits == 16 {
            prefix = true;
        }
        if prefix {
            self.push(0x66);
        }
        self.address_size(default);
    }

    fn address_size(&mut self, default: u32) {
        let bits = self.layout.bits;
        let narrow_reaches = self.layout.page < 0xffff_0000 || bits != 64;
        let toggled = narrow_reaches && self.random.one_in(4);
        self.address_size = match (bits, toggled) {
            (64, false) => 8,
            (64, true) => 4,
            (_, false) => default,
            (_, true) => 6 - default,
        };
        if toggled {
            self.push(0x67);
        }
    }

    fn override_segment(&mut self) {
        const PREFIXES: [u8; 6] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];
        let number = self.random.below(6) as usize;
        if self.random.one_in(3) && self.layout.overrides >> number & 1 != 0 {
            self.segment = Some(number);
            self.push(PREFIXES[number]);
        }
    }

    /// The base of the segment that an operand is in, by default `default`.
    fn base_of(&self, default: usize) -> u64 {
        let number = self.segment.unwrap_or(default);
        let flat = self.layout.bits == 64 && number < 4;
        if flat { 0 } else { self.layout.bases[number] }
    }

    fn ordinary(&mut self, form: &Form) {
        self.sizes(form.sizes);
        self.override_segment();
        if form.lock && self.random.one_in(4) {
            self.push(0xf0);
        }
        match form.kind {
            Kind::Offset => return self.offset(form),
            Kind::StackOnly => return self.stack_only(form),
            _ => {}
        }
        let address = self.address(form);
        let (field, register) = self.field(form, &address);
        self.rex |= address.rex;
        self.rex |= (field & 8) >> 1;
        if self.rex != 0 || (self.layout.bits == 64 && self.random.one_in(8)) {
            self.push(0x40 | self.rex);
        }
        self.opcode(form);
        self.push(address.modrm | (field & 7) << 3);
        if let Some(sib) = address.sib {
            self.push(sib);
        }
        let at = self.case.size;
        self.push_number(address.displacement as u64, address.displacement_size);
        let immediate = self.immediate(form);
        self.aim(form, &address, at);
        self.adjust(form, &address, register, immediate);
    }

    fn opcode(&mut self, form: &Form) {
        let (last, rest) = form.opcode.split_last().unwrap_or((&0, &[]));
        for byte in rest {
            self.push(*byte);
        }
        let varied = self.random.number() as u8 & form.vary;
        self.push(last | varied);
    }

    /// ModRM's register field: a digit of the opcode, or a register.
    fn field(&mut self, form: &Form, address: &Address) -> (u8, Option<usize>) {
        if !form.digits.is_empty() {
            return (self.random.pick(form.digits), None);
        }
        loop {
            let number =
                self.random
                    .below(if self.layout.bits == 64 { 16 } else { 8 }) as usize;
            if form.kind != Kind::BitRegister || !address.uses(number) {
                return (number as u8, Some(number));
            }
        }
    }

    fn immediate(&mut self, form: &Form) -> u64 {
        let size = match form.immediate {
            4 => self.size.min(4),
            other => u32::from(other),
        };
        let mut value = self.random.value();
        let double = form.opcode.len() == 2 && form.kind == Kind::ShiftImmediate;
        if double && self.size == 2 {
            value &= 15;
        }
        self.push_number(value, size as usize);
        value & 0xff
    }

    /// Lets the address lead to the middle of the area. `at` is where the
    /// displacement stands in the code.
    fn aim(&mut self, form: &Form, address: &Address, at: usize) {
        let stack_segment = matches!(address.base, Some(RSP | RBP));
        let segment = self.base_of(if stack_segment { 2 } else { 3 });
        let jitter = if form.kind == Kind::BitRegister {
            0
        } else {
            self.random.below(16)
        };
        let mut linear = self.case.area + MIDDLE as u64 - 8 + jitter;
        if form.lock && !self.layout.split_locks {
            linear &= !7;
        }
        let mut wanted = linear.wrapping_sub(segment);
        if address.relative || address.base.is_none() && address.index.is_none() {
            if address.relative {
                wanted = wanted.wrapping_sub(self.layout.code + self.case.size as u64);
            }
            let bytes = wanted.to_le_bytes();
            let size = address.displacement_size;
            self.case.code[at..at + size].copy_from_slice(&bytes[..size]);
            return;
        }
        wanted = wanted.wrapping_sub(address.displacement as u64);
        if let (Some((index, scale)), Some(_)) = (address.index, address.base) {
            let part = self.case.registers[index].wrapping_mul(scale);
            wanted = wanted.wrapping_sub(part);
        }
        match (address.base, address.index) {
            (Some(base), _) => self.point(base, wanted),
            (None, Some((index, scale))) => self.point(index, wanted / scale),
            (None, None) => {}
        }
    }

    /// Sets as much of a register as an address uses.
    fn point(&mut self, register: usize, value: u64) {
        let mask = u64::MAX >> (64 - 8 * self.address_size);
        let slot = &mut self.case.registers[register];
        *slot = *slot & !mask | value & mask;
    }

    /// Gives the other operands values that the form needs, and notes which
    /// flags it leaves open.
    fn adjust(&mut self, form: &Form, address: &Address, register: Option<usize>, immediate: u64) {
        self.case.undefined = form.undefined;
        match form.kind {
            Kind::BitRegister => {
                let bit = self.random.below(256) as i64 - 128;
                if let Some(register) = register {
                    self.case.registers[register] = bit as u64;
                }
            }
            Kind::Compare if !address.uses(RAX) && !address.uses(RDX) => self.match_accumulator(),
            Kind::ShiftImmediate => self.leave_open(immediate),
            Kind::ShiftOne => self.leave_open(1),
            Kind::ShiftRegister => self.leave_open(self.case.registers[RCX] & 0xff),
            Kind::Stack => self.point_stack(),
            _ => {}
        }
    }

    /// Makes the memory what the accumulator is, half of the time.
    fn match_accumulator(&mut self) {
        if self.random.one_in(2) {
            let value = repeated(self.case.registers[RAX]);
            self.case.memory = [value; AREA / 8];
            self.case.registers[RAX] = value;
            self.case.registers[RDX] = value;
        }
    }

    /// Flags after a shift by `count`: AF always, OF but after one, CF where
    /// nothing of the operand is left.
    fn leave_open(&mut self, count: u64) {
        let count = count & if self.size == 8 { 0x3f } else { 0x1f };
        self.case.undefined |= AF;
        if count != 1 {
            self.case.undefined |= OF;
        }
        if count >= u64::from(8 * self.size) {
            self.case.undefined |= CF;
        }
    }

    fn point_stack(&mut self) {
        let base = if self.layout.bits == 64 {
            0
        } else {
            self.layout.bases[2]
        };
        let linear = self.case.area + 24 + self.random.below(80);
        self.case.registers[RSP] = linear.wrapping_sub(base);
    }

    /// PUSH and POP of a register.
    fn stack_only(&mut self, form: &Form) {
        if self.layout.bits == 64 && self.random.one_in(2) {
            self.push(0x41);
        }
        self.opcode(form);
        self.point_stack();
    }

    fn offset(&mut self, form: &Form) {
        if self.rex != 0 {
            self.push(self.rex | 0x40);
        }
        self.opcode(form);
        let linear = self.case.area + MIDDLE as u64 - 8 + self.random.below(16);
        let offset = linear.wrapping_sub(self.base_of(3));
        self.push_number(offset, self.address_size as usize);
    }

    fn string(&mut self) {
        let opcode = self.random.pick(&STRINGS);
        let wide = self.random.one_in(2);
        self.sizes(if wide { Sizes::All } else { Sizes::Byte });
        self.override_segment();
        let repeat = self.random.below(4);
        match repeat {
            0 | 1 => self.push(0xf3 - repeat as u8),
            _ => {}
        }
        if self.rex != 0 {
            self.push(self.rex | 0x40);
        }
        self.push(opcode | u8::from(wide));
        if self.random.one_in(2) {
            self.case.flags |= DF;
        }
        let source = self.case.area + 48 + self.random.below(24);
        let target = self.case.area + 48 + self.random.below(24);
        let bases = (
            self.base_of(3),
            if self.layout.bits == 64 {
                0
            } else {
                self.layout.bases[0]
            },
        );
        self.point(RSI, source.wrapping_sub(bases.0));
        self.point(RDI, target.wrapping_sub(bases.1));
        // CPUs differ in what becomes of the upper halves if there is no round.
        let least = u64::from(self.layout.bits == 64 && self.address_size == 4);
        let count = least + self.random.below(6);
        self.point(RCX, count);
        // What these compare is equal for a while.
        if matches!(opcode, 0xa6 | 0xae) && self.random.one_in(2) {
            let value = repeated(self.case.registers[RAX]);
            self.case.memory = [value; AREA / 8];
            self.case.memory[9] = 0;
            self.case.registers[RAX] = value;
        }
    }

    /// A way to spell an address; where the stack is used, one without its pointer.
    fn address(&mut self, form: &Form) -> Address {
        if self.address_size == 2 {
            return self.address_16();
        }
        let far = self.layout.page >> 31 != 0;
        if self.layout.bits == 64 && form.relative && self.random.one_in(8) {
            return Address {
                modrm: 5,
                displacement_size: 4,
                relative: true,
                ..Address::default()
            };
        }
        if !(far && self.layout.bits == 64) && self.segment.is_none() && self.random.one_in(8) {
            // An address alone: in 64-bit mode with an empty SIB byte.
            let long = self.layout.bits == 64;
            return Address {
                modrm: if long { 4 } else { 5 },
                sib: long.then_some(0x25),
                displacement_size: 4,
                ..Address::default()
            };
        }
        self.address_by_registers(form.kind == Kind::Stack)
    }

    fn address_by_registers(&mut self, stack: bool) -> Address {
        let count = if self.layout.bits == 64 { 16 } else { 8 };
        let base = loop {
            let base = self.random.below(count) as usize;
            if !(stack && base == RSP) {
                break base;
            }
        };
        let index = self.random.below(count) as usize;
        let scale = self.random.below(4) as u8;
        let mut address = Address {
            base: Some(base),
            rex: (base >> 3) as u8,
            ..Address::default()
        };
        let with_index = index != RSP && index != base && self.random.one_in(2);
        if with_index {
            address.index = Some((index, 1 << scale));
            address.rex |= (index >> 3 << 1) as u8;
            address.modrm = 4;
            address.sib = Some(scale << 6 | (index as u8 & 7) << 3 | base as u8 & 7);
        } else if base & 7 == RSP {
            address.modrm = 4;
            address.sib = Some(0x24);
        } else {
            address.modrm = base as u8 & 7;
        }
        self.displace(&mut address, base & 7 != RBP, 4);
        address
    }

    /// A displacement of none, 1 or `full` bytes.
    fn displace(&mut self, address: &mut Address, none: bool, full: usize) {
        match self.random.below(3) {
            0 if none => {}
            1 => {
                address.modrm |= 0x80;
                address.displacement_size = full;
                let number = self.random.number();
                address.displacement = if full == 2 {
                    i64::from(number as i16)
                } else {
                    i64::from(number as i32)
                };
            }
            _ => {
                address.modrm |= 0x40;
                address.displacement_size = 1;
                address.displacement = i64::from(self.random.number() as i8);
            }
        }
    }

    /// BX or BP with SI or DI, one of these, or an address alone.
    fn address_16(&mut self) -> Address {
        const RBX: usize = 3;
        const FORMS: [(usize, Option<usize>); 8] = [
            (RBX, Some(RSI)),
            (RBX, Some(RDI)),
            (RBP, Some(RSI)),
            (RBP, Some(RDI)),
            (RSI, None),
            (RDI, None),
            (RBP, None),
            (RBX, None),
        ];
        if self.random.one_in(8) {
            return Address {
                modrm: 6,
                displacement_size: 2,
                ..Address::default()
            };
        }
        let number = self.random.below(8) as u8;
        let (base, index) = FORMS[usize::from(number)];
        let mut address = Address {
            modrm: number,
            base: Some(base),
            index: index.map(|index| (index, 1)),
            ..Address::default()
        };
        self.displace(&mut address, number != 6, 2);
        address
    }
}
