//! Venue bytes to events, one module a source, without binary floats (rules 1 and 2).
//!
//! A normaliser is fed chunks cut anywhere and keeps what is unfinished; it opens no file.

pub mod binance;
pub mod decimal;
mod digits;
pub mod hftbacktest;
pub mod inflate;
pub mod lines;
pub mod lobster;
