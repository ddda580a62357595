//! Marks: words that a federation puts on its members, such as `hpci`.

use std::{borrow::Borrow, fmt, str::FromStr};

use super::MemberError;

/// Longest mark, in bytes.
const MAX_BYTES: usize = 63;

/// What a mark looks like, for messages.
const FORM: &str = "1 to 63 of a-z, 0-9, `.` and `-`, a letter or a digit first";

/// A word that stands for a group of sites: `[a-z0-9][a-z0-9.-]{0,62}`.
///
/// Who may put it on a member is the directory's affair; here it only selects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(String);

impl Mark {
    /// As it stands in files.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Mark {
    type Err = MemberError;

    fn from_str(text: &str) -> Result<Self, MemberError> {
        let starts = text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
        if starts && text.len() <= MAX_BYTES && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(MemberError::Mark {
                text: shown(text),
                expected: FORM,
            })
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Mark {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// So much of a text from afar as a message should carry.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.into(),
    }
}
