//! What the market looks like now: events to levels.
//!
//! [`l2`] keeps price levels, [`l3`] keeps orders and the levels they add up to.

mod far;
mod grid;
pub mod guarded;
pub mod l2;
pub mod l3;
mod ladder;
pub mod view;

pub use guarded::GuardedBook;
pub use l2::Book;

/// One price level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Price in the instrument's units.
    pub price: i64,
    /// Size in the instrument's units, above 0.
    pub qty: i64,
}
