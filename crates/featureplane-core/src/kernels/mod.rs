//! Per-event arithmetic. Each kernel is the twin of a Python reference of the same name.
//!
//! What a kernel computes is documented once, beside the reference in
//! `featureplane/features/kernels`; comments here say why the twin is written its way.

pub mod arithmetic;
pub mod cell;
pub mod number;
pub mod ring;
pub mod series;
pub mod state;
pub mod toxicity;
pub mod trades;

pub use cell::Cell;
pub use number::{Dtype, Number};
