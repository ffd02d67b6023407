//! Children as tests want them: one that runs for ever, one that runs anything
//! at all, one whose exits are known, a program that asks for anything at all, and whether registers of
//! both sides stay what they are.

mod attack;
mod costs;
mod counts;
mod hostile;
mod moves;
mod random;
mod registers;
mod spin;

use std::env;
use std::error::Error;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    let words: Vec<String> = env::args().skip(1).collect();
    let count = |word: Option<&String>| word.map_or(Ok(2000), |word| word.parse());
    match words.first().map(String::as_str) {
        Some("spin") => spin::run(),
        Some("hostile") => hostile::run(count(words.get(1))?),
        Some("costs") => costs::run(),
        Some("counts") => counts::run(&words[1..]),
        Some("attack") => attack::run(count(words.get(1))?),
        Some("moves") => moves::run(count(words.get(1))?),
        Some("registers") => registers::run(),
        _ => Err(
            "it takes spin, costs, counts COMMAND, hostile [COUNT], attack [COUNT], moves [COUNT] or registers"
                .into(),
        ),
    }
}
