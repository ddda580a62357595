//! Whoever started the agent and can vouch for it: asked only when the agent needs that.

use std::{fmt, pin::Pin};

use zeroize::Zeroizing;

/// What was asked for, or in words why it is not to be had now.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Lets an agent in at the authority beside it, as often as it needs to be let in.
pub trait Introducer: fmt::Debug + Send + Sync {
    /// A join token, made for this attempt.
    fn token(&self) -> Answer<'_, Zeroizing<String>>;

    /// The site's bundle, PEM or SPIFFE bundle JSON, by which the authority is known.
    fn bundle(&self) -> Answer<'_, Vec<u8>>;
}
