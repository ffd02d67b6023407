//! What CPUID says in the VM: what Underlay offers, with the VM's own number of
//! vCPUs, its interrupt controller, and without what this program does not play.
//! Intel SDM volume 2 and AMD APM volume 3, "CPUID".

use underlay_vm::Cpuid;

/// How the VM is told from other machines.
const SIGNATURE: &[u8; 12] = b"UnderlayVM\0\0";

/// A vCPU that asks.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// Its number, which is its local APIC's.
    pub number: u32,
    /// How many there are.
    pub count: u32,
    /// Ticks of the time-stamp counter a second.
    pub ticks_per_second: u64,
}

/// Leaf 1 ECX: the deadline timer, and that this is no machine.
const DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX: a local APIC; several logical processors.
const APIC: u32 = 1 << 9;
const SEVERAL: u32 = 1 << 28;
/// Leaf 1 EDX: what the CPU does when it is hot.
const HEAT: u32 = 1 << 22 | 1 << 29;
/// Leaf 6 EAX: the timer goes on while the CPU sleeps.
const TIMER_GOES_ON: u32 = 1 << 2;
/// Leaf 0x80000001 ECX: instruction sampling, watchdog, topology, performance
/// counters of two kinds, MWAITX.
const AMD_HIDDEN: u32 = 1 << 10 | 1 << 13 | 1 << 22 | 1 << 23 | 1 << 24 | 1 << 28 | 1 << 29;

/// EAX, EBX, ECX and EDX.
pub fn answer(asking: Asking, cpuid: &Cpuid) -> [u32; 4] {
    let [eax, ebx, ecx, edx] = cpuid.offer;
    let Asking { number, count, .. } = asking;
    let last = count - 1;
    match cpuid.leaf {
        1 => {
            let several = if count > 1 { SEVERAL } else { 0 };
            let own = number << 24 | count << 16;
            [
                eax,
                ebx & 0xffff | own,
                ecx | DEADLINE | HYPERVISOR,
                edx & !(SEVERAL | HEAT) | APIC | several,
            ]
        }
        // Each core has its own caches, but for the last.
        4 if eax & 0x1f != 0 => {
            let sharing = if eax >> 5 & 7 >= 3 { last } else { 0 };
            [eax & 0x3fff | sharing << 14 | last << 26, ebx, ecx, edx]
        }
        6 => [TIMER_GOES_ON, 0, 0, 0],
        0xb => topology(asking, cpuid.subleaf),
        0x15 => frequency(asking.ticks_per_second),
        5 | 0xa | 0xf | 0x10 | 0x12 | 0x14 | 0x16 | 0x1f => [0; 4],
        0x4000_0000 => signature(),
        0x8000_0001 => [eax, ebx, ecx & !AMD_HIDDEN, edx],
        0x8000_0008 => [eax, ebx, last, edx],
        0x8000_001b..=0x8000_001e | 0x8000_0022 | 0x8000_0026 => [0; 4],
        _ => cpuid.offer,
    }
}

/// One thread a core, and all cores in one package.
fn topology(asking: Asking, subleaf: u32) -> [u32; 4] {
    const THREAD: u32 = 1;
    const CORE: u32 = 2;
    let Asking { number, count, .. } = asking;
    match subleaf {
        0 => [0, 1, THREAD << 8, number],
        1 => [
            count.next_power_of_two().ilog2(),
            count,
            CORE << 8 | 1,
            number,
        ],
        _ => [0, 0, subleaf & 0xff, number],
    }
}

/// The crystal's rate is that of an APIC's timer.
fn frequency(ticks_per_second: u64) -> [u32; 4] {
    let ratio = crate::interrupts::TICKS;
    [1, ratio as u32, (ticks_per_second / ratio) as u32, 0]
}

fn signature() -> [u32; 4] {
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| SIGNATURE[at + byte]));
    [0x4000_0000, word(0), word(4), word(8)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(leaf: u32, subleaf: u32, offer: [u32; 4]) -> [u32; 4] {
        let asking = Asking {
            number: 2,
            count: 3,
            ticks_per_second: 2_500_000_000,
        };
        answer(
            asking,
            &Cpuid {
                leaf,
                subleaf,
                offer,
            },
        )
    }

    #[test]
    fn a_vcpu_sees_its_own_number_and_how_many_there_are() {
        let [_, ebx, _, edx] = ask(1, 0, [0, 0x0908_0800, 0, 0]);
        assert_eq!(ebx, 2 << 24 | 3 << 16 | 0x800);
        assert_ne!(edx & SEVERAL, 0);
        assert_eq!(ask(0xb, 1, [9; 4]), [2, 3, 0x201, 2]);
        assert_eq!(ask(0x8000_0008, 0, [1, 2, 99, 4]), [1, 2, 2, 4]);
    }

    #[test]
    fn the_last_cache_is_shared_by_all() {
        let [eax, ..] = ask(4, 0, [0xfc1f_c021, 0, 0, 0]);
        assert_eq!(eax, 2 << 26 | 0x21);
        let [eax, ..] = ask(4, 3, [0xfc1f_c063, 0, 0, 0]);
        assert_eq!(eax, 2 << 26 | 2 << 14 | 0x63);
        assert_eq!(ask(4, 4, [0; 4]), [0; 4]);
    }

    #[test]
    fn rates_make_the_time_stamp_counters() {
        let [below, above, crystal, _] = ask(0x15, 0, [0; 4]);
        assert_eq!(u64::from(crystal) * u64::from(above / below), 2_500_000_000);
    }

    #[test]
    fn what_is_not_known_here_is_as_underlay_says() {
        assert_eq!(ask(7, 0, [1, 2, 3, 4]), [1, 2, 3, 4]);
        assert_eq!(ask(0xa, 0, [1, 2, 3, 4]), [0; 4]);
    }
}
