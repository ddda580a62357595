//! The service catalogue: what a member says others may reach at it.

use std::{collections::BTreeSet, fmt, net::SocketAddr, str::FromStr};

use super::{
    MemberError,
    mark::{Mark, shown},
};
use crate::id::SpiffeId;

/// Most gateways of one service.
pub const MAX_GATEWAYS: usize = 16;
/// Most marks of one member, or of one service.
pub const MAX_MARKS: usize = 64;

/// What a gateway looks like, for messages.
const GATEWAY: &str = "HOST:PORT: an IP address ([…] around IPv6) or a lower-case DNS name, and a port from 1 to 65535";
/// What the name of a service looks like, for messages.
const NAME: &str = "a DNS label: 1 to 63 of a-z, 0-9 and `-`, no `-` at either end";

/// Where a service is reached. The address comes from afar: whoever connects asks first whether
/// the operator allows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gateway {
    /// An address.
    Ip(SocketAddr),
    /// A DNS name, in lower case, and a port.
    Name(String, u16),
}

impl FromStr for Gateway {
    type Err = MemberError;

    fn from_str(text: &str) -> Result<Self, MemberError> {
        let refused = || MemberError::Gateway {
            text: shown(text),
            expected: GATEWAY,
        };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return (address.port() != 0)
                .then_some(Self::Ip(address))
                .ok_or_else(refused);
        }
        let (name, digits) = text.rsplit_once(':').ok_or_else(refused)?;
        let port = digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse().ok())
            .flatten()
            .filter(|port| *port != 0)
            .ok_or_else(refused)?;
        // A name that ends in a number is a misspelt address.
        let number = name
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if name.len() > 253 || number || !name.split('.').all(is_label) {
            return Err(refused());
        }
        Ok(Self::Name(name.into(), port))
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// One service of a member, as its signed descriptor lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    name: String,
    gateways: Vec<Gateway>,
    id: SpiffeId,
    marks: BTreeSet<Mark>,
}

impl Service {
    /// A service `name`, reached at any of `gateways`, answering as `id`. `marks` says whom it is
    /// meant for; empty: everybody. Whether `id` is the member's own is asked by
    /// [`super::Member::with_services`].
    ///
    /// # Errors
    /// When `name` is not a DNS label, `id` has no path, there is no gateway or more than
    /// [`MAX_GATEWAYS`], or there are more than [`MAX_MARKS`] marks.
    pub fn new(
        name: &str,
        gateways: Vec<Gateway>,
        id: SpiffeId,
        marks: BTreeSet<Mark>,
    ) -> Result<Self, MemberError> {
        if !is_service_name(name) {
            return Err(MemberError::ServiceName {
                text: shown(name),
                expected: NAME,
            });
        }
        let refused = |problem| {
            Err(MemberError::Service {
                name: name.into(),
                problem,
            })
        };
        if gateways.is_empty() {
            return refused("it has no gateway");
        }
        if gateways.len() > MAX_GATEWAYS {
            return refused("it has more than 16 gateways");
        }
        if marks.len() > MAX_MARKS {
            return refused("it has more than 64 marks");
        }
        if id.path().is_empty() {
            return refused("its SPIFFE ID has no path");
        }
        Ok(Self {
            name: name.into(),
            gateways,
            id,
            marks,
        })
    }

    /// Its name, a DNS label.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is reached, in the member's order; never empty.
    #[must_use]
    pub fn gateways(&self) -> &[Gateway] {
        &self.gateways
    }

    /// Who answers there.
    #[must_use]
    pub const fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Whom it is meant for, by the member's own word; empty: everybody.
    #[must_use]
    pub const fn marks(&self) -> &BTreeSet<Mark> {
        &self.marks
    }

    /// What a connection to it asks for in SNI: `NAME.TRUST-DOMAIN`.
    #[must_use]
    pub fn server_name(&self) -> String {
        format!("{}.{}", self.name, self.id.trust_domain_name())
    }
}

/// Whether `text` can be the name of a service: a DNS label in lower case (RFC 1123 §2.1).
#[must_use]
pub fn is_service_name(text: &str) -> bool {
    is_label(text) && !text.contains('_')
}

/// As SPIFFE-ID §2.1 allows in trust domains and resolvers in names: `_` too.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}
