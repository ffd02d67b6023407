//! No file upsets the config parser, and what it understood it can spell.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loader::config::parse;

fuzz_target!(|file: &[u8]| {
    let (config, problems) = parse(file);
    for problem in problems {
        assert!(problem.to_string().starts_with("underlay.conf:"));
    }
    assert_eq!(parse(config.render().as_bytes()), (config, vec![]));
});
