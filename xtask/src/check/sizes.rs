//! Sizes of functions and files, and the most that they may have. Tests and
//! tables do not count.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::Findings;
use super::sources::{Source, Sources};

const FUNCTION_MEDIAN: usize = 8;
const FUNCTION_99_PERCENT: usize = 60;
const FUNCTION_MAX: usize = 110;
const FILE_MAX: usize = 600;

/// Files that are mostly a table of definitions.
const TABLES: [&str; 1] = ["x86/src/vtx/checks/breakages.rs"];

/// Everything measured of one file.
struct Measured<'a> {
    file: &'a Source,
    lines: usize,
    /// First line, name, number of lines.
    functions: Vec<(usize, String, usize)>,
}

/// What is too large.
pub fn check(sources: &Sources) -> Findings {
    let measured = measure(sources);
    let mut findings = Vec::new();
    for one in &measured {
        if one.lines > FILE_MAX {
            findings.push(format!(
                "{}: {} lines, at most {FILE_MAX}",
                one.file.path, one.lines
            ));
        }
        for (line, name, lines) in &one.functions {
            if *lines > FUNCTION_MAX {
                findings.push(format!(
                    "{}:{line}: {name} has {lines} lines, at most {FUNCTION_MAX}",
                    one.file.path
                ));
            }
        }
    }
    let functions = function_lines(&measured);
    for (percent, most) in [(50, FUNCTION_MEDIAN), (99, FUNCTION_99_PERCENT)] {
        let lines = percentile(&functions, percent);
        if lines > most {
            findings.push(format!(
                "{percent} % of the functions have up to {lines} lines, should be {most}"
            ));
        }
    }
    Ok(findings)
}

/// The figures, for a person.
pub fn figures(sources: &Sources) -> [String; 2] {
    let measured = measure(sources);
    let functions = function_lines(&measured);
    let mut files: Vec<usize> = measured.iter().map(|one| one.lines).collect();
    files.sort_unstable();
    [("functions", functions), ("files", files)].map(|(what, lines)| {
        format!(
            "{} {what}: median {} lines, 99 % up to {}, the largest {}",
            lines.len(),
            percentile(&lines, 50),
            percentile(&lines, 99),
            lines.last().copied().unwrap_or(0)
        )
    })
}

fn function_lines(measured: &[Measured<'_>]) -> Vec<usize> {
    let functions = measured.iter().flat_map(|one| &one.functions);
    let mut lines: Vec<usize> = functions.map(|(_, _, lines)| *lines).collect();
    lines.sort_unstable();
    lines
}

fn percentile(sorted: &[usize], percent: usize) -> usize {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(0)
}

fn measure(sources: &Sources) -> Vec<Measured<'_>> {
    let crates = sources.crates.iter().filter(|c| c.name != "tests");
    let files = crates.flat_map(|c| &c.files);
    let files = files.filter(|f| !TABLES.contains(&f.path.as_str()));
    files
        .filter(|f| !is_test_file(&f.path))
        .map(measure_file)
        .collect()
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn measure_file(file: &Source) -> Measured<'_> {
    let mut ruler = Ruler::default();
    ruler.visit_file(&file.syntax);
    Measured {
        file,
        lines: file.text.lines().count() - ruler.test_lines,
        functions: ruler.functions,
    }
}

#[derive(Default)]
struct Ruler {
    functions: Vec<(usize, String, usize)>,
    test_lines: usize,
}

impl Ruler {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let lines = lines_of(signature.span(), block.span());
        let name = signature.ident.to_string();
        self.functions
            .push((signature.span().start().line, name, lines));
    }
}

impl<'ast> Visit<'ast> for Ruler {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if is_test(&module.attrs) {
            self.test_lines += lines_of(module.span(), module.span());
        } else {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            self.function(&item.sig, &item.block);
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_cfg_test = attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"));
        is_cfg_test || attribute.path().is_ident("test")
    })
}

fn lines_of(first: proc_macro2::Span, last: proc_macro2::Span) -> usize {
    last.end().line + 1 - first.start().line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_functions_but_not_tests() {
        let text = "fn a() {\n}\nimpl B {\n    fn c() {}\n}\n\
                    #[cfg(test)]\nmod tests {\n    #[test]\n    fn d() {}\n}\n";
        let file = Source {
            path: "x.rs".into(),
            text: text.into(),
            syntax: syn::parse_file(text).unwrap(),
        };
        let measured = measure_file(&file);
        let functions = measured
            .functions
            .iter()
            .map(|(at, name, n)| (*at, name.as_str(), *n));
        assert_eq!(functions.collect::<Vec<_>>(), [(1, "a", 2), (4, "c", 1)]);
        assert_eq!(measured.lines, 5);
    }

    #[test]
    fn percentiles_are_of_the_sorted_list() {
        let lines: Vec<usize> = (1..=200).collect();
        assert_eq!(percentile(&lines, 50), 100);
        assert_eq!(percentile(&lines, 99), 198);
        assert_eq!(percentile(&[], 50), 0);
    }
}
