//! The crate as its users see it: directories in, decisions out.
#![cfg(test)]

mod budget;
mod commands;
mod decisions;
mod input;
mod load;
mod support;
