//! What must not be in the sources at all.

use std::collections::BTreeSet;

use quote::ToTokens;
use syn::visit::Visit;

use super::Findings;
use super::sources::Sources;

/// Package, the level, and the files whose first attributes must set it.
const UNSAFE_CODE: [(&str, &str); 5] = [
    ("abi", "forbid"),
    ("views", "forbid"),
    ("x86", "forbid"),
    ("xtask", "forbid"),
    ("hypervisor", "deny"),
];

/// The roots of these crates say that there is no unsafe code in them, and no
/// file takes it back.
pub fn unsafe_code(sources: &Sources) -> Findings {
    let mut findings = Vec::new();
    for (package, level) in UNSAFE_CODE {
        let Some(one) = sources.crates.iter().find(|c| c.name == package) else {
            continue;
        };
        for file in &one.files {
            let attributes = file.syntax.attrs.iter();
            let mut attributes = attributes.map(|a| a.meta.to_token_stream().to_string());
            let is_root = file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs");
            if is_root && !attributes.any(|a| a.starts_with(level) && a.contains("unsafe_code")) {
                findings.push(format!("{}:1: lacks #![{level}(unsafe_code)]", file.path));
            }
            let allow = "allow(unsafe_code";
            for (at, _) in file
                .text
                .lines()
                .enumerate()
                .filter(|(_, l)| l.contains(allow))
            {
                if package != "xtask" {
                    findings.push(format!("{}:{}: allows unsafe code", file.path, at + 1));
                }
            }
        }
    }
    Ok(findings)
}

/// No `static mut` in any crate.
pub fn static_mut(sources: &Sources) -> Findings {
    let mut findings = BTreeSet::new();
    for file in sources.files() {
        let mut seen = Statics(Vec::new());
        seen.visit_file(&file.syntax);
        findings.extend(
            seen.0
                .iter()
                .map(|line| format!("{}:{line}: static mut", file.path)),
        );
    }
    Ok(findings.into_iter().collect())
}

struct Statics(Vec<usize>);

impl<'ast> Visit<'ast> for Statics {
    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        if matches!(item.mutability, syn::StaticMutability::Mut(_)) {
            self.0.push(item.static_token.span.start().line);
        }
        syn::visit::visit_item_static(self, item);
    }
}
