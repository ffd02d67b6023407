//! The table's rows as constants that know how many arguments and results each
//! service has. One that no typed function of this crate uses does not compile:
//! a service without a function is noticed when its row is written.
#![deny(dead_code)]

use abi::call::{SERVICES, Service};

/// A service with `A` arguments and `R` results.
#[derive(Clone, Copy)]
pub struct Row<const A: usize, const R: usize>(pub &'static Service);

macro_rules! rows {
    ($($number:literal $constant:ident $name:literal $who:ident $sentence:literal
        ($($argument:ident: $takes:ident $means:literal),*) ->
        ($($result:ident: $gives:ident $says:literal),*);)*) => {
        $(
            pub const $constant: Row<
                { count(&[$(stringify!($argument)),*]) },
                { count(&[$(stringify!($result)),*]) },
            > = Row(&SERVICES[$number]);
        )*
    };
}
abi::with_services!(rows);

const fn count(values: &[&str]) -> usize {
    values.len()
}
