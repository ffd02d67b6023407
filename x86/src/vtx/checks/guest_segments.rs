//! The guest's segment registers: selectors, bases, limits, access rights.

use super::host::canonical;
use super::view::{CS, DS, ES, FS, GS, LDTR, SS, Segment, TR, View};
use super::{Rule, Section, rule};
use crate::control::Cr0;
use crate::segment::{CODE_OR_DATA, DEFAULT_BIG, LONG, PRESENT, UNUSABLE};
use crate::vtx::field;

pub(super) const SECTION: Section = Section {
    title: "Checks on Guest Segment Registers",
    rules: &[
        SELECTORS,
        VIRTUAL_8086,
        CANONICAL_BASES,
        BASES,
        CODE,
        STACK,
        DATA_TYPES,
        RIGHTS,
        LOCAL_TABLE,
        TASK,
    ],
};

const TABLE_INDICATOR: u64 = 1 << 2;

const SELECTORS: &[Rule] = &[
    rule(
        "guest-tr-ti",
        field::GUEST_TR,
        "a selector of the GDT: TI (bit 2) is 0",
        |v| v.clear(field::GUEST_TR, TABLE_INDICATOR),
    ),
    rule(
        "guest-ldtr-ti",
        field::GUEST_LDTR,
        "a selector of the GDT: TI (bit 2) is 0",
        |v| !v.usable(LDTR) || v.clear(field::GUEST_LDTR, TABLE_INDICATOR),
    ),
    rule("guest-ss-rpl", field::GUEST_SS, "the RPL of CS", |v| {
        v.virtual_8086() || v.unrestricted() || v.rpl(SS) == v.rpl(CS)
    }),
];

/// Three rules for each segment of a guest in virtual-8086 mode.
macro_rules! virtual_8086 {
    ($($name:literal $selector:ident $base:ident $limit:ident $rights:ident;)*) => {
        &[$(
            rule(
                concat!("guest-", $name, "-base-v86"),
                field::$base,
                "the selector times 16, as the guest is in virtual-8086 mode",
                |v| !v.virtual_8086() || v.get(field::$base) == v.get(field::$selector) << 4,
            ),
            rule(
                concat!("guest-", $name, "-limit-v86"),
                field::$limit,
                "0xffff, as the guest is in virtual-8086 mode",
                |v| !v.virtual_8086() || v.get(field::$limit) == 0xffff,
            ),
            rule(
                concat!("guest-", $name, "-rights-v86"),
                field::$rights,
                "0xf3, as the guest is in virtual-8086 mode",
                |v| !v.virtual_8086() || v.get(field::$rights) == 0xf3,
            ),
        )*]
    };
}

const VIRTUAL_8086: &[Rule] = virtual_8086! {
    "es" GUEST_ES GUEST_ES_BASE GUEST_ES_LIMIT GUEST_ES_RIGHTS;
    "cs" GUEST_CS GUEST_CS_BASE GUEST_CS_LIMIT GUEST_CS_RIGHTS;
    "ss" GUEST_SS GUEST_SS_BASE GUEST_SS_LIMIT GUEST_SS_RIGHTS;
    "ds" GUEST_DS GUEST_DS_BASE GUEST_DS_LIMIT GUEST_DS_RIGHTS;
    "fs" GUEST_FS GUEST_FS_BASE GUEST_FS_LIMIT GUEST_FS_RIGHTS;
    "gs" GUEST_GS GUEST_GS_BASE GUEST_GS_LIMIT GUEST_GS_RIGHTS;
};

const CANONICAL_BASES: &[Rule] = canonical! {
    "guest-tr-base" GUEST_TR_BASE;
    "guest-fs-base" GUEST_FS_BASE;
    "guest-gs-base" GUEST_GS_BASE;
};

const UPPER_HALF: u64 = !0xffff_ffff;

/// Outside virtual-8086 mode, whose bases have a rule of their own.
fn low_base(view: &View<'_>, segment: Segment, upper_is_clear: bool) -> bool {
    view.virtual_8086() || !view.usable(segment) || upper_is_clear
}

const BASES: &[Rule] = &[
    rule(
        "guest-ldtr-base-canonical",
        field::GUEST_LDTR_BASE,
        "a canonical address",
        |v| !v.usable(LDTR) || v.canonical(field::GUEST_LDTR_BASE),
    ),
    rule(
        "guest-cs-base-32-bit",
        field::GUEST_CS_BASE,
        "bits 63 to 32 are 0",
        |v| v.virtual_8086() || v.clear(field::GUEST_CS_BASE, UPPER_HALF),
    ),
    rule(
        "guest-ss-base-32-bit",
        field::GUEST_SS_BASE,
        "bits 63 to 32 are 0",
        |v| low_base(v, SS, v.clear(field::GUEST_SS_BASE, UPPER_HALF)),
    ),
    rule(
        "guest-ds-base-32-bit",
        field::GUEST_DS_BASE,
        "bits 63 to 32 are 0",
        |v| low_base(v, DS, v.clear(field::GUEST_DS_BASE, UPPER_HALF)),
    ),
    rule(
        "guest-es-base-32-bit",
        field::GUEST_ES_BASE,
        "bits 63 to 32 are 0",
        |v| low_base(v, ES, v.clear(field::GUEST_ES_BASE, UPPER_HALF)),
    ),
];

/// A data segment as code segment: read, write, accessed.
const DATA: u64 = 3;

/// CS counts outside virtual-8086 mode, usable or not.
fn of_code(view: &View<'_>, holds: bool) -> bool {
    view.virtual_8086() || holds
}

const CODE: &[Rule] = &[
    rule(
        "guest-cs-type",
        field::GUEST_CS_RIGHTS,
        "type 9, 11, 13 or 15 (accessed code); 3 if unrestricted",
        |v| {
            let kind = v.kind(CS);
            of_code(
                v,
                matches!(kind, 9 | 11 | 13 | 15) || (kind == DATA && v.unrestricted()),
            )
        },
    ),
    rule(
        "guest-cs-dpl-data",
        field::GUEST_CS_RIGHTS,
        "DPL 0, as its type is 3",
        |v| of_code(v, v.kind(CS) != DATA || v.dpl(CS) == 0),
    ),
    rule(
        "guest-cs-dpl-nonconforming",
        field::GUEST_CS_RIGHTS,
        "the DPL of SS, as its type is 9 or 11",
        |v| of_code(v, !matches!(v.kind(CS), 9 | 11) || v.dpl(CS) == v.dpl(SS)),
    ),
    rule(
        "guest-cs-dpl-conforming",
        field::GUEST_CS_RIGHTS,
        "a DPL of at most that of SS, as its type is 13 or 15",
        |v| of_code(v, !matches!(v.kind(CS), 13 | 15) || v.dpl(CS) <= v.dpl(SS)),
    ),
    rule(
        "guest-cs-long-and-big",
        field::GUEST_CS_RIGHTS,
        "D/B (bit 14) is 0, as L is 1 and the guest is in IA-32e mode",
        |v| {
            let is_long = v.long_mode() && !v.clear(field::GUEST_CS_RIGHTS, u64::from(LONG));
            of_code(
                v,
                !is_long || v.clear(field::GUEST_CS_RIGHTS, u64::from(DEFAULT_BIG)),
            )
        },
    ),
];

const STACK: &[Rule] = &[
    rule(
        "guest-ss-type",
        field::GUEST_SS_RIGHTS,
        "type 3 or 7 (accessed, writable data)",
        |v| v.virtual_8086() || !v.usable(SS) || matches!(v.kind(SS), 3 | 7),
    ),
    rule(
        "guest-ss-dpl-is-rpl",
        field::GUEST_SS_RIGHTS,
        "the RPL of SS as its DPL, as the guest is not unrestricted",
        |v| v.virtual_8086() || v.unrestricted() || v.dpl(SS) == v.rpl(SS),
    ),
    rule(
        "guest-ss-dpl-zero",
        field::GUEST_SS_RIGHTS,
        "DPL 0, as CS has type 3 or CR0.PE is 0",
        |v| {
            let real = v.kind(CS) == DATA || !v.cr0(Cr0::PE);
            v.virtual_8086() || !real || v.dpl(SS) == 0
        },
    ),
];

/// Whether `holds`, where the segment's type and rights count at all.
fn where_usable(view: &View<'_>, segment: Segment, holds: bool) -> bool {
    view.virtual_8086() || !view.usable(segment) || holds
}

const ACCESSED: u64 = 1 << 0;
const CODE_BIT: u64 = 1 << 3;
const READABLE: u64 = 1 << 1;

/// Three rules for each data segment register.
macro_rules! data_types {
    ($($name:literal $segment:ident $rights:ident;)*) => {
        &[$(
            rule(
                concat!("guest-", $name, "-accessed"),
                field::$rights,
                "accessed: bit 0 is 1",
                |v| where_usable(v, $segment, v.kind($segment) & ACCESSED != 0),
            ),
            rule(
                concat!("guest-", $name, "-readable"),
                field::$rights,
                "readable if it is code: bit 1 is 1",
                |v| {
                    let kind = v.kind($segment);
                    where_usable(v, $segment, kind & CODE_BIT == 0 || kind & READABLE != 0)
                },
            ),
            rule(
                concat!("guest-", $name, "-dpl"),
                field::$rights,
                "a DPL of at least the selector's RPL",
                |v| {
                    let conforming = v.kind($segment) >= 12;
                    let free = v.unrestricted() || conforming;
                    where_usable(v, $segment, free || v.dpl($segment) >= v.rpl($segment))
                },
            ),
        )*]
    };
}

const DATA_TYPES: &[Rule] = data_types! {
    "es" ES GUEST_ES_RIGHTS;
    "ds" DS GUEST_DS_RIGHTS;
    "fs" FS GUEST_FS_RIGHTS;
    "gs" GS GUEST_GS_RIGHTS;
};

const RESERVED_LOW: u64 = 0xf00;
const RESERVED_HIGH: u64 = 0xfffe_0000;

/// Six rules for each segment register with a descriptor of type `$kind`:
/// `$kind_bit` is S as it must be, and `$counts` says when the rules count.
macro_rules! rights {
    ($($name:literal $segment:ident $rights:ident $s:literal $counts:ident;)*) => {
        &[$(
            rule(
                concat!("guest-", $name, "-s"),
                field::$rights,
                concat!("S (bit 4) is ", $s),
                |v| $counts(v, $segment, v.clear(field::$rights, u64::from(CODE_OR_DATA)) == ($s == 0)),
            ),
            rule(
                concat!("guest-", $name, "-present"),
                field::$rights,
                "present: bit 7 is 1",
                |v| $counts(v, $segment, !v.clear(field::$rights, u64::from(PRESENT))),
            ),
            rule(
                concat!("guest-", $name, "-rights-reserved-low"),
                field::$rights,
                "bits 11 to 8 are 0",
                |v| $counts(v, $segment, v.clear(field::$rights, RESERVED_LOW)),
            ),
            rule(
                concat!("guest-", $name, "-rights-reserved-high"),
                field::$rights,
                "bits 31 to 17 are 0",
                |v| $counts(v, $segment, v.clear(field::$rights, RESERVED_HIGH)),
            ),
            rule(
                concat!("guest-", $name, "-granularity-bytes"),
                field::$rights,
                "G (bit 15) is 0, as the limit's low 12 bits are not all 1",
                |v| $counts(v, $segment, v.may_be_granular($segment)),
            ),
            rule(
                concat!("guest-", $name, "-granularity-pages"),
                field::$rights,
                "G (bit 15) is 1, as the limit is beyond 1 MiB",
                |v| $counts(v, $segment, v.may_be_bytes($segment)),
            ),
        )*]
    };
}

fn code_counts(view: &View<'_>, _: Segment, holds: bool) -> bool {
    of_code(view, holds)
}

fn local_table_counts(view: &View<'_>, segment: Segment, holds: bool) -> bool {
    !view.usable(segment) || holds
}

fn task_counts(_: &View<'_>, _: Segment, holds: bool) -> bool {
    holds
}

const RIGHTS: &[Rule] = rights! {
    "cs" CS GUEST_CS_RIGHTS 1 code_counts;
    "ss" SS GUEST_SS_RIGHTS 1 where_usable;
    "ds" DS GUEST_DS_RIGHTS 1 where_usable;
    "es" ES GUEST_ES_RIGHTS 1 where_usable;
    "fs" FS GUEST_FS_RIGHTS 1 where_usable;
    "gs" GS GUEST_GS_RIGHTS 1 where_usable;
    "ldtr" LDTR GUEST_LDTR_RIGHTS 0 local_table_counts;
    "tr" TR GUEST_TR_RIGHTS 0 task_counts;
};

const LOCAL_TABLE: &[Rule] = &[rule(
    "guest-ldtr-type",
    field::GUEST_LDTR_RIGHTS,
    "type 2 (LDT)",
    |v| !v.usable(LDTR) || v.kind(LDTR) == 2,
)];

const TASK: &[Rule] = &[
    rule(
        "guest-tr-type",
        field::GUEST_TR_RIGHTS,
        "type 11 (busy TSS), or 3 (busy 16-bit TSS) outside IA-32e mode",
        |v| v.kind(TR) == 11 || (v.kind(TR) == 3 && !v.long_mode()),
    ),
    rule(
        "guest-tr-unusable",
        field::GUEST_TR_RIGHTS,
        "usable: bit 16 is 0",
        |v| v.clear(field::GUEST_TR_RIGHTS, u64::from(UNUSABLE)),
    ),
];
