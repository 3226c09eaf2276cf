//! Order-book features, bit for bit the same in research, backtest and live.
//!
//! Modules stand in the order in which data moves:
//!
//! ```text
//! normalize   venue bytes                 -> Event
//! agreement   Event, by instrument        -> prices lie on the tick
//! quality     Event, by message           -> admitted | dropped with a reason
//! book        admitted events             -> levels
//! plan        canonical JSON from Python  -> a checked list of kernel calls
//! kernels     levels, trades, values      -> values
//! engine      all of it, one message      -> frame
//! frame       values, masks, flags        -> packed bytes
//! ```
//!
//! This crate opens no file and reads no clock. What each number means is written beside the
//! Python reference, `featureplane/features/kernels`; the twins here say why they are written so.
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests compare with libm and read clocks"))]

pub mod agreement;
pub mod ahead;
pub mod book;
pub mod columns;
pub mod engine;
pub mod error;
pub mod event;
pub mod frame;
pub mod kernels;
pub mod message;
pub mod normalize;
pub mod pipeline;
pub mod plan;
pub mod quality;
#[cfg(test)]
mod random;
mod stores;
pub mod units;
