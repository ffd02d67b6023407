//! Sets keys in a copy of the loader's documented config file, and checks what
//! a person wants to set.

use anyhow::{bail, ensure};

/// The keys that have a fixed set of values; the loader takes any other value
/// for a mistake and goes on with the default.
const CHOICES: [(&str, &[&str]); 9] = [
    ("enabled", &["yes", "no"]),
    ("on_failure", &["boot", "halt"]),
    ("presence", &["leaf", "bit", "hidden"]),
    ("startup_watch", &["auto", "always", "until-up"]),
    ("print", &["on", "off"]),
    ("compat", &["none", "bitvisor"]),
    ("cpus", &["one", "all"]),
    ("log", &["com1", "com2", "debugcon", "none"]),
    ("log_level", &["error", "warn", "info", "debug", "trace"]),
];

/// An error unless each of `settings` has a key of `template` and a value that
/// the key can have.
pub fn check(template: &str, settings: &[(String, String)]) -> anyhow::Result<()> {
    let keys = keys(template);
    for (key, value) in settings {
        if !keys.contains(&key.as_str()) {
            let keys = keys.join(", ");
            bail!("--conf: underlay.conf has no key `{key}`; its keys are {keys}");
        }
        let choices = CHOICES.iter().find(|(name, _)| name == key);
        let values = choices.map_or(&[][..], |(_, values)| values);
        ensure!(
            values.is_empty() || values.contains(&value.as_str()),
            "--conf: `{key}` cannot be `{value}`; its values are {}",
            values.join(", ")
        );
    }
    Ok(())
}

fn keys(template: &str) -> Vec<&str> {
    let lines = template.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(key, _)| key.trim()).collect()
}

/// `template` with `key` set to `value`: its line is replaced, even where it
/// is only an example behind a comment sign, else a line is appended.
pub fn set(template: &str, key: &str, value: &str) -> String {
    let line = format!("{key} = {value}");
    let mut lines: Vec<&str> = template.lines().collect();
    let place = lines
        .iter()
        .position(|l| names(l, key))
        .or_else(|| lines.iter().position(|l| is_example_of(l, key)));
    match place {
        Some(at) => lines[at] = &line,
        None => lines.push(&line),
    }
    lines.join("\n") + "\n"
}

/// The key and value of `KEY=VALUE` as a person types it.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not of the form KEY=VALUE"))?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

fn names(line: &str, key: &str) -> bool {
    line.split_once('=').is_some_and(|(k, _)| k.trim() == key)
}

/// `#key = value`, without a space behind the sign: prose never looks so.
fn is_example_of(line: &str, key: &str) -> bool {
    line.trim_start()
        .strip_prefix('#')
        .is_some_and(|rest| rest.starts_with(key) && names(rest, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "# about next = here\nnext = firmware\n#next_args = a\n";

    fn checked(key: &str, value: &str) -> Result<(), String> {
        let template = crate::stage::template().unwrap();
        let settings = [(key.to_owned(), value.to_owned())];
        check(&template, &settings).map_err(|error| error.to_string())
    }

    #[test]
    fn only_keys_and_values_of_the_template_pass() {
        assert_eq!(checked("presence", "hidden"), Ok(()));
        assert_eq!(checked("memory", "8M"), Ok(()));
        assert_eq!(checked("next_args", "a=b"), Ok(()));
        let unknown = checked("presense", "bit").unwrap_err();
        assert!(unknown.ends_with(
            "log_level, print, compat, trace, pool, cpus, startup_watch, memory, next, next_args"
        ));
        assert!(checked("", "x").is_err());
        assert!(checked("log", "").unwrap_err().contains("com1, com2"));
    }

    #[test]
    fn every_choice_is_a_key_and_has_its_default() {
        let template = crate::stage::template().unwrap();
        for (key, values) in CHOICES {
            let line = template.lines().find(|line| names(line, key)).unwrap();
            let default = line.split_once('=').unwrap().1.trim();
            assert!(values.contains(&default), "{key}");
        }
    }

    #[test]
    fn replaces_the_line_of_the_key_only() {
        let set = set(TEMPLATE, "next", r"\vmlinuz.efi");
        assert_eq!(
            set,
            "# about next = here\nnext = \\vmlinuz.efi\n#next_args = a\n"
        );
    }

    #[test]
    fn takes_the_place_of_an_example() {
        assert!(set(TEMPLATE, "next_args", "b").ends_with("\nnext_args = b\n"));
        assert_eq!(set(TEMPLATE, "next_args", "b").lines().count(), 3);
    }

    #[test]
    fn appends_an_unknown_key() {
        assert!(set(TEMPLATE, "log", "com1").ends_with("a\nlog = com1\n"));
    }

    #[test]
    fn splits_at_the_first_equals_sign() {
        let pair = parse_pair("next_args= a=b ");
        assert_eq!(pair, Ok(("next_args".into(), "a=b".into())));
        assert!(parse_pair("enabled").is_err());
    }
}
