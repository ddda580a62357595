//! The crate as its users see it: directories in, decisions out.

mod budget;
mod commands;
mod decisions;
mod input;
mod load;
#[cfg(test)]
mod support;
