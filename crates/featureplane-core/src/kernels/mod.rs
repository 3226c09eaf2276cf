//! Per-event arithmetic. Each kernel is the twin of a Python reference of the same name.
//!
//! What a kernel computes is documented once, beside the reference in
//! `featureplane/features/kernels`; comments here say why the twin is written its way.

pub mod arithmetic;
pub mod averages;
mod bind;
pub mod book;
pub mod bound;
#[cfg(test)]
mod brute_force;
pub mod cell;
pub mod flow;
mod imbalance;
mod moments;
pub mod number;
mod price;
mod quanta;
pub mod returns;
pub mod ring;
pub mod rolling;
pub(crate) mod scans;
pub mod series;
pub mod state;
pub(crate) mod touch;
pub mod toxicity;
pub mod trades;
pub mod window;
pub(crate) mod work;

pub use cell::Cell;
pub use moments::SQUARE_LIMIT;
pub use number::{Dtype, Number};
pub use quanta::{Kind, QUANTA};
