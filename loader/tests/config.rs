//! The config parser: what it says about mistakes, and that nothing upsets it.

use abi::handoff::REGION_ALIGN;
use loader::config::{
    Compat, Config, Cpus, KEYS, LogLevel, LogPort, Memory, Next, OnFailure, Presence, StartupWatch,
    TRACE_ALIGN, TRACE_ON, parse,
};
use proptest::prelude::*;

fn said(file: &str) -> Vec<String> {
    let (_, problems) = parse(file.as_bytes());
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_shipped_file_says_the_defaults_and_documents_every_key() {
    let shipped = include_str!("../underlay.conf");
    assert_eq!(parse(shipped.as_bytes()), (Config::default(), vec![]));
    for key in KEYS {
        let lines = shipped
            .lines()
            .filter(|line| line.starts_with(&format!("{key} =")));
        assert_eq!(lines.count(), 1, "{key}");
    }
}

#[test]
fn a_mistake_is_named_by_file_line_and_key_and_the_default_stands() {
    assert_eq!(
        said("# fine\n\ncolour = blue\n"),
        [
            "underlay.conf:3: colour: there is no such key (there are enabled, on_failure, \
          presence, log, log_level, print, compat, trace, pool, cpus, startup_watch, memory, next, next_args); using nothing of this line"
        ]
    );
    assert_eq!(
        said("log = com9"),
        ["underlay.conf:1: log: `com9` is not com1, com2, debugcon or none; using com2"]
    );
    assert_eq!(
        said("enabled no"),
        ["underlay.conf:1: enabled: there is no `=` on this line; using yes"]
    );
    assert_eq!(
        said("presence = hidden\npresence = bit"),
        ["underlay.conf:2: presence: line 1 has set this already; using hidden"]
    );
    assert_eq!(
        said("next_args = a\u{1}b"),
        [
            "underlay.conf:1: next_args: `a?b` is not text that UEFI can pass on \
          (no control characters, nothing beyond UCS-2); using nothing"
        ]
    );
}

#[test]
fn byte_order_mark_line_ends_and_case_do_not_matter() {
    let (config, problems) = parse(b"\xef\xbb\xbfenabled = NO\r\nnext = /a/b.efi\r\n");
    assert_eq!(problems, []);
    assert!(!config.enabled);
    assert_eq!(config.next, Next::File("\\a\\b.efi".into()));
}

#[test]
fn bad_utf8_is_replaced_and_everything_after_the_first_equals_sign_is_the_value() {
    let (config, problems) = parse(b"next_args = root=/dev/sda2 \xff # x\n");
    assert_eq!(problems, []);
    assert_eq!(config.next_args, "root=/dev/sda2 \u{fffd} # x");
}

#[test]
fn sizes() {
    let memory = |value: &str| parse(format!("memory = {value}").as_bytes());
    for (value, bytes) in [
        ("8M", 8 << 20),
        ("4096K", 4 << 20),
        ("3 g", 3 << 30),
        ("5", 5),
    ] {
        assert_eq!(memory(value).0.memory, Memory::AtLeast(bytes), "{value}");
    }
    for value in [
        "",
        "M",
        "8MM",
        "-1",
        "1.5M",
        "4G",
        "99999999999999999999",
        "ä",
        "8é",
    ] {
        let (config, problems) = memory(value);
        assert_eq!(
            (config.memory, problems.len()),
            (Memory::Auto, 1),
            "{value}"
        );
    }
}

#[test]
fn traces() {
    let trace = |value: &str| parse(format!("trace = {value}").as_bytes());
    for (value, bytes) in [
        ("on", TRACE_ON),
        ("OFF", 0),
        ("1M", 1 << 20),
        ("1", TRACE_ALIGN),
    ] {
        assert_eq!(trace(value).0.trace, bytes, "{value}");
    }
    for value in ["", "yes", "65M", "-1", "18446744073709551615"] {
        let (config, problems) = trace(value);
        assert_eq!((config.trace, problems.len()), (0, 1), "{value}");
    }
}

#[test]
fn paths() {
    for value in ["", "vmlinuz", "\\", "\\EFI\\", "\\a\u{1F600}"] {
        let (config, problems) = parse(format!("next = {value}").as_bytes());
        assert_eq!(
            (config.next, problems.len()),
            (Next::Firmware, 1),
            "{value}"
        );
    }
}

prop_compose! {
    fn config()(
        enabled in any::<bool>(),
        on_failure in prop::sample::select(vec![OnFailure::Boot, OnFailure::Halt]),
        presence in (0u32..3).prop_filter_map("code", Presence::from_code),
        log in (0u32..4).prop_filter_map("code", LogPort::from_code),
        log_level in (1u32..6).prop_filter_map("code", LogLevel::from_code),
        print in any::<bool>(),
        compat in prop::sample::select(vec![Compat::None, Compat::BitVisor]),
        (trace, pool) in (
            (0u64..=16 << 10).prop_map(|pages| pages * TRACE_ALIGN),
            (0u64..2048).prop_map(|pieces| pieces * REGION_ALIGN),
        ),
        (cpus, startup_watch) in (
            prop::sample::select(vec![Cpus::One, Cpus::All]),
            prop::sample::select(
                vec![StartupWatch::Auto, StartupWatch::Always, StartupWatch::UntilUp],
            ),
        ),
        memory in prop::option::of(0u64..4 << 30),
        next in prop::option::of("\\\\[a-zA-Zäß0-9 .\\\\=#_-]{0,40}[a-z]"),
        next_args in "([!-~é][ -~é]{0,60}[!-~é])?",
    ) -> Config {
        Config {
            enabled, on_failure, presence, log, log_level, print, compat, trace, pool, cpus,
            startup_watch,
            memory: memory.map_or(Memory::Auto, Memory::AtLeast),
            next: next.map_or(Next::Firmware, Next::File),
            next_args,
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_parse(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for problem in parse(&bytes).1 {
            prop_assert!(problem.to_string().starts_with("underlay.conf:"));
        }
    }

    #[test]
    fn lines_of_keys_with_arbitrary_values_parse(
        lines in prop::collection::vec((prop::sample::select(KEYS.to_vec()), "\\PC{0,20}"), 0..10),
    ) {
        let file: String = lines.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        let (config, problems) = parse(file.as_bytes());
        prop_assert!(problems.len() <= lines.len());
        prop_assert_eq!(parse(config.render().as_bytes()), (config, vec![]));
    }

    #[test]
    fn a_rendered_config_parses_back(config in config()) {
        prop_assert_eq!(parse(config.render().as_bytes()), (config, vec![]));
    }
}
