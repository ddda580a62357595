//! One gate: what the file says of it and what it holds now.

pub mod spec;
