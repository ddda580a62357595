//! Handshake messages that come after the handshake (RFC 8446 §4.6), put together from records.

use crate::{Limits, RecordError, Role};

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
/// A message's type and length (§4).
const HEADER: usize = 4;

/// What may come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// The peer sends under its next key from now on.
    KeyUpdate {
        /// And wants us to do so too.
        requested: bool,
    },
    /// A ticket, without its header.
    Ticket(&'a [u8]),
}

/// Puts messages together that are split over records.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    held: Vec<u8>,
}

impl Assembler {
    /// Whether part of a message has come: only its rest may follow (§5.1).
    pub(crate) const fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes the content of a handshake record, and gives each message that is whole now.
    pub(crate) fn take(
        &mut self,
        fragment: &[u8],
        role: Role,
        limits: &Limits,
        mut each: impl FnMut(Message<'_>) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        if self.held.is_empty() {
            let rest = split(fragment, role, limits, &mut each)?;
            self.held.extend_from_slice(rest);
        } else {
            let mut all = std::mem::take(&mut self.held);
            all.extend_from_slice(fragment);
            let left = split(&all, role, limits, &mut each)?.len();
            if left > 0 {
                all.drain(..all.len() - left);
                self.held = all;
            }
        }
        Ok(())
    }
}

/// Gives the messages that `bytes` begins with, and returns what is left of the next one.
fn split<'a>(
    mut bytes: &'a [u8],
    role: Role,
    limits: &Limits,
    each: &mut impl FnMut(Message<'_>) -> Result<(), RecordError>,
) -> Result<&'a [u8], RecordError> {
    while let Some(kind) = bytes.first() {
        // Said as soon as it is known: nothing is collected of what must not come.
        let most = match (*kind, role) {
            (KEY_UPDATE, _) => 1,
            (NEW_SESSION_TICKET, Role::Client) => limits.message,
            _ => return Err(RecordError::UnexpectedMessage(NOT_NOW)),
        };
        let Some((&[_, a, b, c], body)) = bytes.split_first_chunk::<HEADER>() else {
            break;
        };
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if length > most || (*kind == KEY_UPDATE && length != 1) {
            return Err(RecordError::Decode(
                "a handshake message of a length it cannot have",
            ));
        }
        let Some((body, rest)) = body.split_at_checked(length) else {
            break;
        };
        if *kind == KEY_UPDATE {
            let requested = match body {
                [0] => false,
                [1] => true,
                _ => {
                    return Err(RecordError::IllegalParameter(
                        "KeyUpdate with another value than 0 or 1",
                    ));
                }
            };
            // §5.1: the key changes after it, so nothing of the old one may follow.
            if !rest.is_empty() {
                return Err(RecordError::UnexpectedMessage(
                    "KeyUpdate that does not end its record",
                ));
            }
            each(Message::KeyUpdate { requested })?;
        } else {
            each(Message::Ticket(body))?;
        }
        bytes = rest;
    }
    Ok(bytes)
}

const NOT_NOW: &str = "a handshake message that must not come after the handshake";

#[cfg(test)]
mod tests {
    use super::*;

    fn take(
        assembler: &mut Assembler,
        fragment: &[u8],
        role: Role,
    ) -> Result<Vec<String>, RecordError> {
        let mut seen = Vec::new();
        let limits = Limits::default();
        assembler.take(fragment, role, &limits, |message| {
            seen.push(format!("{message:?}"));
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn messages_may_share_records_and_be_split_over_them() {
        let mut assembler = Assembler::default();
        let bytes = [4, 0, 0, 2, 7, 8, 4, 0, 0, 0, 24, 0, 0, 1, 1];
        let whole = take(&mut assembler, &bytes, Role::Client).unwrap();
        let expected = [
            "Ticket([7, 8])",
            "Ticket([])",
            "KeyUpdate { requested: true }",
        ];
        assert_eq!(whole, expected);
        let mut seen = Vec::new();
        for byte in bytes {
            seen.extend(take(&mut assembler, &[byte], Role::Client).unwrap());
        }
        assert_eq!(seen, expected);
        assert!(!assembler.is_waiting());
        assert_eq!(
            assembler.held.capacity(),
            0,
            "a connection keeps no room for messages that have gone"
        );
    }

    #[test]
    fn what_must_not_come_is_refused_at_its_first_byte() {
        let unexpected = Err(RecordError::UnexpectedMessage(NOT_NOW));
        for kind in (0..=u8::MAX).filter(|kind| ![4, 24].contains(kind)) {
            for role in [Role::Client, Role::Server] {
                assert_eq!(take(&mut Assembler::default(), &[kind], role), unexpected);
            }
        }
        assert_eq!(
            take(&mut Assembler::default(), &[4], Role::Server),
            unexpected
        );
    }

    #[test]
    fn lengths_and_values_are_held_to_the_rfc() {
        let of = |bytes: &[u8]| take(&mut Assembler::default(), bytes, Role::Client).unwrap_err();
        assert!(matches!(of(&[24, 0, 0, 2]), RecordError::Decode(_)));
        assert!(matches!(of(&[24, 0, 0, 0]), RecordError::Decode(_)));
        assert!(matches!(
            of(&[24, 0, 0, 1, 2]),
            RecordError::IllegalParameter(_)
        ));
        assert!(matches!(of(&[4, 0xff, 0, 0]), RecordError::Decode(_)));
        let followed = of(&[24, 0, 0, 1, 0, 4]);
        assert!(matches!(followed, RecordError::UnexpectedMessage(_)));
        // The longest that may come is collected, one byte more is not.
        let most = Limits::default().message.to_be_bytes();
        let [.., a, b, c] = most;
        assert_eq!(
            take(&mut Assembler::default(), &[4, a, b, c], Role::Client),
            Ok(vec![])
        );
        assert!(matches!(of(&[4, a, b, c + 1]), RecordError::Decode(_)));
    }
}
