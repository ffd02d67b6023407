//! Sets keys in a copy of the loader's documented config file.

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
