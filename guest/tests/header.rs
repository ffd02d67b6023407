//! The C header, by the compilers that there are.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use abi::token::{TABLE_SIZE, Token};

const STANDARDS: [(&str, &str); 6] = [
    ("gcc", "c99"),
    ("gcc", "c11"),
    ("gcc", "gnu11"),
    ("g++", "c++11"),
    ("g++", "c++17"),
    ("g++", "c++20"),
];

fn compile(compiler: &str, standard: &str, program: &Path) -> Option<std::process::Output> {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let language = if compiler == "g++" { "c++" } else { "c" };
    let mut command = Command::new(compiler);
    command.arg(format!("-std={standard}"));
    command.args(["-O2", "-Wall", "-Wextra", "-pedantic", "-Werror", "-x"]);
    command.arg(language).arg("-I").arg(guest.join("include"));
    command.arg(guest.join("tests/header.c"));
    command.arg("-o").arg(program).output().ok()
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A compiler that is not installed has no opinion; gcc is.
#[test]
fn it_is_c_and_cpp_without_a_warning() {
    for (compiler, standard) in STANDARDS {
        let compiled = compile(compiler, standard, &program(&format!("as-{standard}")));
        let Some(output) = compiled else {
            assert_eq!(compiler, "g++", "gcc is part of the set-up");
            continue;
        };
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{standard}: {words}");
    }
}

fn says(program: &Path, table: &[u8]) -> String {
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("compiled");
    let input = child.stdin.take();
    input.expect("piped").write_all(table).expect("read");
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn it_finds_what_the_library_finds_and_takes_the_token_from_its_table() {
    let program = program("header");
    let compiled = compile("gcc", "c11", &program).expect("gcc is part of the set-up");
    assert!(compiled.status.success());
    let table = Token([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]).table();
    let words = says(&program, &table);
    let token = "table 1 token 123456789abcdef fedcba9876543210\n";
    assert!(words.starts_with(token), "{words}");
    let found = match underlay::discovery::find() {
        Ok(underlay::Instruction::Vmcall) => 1,
        Ok(underlay::Instruction::Vmmcall) => 2,
        Err(_) => 0,
    };
    assert!(words.contains(&format!("instruction {found}\n")), "{words}");
    let mut other = table;
    other[3] ^= 1;
    let longer = [&table[..], &[0]].concat();
    for no_table in [&other[..], &table[..TABLE_SIZE - 1], &longer, &[]] {
        let words = says(&program, no_table);
        assert!(words.starts_with("table 0 token 0 0\n"), "{words}");
    }
}
