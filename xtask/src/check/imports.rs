//! Who may import whom.

use proc_macro2::{TokenStream, TokenTree};

use super::Findings;
use super::sources::{Crate, Source, Sources};

/// Each package, and those of ours that it may import.
const MAY_IMPORT: [(&str, &[&str]); 14] = [
    ("abi", &[]),
    ("x86", &[]),
    // The handoff's layout is data that starts the machine half as much as the
    // policy: `machine` reads it before there is a policy to ask.
    ("machine", &["abi", "x86"]),
    ("hypervisor", &["machine", "x86", "abi"]),
    ("loader", &["abi", "x86"]),
    ("views", &["abi"]),
    ("underlay", &["abi", "x86", "views"]),
    ("underlay-vm", &["abi", "underlay"]),
    ("underlay-run", &["underlay-vm"]),
    ("mixed-load", &[]),
    ("call-load", &["abi", "underlay"]),
    ("tests", &["abi", "x86"]),
    // Its program is one like the test guests, and uses their sandbox.
    ("bench", &["abi", "x86", "tests"]),
    ("xtask", &["abi", "x86", "views"]),
];

/// The manifests against [`MAY_IMPORT`].
pub fn crates(sources: &Sources) -> Findings {
    let ours: Vec<&str> = sources.crates.iter().map(|c| c.name.as_str()).collect();
    let mut findings = Vec::new();
    for one in &sources.crates {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == one.name) else {
            findings.push(format!(
                "{}: no import rule in xtask names this crate",
                one.name
            ));
            continue;
        };
        for import in dependencies(one) {
            if ours.contains(&import.as_str()) && !allowed.contains(&import.as_str()) {
                findings.push(format!("{}/Cargo.toml: may not import {import}", one.name));
            }
        }
    }
    Ok(findings)
}

fn dependencies(one: &Crate) -> Vec<String> {
    let of = |table: &toml::Table| -> Vec<String> {
        ["dependencies", "dev-dependencies", "build-dependencies"]
            .into_iter()
            .filter_map(|kind| table.get(kind)?.as_table())
            .flat_map(|entries| entries.keys().cloned())
            .collect()
    };
    let targets = one.manifest.get("target").and_then(toml::Value::as_table);
    let targets = targets.into_iter().flat_map(toml::Table::values);
    let mut names = of(&one.manifest);
    names.extend(targets.filter_map(toml::Value::as_table).flat_map(of));
    names
}

/// The mirrors in `machine` are chosen once, by whoever is above them.
pub fn vendors(sources: &Sources) -> Findings {
    let mut findings = Vec::new();
    for (one, other) in [("vtx", "svm"), ("svm", "vtx")] {
        for file in sources.files().filter(|f| in_module(f, "machine/src", one)) {
            let words = words(file.text.parse().unwrap_or_default());
            for (line, _) in words.iter().filter(|(_, word)| word == other) {
                findings.push(format!("{}:{line}: {one} names {other}", file.path));
            }
        }
    }
    Ok(findings)
}

fn in_module(file: &Source, parent: &str, module: &str) -> bool {
    file.path.starts_with(&format!("{parent}/{module}/"))
        || file.path == format!("{parent}/{module}.rs")
}

/// A controller does not import a controller, nor a service a service.
pub fn families(sources: &Sources) -> Findings {
    let mut findings = Vec::new();
    for family in ["controllers", "services"] {
        let parent = format!("hypervisor/src/{family}/");
        let inside = |file: &&Source| file.path.starts_with(&parent);
        let files: Vec<_> = sources.files().filter(inside).collect();
        let member = |file: &Source| {
            let rest = file.path.strip_prefix(&parent).unwrap_or_default();
            let first = rest.split('/').next().unwrap_or_default();
            first.trim_end_matches(".rs").to_owned()
        };
        let members: Vec<String> = files.iter().map(|file| member(file)).collect();
        for file in files.iter().filter(|file| member(file) != "mod") {
            let own = member(file);
            for (line, other) in siblings(&words(file.text.parse().unwrap_or_default()), family) {
                if other != own && other != "mod" && members.contains(&other) {
                    findings.push(format!("{}:{line}: {own} imports {other}", file.path));
                }
            }
        }
    }
    Ok(findings)
}

/// What follows `super::` or `family::`, group or not.
fn siblings(words: &[(usize, String)], family: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, (_, word)) in words.iter().enumerate() {
        if word != "super" && word != family {
            continue;
        }
        let rest = &words[at + 1..];
        if rest.first().is_none_or(|(_, w)| w != "::") {
            continue;
        }
        let rest = &rest[1..];
        if rest.first().is_some_and(|(_, w)| w == "{") {
            found.extend(heads(&rest[1..]));
        } else {
            found.extend(rest.first().cloned());
        }
    }
    found
}

/// The first word of each element of a group, up to its end.
fn heads(words: &[(usize, String)]) -> Vec<(usize, String)> {
    let (mut depth, mut at_head) = (0_usize, true);
    let mut found = Vec::new();
    for (line, word) in words {
        match word.as_str() {
            "{" => depth += 1,
            "}" if depth == 0 => break,
            "}" => depth -= 1,
            "," if depth == 0 => at_head = true,
            _ if at_head => {
                found.push((*line, word.clone()));
                at_head = false;
            }
            _ => {}
        }
    }
    found
}

/// Identifiers, `::`, commas and braces with their lines; comments and
/// strings are none of them.
fn words(tokens: TokenStream) -> Vec<(usize, String)> {
    let mut words: Vec<(usize, String)> = Vec::new();
    for token in tokens {
        let line = token.span().start().line;
        match token {
            TokenTree::Ident(ident) => words.push((line, ident.to_string())),
            TokenTree::Group(group) => {
                words.push((line, "{".to_owned()));
                words.extend(self::words(group.stream()));
                words.push((line, "}".to_owned()));
            }
            TokenTree::Punct(punct) => match (punct.as_char(), words.last_mut()) {
                (':', Some((_, last))) if last == ":" => last.push(':'),
                (':' | ',', _) => words.push((line, punct.as_char().to_string())),
                _ => {}
            },
            TokenTree::Literal(_) => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let words = words(text.parse().unwrap());
        let siblings = siblings(&words, "controllers");
        siblings.into_iter().map(|(_, word)| word).collect()
    }

    #[test]
    fn finds_siblings_however_they_are_named() {
        assert_eq!(found("use super::msr::Bitmap;"), ["msr"]);
        assert_eq!(
            found("use crate::controllers::{cpuid::{a, b}, msr};"),
            ["cpuid", "msr"]
        );
        assert_eq!(found("fn f() { crate::controllers::port::go() }"), ["port"]);
        assert!(found("// controllers::msr\nlet controllers = \"super::msr\";").is_empty());
    }
}
