//! Alerts (RFC 8446 §6).

use std::fmt;

/// An alert's description. Its level says nothing in TLS 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Alert(pub u8);

impl Alert {
    /// The orderly end of a direction.
    pub const CLOSE_NOTIFY: Self = Self(0);
    /// A message that must not come here.
    pub const UNEXPECTED_MESSAGE: Self = Self(10);
    /// A record that does not open.
    pub const BAD_RECORD_MAC: Self = Self(20);
    /// A record that is too long.
    pub const RECORD_OVERFLOW: Self = Self(22);
    /// A valid certificate whose bearer may not come.
    pub const ACCESS_DENIED: Self = Self(49);
    /// A message that cannot be read.
    pub const DECODE_ERROR: Self = Self(50);
    /// A field with a value that it must not have.
    pub const ILLEGAL_PARAMETER: Self = Self(47);
    /// Nothing the peer did.
    pub const INTERNAL_ERROR: Self = Self(80);
    /// The peer's user has given up; `close_notify` follows (§6.1).
    pub const USER_CANCELED: Self = Self(90);

    /// Its name in RFC 8446 §6.2, where it has one.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            109 => "missing_extension",
            110 => "unsupported_extension",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            120 => "no_application_protocol",
            _ => return None,
        })
    }

    /// The level that an alert of this description is sent with: `warning` for the two that close,
    /// `fatal` for all others.
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Self::CLOSE_NOTIFY | Self::USER_CANCELED => 1,
            _ => 2,
        }
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "alert {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_levels_are_those_of_the_rfc() {
        assert_eq!(Alert::ACCESS_DENIED.to_string(), "access_denied");
        assert_eq!(Alert(255).to_string(), "alert 255");
        assert_eq!(Alert::CLOSE_NOTIFY.level(), 1);
        assert_eq!(Alert::USER_CANCELED.level(), 1);
        assert_eq!(Alert::BAD_RECORD_MAC.level(), 2);
        let named = (0..=u8::MAX).filter(|code| Alert(*code).name().is_some());
        assert_eq!(
            named.count(),
            27,
            "as many as RFC 8446 §6 has, without the reserved ones"
        );
    }
}
