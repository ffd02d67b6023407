//! `exit`.

use super::{Asked, Next, Out, State};

/// Says nothing.
pub fn step<V, M>(_: &Asked<V, M>, _: &mut State, _: &mut Out) -> Next {
    Next::End
}
