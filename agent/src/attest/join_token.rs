//! By a token that an administrator of the authority has made (SPIRE's `join_token`).

/// Its name in the protocol.
pub const TYPE: &str = "join_token";

/// The token itself: it is used up by this.
#[must_use]
pub fn payload(token: &str) -> Vec<u8> {
    token.trim().as_bytes().to_vec()
}
