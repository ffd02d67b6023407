//! What the machine's own tables say of sleep: by which words its registers are
//! told to. Those of states that come back through the firmware, or in which the
//! CPUs keep what they have, are told from the others.

/// States out of which the machine comes back beneath Underlay: S1, which keeps
/// the CPUs as they are, and S4 and S5, after which the firmware starts it anew.
/// S2 and S3 forget the CPUs, and go on where an operating system says.
const HARMLESS: [&[u8; 4]; 3] = [b"_S1_", b"_S4_", OFF];
const OFF: &[u8; 4] = b"_S5_";
const DEEP: [&[u8; 4]; 2] = [b"_S2_", b"_S3_"];

const NAME_OP: u8 = 0x08;
const ROOT: u8 = b'\\';
const PACKAGE_OP: u8 = 0x12;

/// The sleep types that `tables`, the bodies of DSDT and SSDTs, name for harmless
/// states, as bits: of the first register and of the second. The states are looked
/// for as constants, as an interpreter would be needed for more; one that is not
/// found is not harmless. But where switching off is not found and deeper sleep
/// is, everything but that is let through: the machine has to end. ACPI
/// specification, "\_Sx (System States)".
pub fn harmless<'a>(tables: impl IntoIterator<Item = &'a [u8]>) -> [u8; 2] {
    let (mut harmless, mut deep) = ([0; 2], [0; 2]);
    let mut ends = false;
    for table in tables {
        add(&mut harmless, table, &HARMLESS);
        add(&mut deep, table, &DEEP);
        ends |= constants(table, OFF).is_some();
    }
    if ends || deep == [0; 2] {
        return harmless;
    }
    deep.map(|types| !types)
}

/// The types of those of `states` that `table` has.
fn add(types: &mut [u8; 2], table: &[u8], states: &[&[u8; 4]]) {
    for [first, second] in states.iter().filter_map(|state| constants(table, state)) {
        types[0] |= bit(first);
        types[1] |= bit(second);
    }
}

/// The field for it has three bits.
fn bit(sleep_type: u64) -> u8 {
    u32::try_from(sleep_type)
        .ok()
        .and_then(|number| 1_u8.checked_shl(number))
        .unwrap_or(0)
}

/// The first two numbers of the package called `state`.
fn constants(table: &[u8], state: &[u8; 4]) -> Option<[u64; 2]> {
    let mut places = table.windows(state.len()).enumerate();
    places.find_map(|(at, name)| {
        let before = table.get(..at)?;
        let before = before.strip_suffix(&[ROOT]).unwrap_or(before);
        let is_name = name == state && before.ends_with(&[NAME_OP]);
        let behind = table.get(at + state.len()..)?;
        is_name.then(|| package(behind)).flatten()
    })
}

/// ACPI specification, "Package Length Encoding" and "Data Objects Encoding".
fn package(bytes: &[u8]) -> Option<[u64; 2]> {
    let [PACKAGE_OP, lead, ..] = *bytes else {
        return None;
    };
    let more = usize::from(lead >> 6);
    let elements = bytes.get(2 + more..)?;
    let (count, elements) = elements.split_first()?;
    if *count < 2 {
        // Some firmware has both in one number, the second above the first.
        let (both, _) = number(elements)?;
        return Some([both & 0xff, both >> 8]);
    }
    let (first, rest) = number(elements)?;
    let (second, _) = number(rest)?;
    Some([first, second])
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let size = match kind {
        0 | 1 => return Some(((*kind).into(), rest)),
        0x0a => 1,
        0x0b => 2,
        0x0c => 4,
        0x0e => 8,
        _ => return None,
    };
    let (digits, rest) = rest.split_at_checked(size)?;
    let number = digits.iter().rev();
    let number = number.fold(0, |sum, digit| sum << 8 | u64::from(*digit));
    Some((number, rest))
}
