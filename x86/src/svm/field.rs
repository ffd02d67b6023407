//! The fields of the VMCB by name, for people who want to see one. AMD APM
//! volume 2, appendix "Layout of VMCB".

use super::vmcb::Vmcb;

/// A field: its name, and how it is read.
pub type Field = (&'static str, fn(&Vmcb) -> u64);

macro_rules! fields {
    ($($area:ident { $($field:ident $(. $part:ident)?,)* })*) => {
        /// Every field.
        pub const FIELDS: &[Field] = &[$($((
            concat!(stringify!($area), ".", stringify!($field) $(, ".", stringify!($part))?),
            |vmcb| u64::from(vmcb.$area.$field $(.$part)?),
        ),)*)*];
    };
}

fields! {
    control {
        intercept_cr, intercept_dr, intercept_exceptions, intercept3, intercept4,
        intercept5, pause_filter, io_map, msr_map, tsc_offset, asid, tlb_control,
        virtual_interrupt, interrupt_shadow, exit_code, exit_info1, exit_info2,
        exit_event, nested_control, entry_event, nested_cr3,
        virtualisation_control, clean, next_rip, fetched_length,
    }
    save {
        es.selector, es.attributes, es.limit, es.base,
        cs.selector, cs.attributes, cs.limit, cs.base,
        ss.selector, ss.attributes, ss.limit, ss.base,
        ds.selector, ds.attributes, ds.limit, ds.base,
        fs.selector, fs.attributes, fs.limit, fs.base,
        gs.selector, gs.attributes, gs.limit, gs.base,
        gdtr.limit, gdtr.base,
        ldtr.selector, ldtr.attributes, ldtr.limit, ldtr.base,
        idtr.limit, idtr.base,
        tr.selector, tr.attributes, tr.limit, tr.base,
        cpl, efer, cr4, cr3, cr0, dr7, dr6, rflags, rip, rsp, rax, star, lstar,
        cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip,
        cr2, pat, debug_control,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svm::vmcb::blank;
    use std::collections::BTreeSet;

    #[test]
    fn each_name_reads_its_own_field() {
        let mut vmcb = blank();
        vmcb.control.asid = 7;
        vmcb.save.tr.limit = 0x67;
        vmcb.save.cpl = 3;
        let names: BTreeSet<_> = FIELDS.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), FIELDS.len());
        let set = FIELDS.iter().map(|(name, read)| (*name, read(&vmcb)));
        let set: Vec<_> = set.filter(|(_, value)| *value != 0).collect();
        assert_eq!(
            set,
            [
                ("control.asid", 7),
                ("save.tr.limit", 0x67),
                ("save.cpl", 3)
            ]
        );
    }
}
