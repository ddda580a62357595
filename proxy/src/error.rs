//! What can go wrong at each stage; every variant has its stable [`Reason`].

use std::{io, time::Duration};

use sekisho_certs::{NotReady, Reason, SpiffeId, VerifyError};

/// A side's handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The other side sent a fatal alert.
    #[error("the other side refused with the TLS alert {0}")]
    Alert(String),
    /// The peer closed, or the socket failed.
    #[error("the connection was lost in the handshake: {0}")]
    Io(#[source] io::Error),
    /// There is no SVID to present.
    #[error(transparent)]
    NoIdentity(#[from] NotReady),
    /// The peer showed no certificate.
    #[error("the peer sent no certificate")]
    NoCertificate,
    /// The first bytes are no TLS.
    #[error("what arrived is not TLS")]
    NotTls,
    /// Too slow.
    #[error("the handshake was not complete after {0:?}")]
    Timeout(Duration),
    /// TLS failed otherwise.
    #[error("TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// A handshake message in more bytes of records than any needs.
    #[error("a handshake message that lies in more than {0} bytes of records")]
    TooLong(usize),
    /// No endpoint has this name.
    #[error("no endpoint at this address answers to {0}")]
    UnknownName(String),
    /// The peer's certificate was refused.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// No common version.
    #[error(
        "the peer offers no TLS version this endpoint speaks ({0}); `tls: {{min: \"1.2\"}}` on the \
         endpoint lets TLS 1.2 in (or have the peer offer 1.3: in Envoy, \
         `tls_params: {{tls_maximum_protocol_version: TLSv1_3}}`)"
    )]
    Version(String),
}

impl HandshakeError {
    /// The stable word for it.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Alert(_) => Reason::RefusedByPeer,
            Self::Io(_) | Self::Tls(_) | Self::TooLong(_) => Reason::TlsFailed,
            Self::NoCertificate => Reason::NoCertificate,
            Self::NoIdentity(_) => Reason::NoIdentity,
            Self::NotTls => Reason::NotTls,
            Self::Timeout(_) => Reason::HandshakeTimeout,
            Self::UnknownName(_) => Reason::UnknownName,
            Self::Verify(error) => error.reason(),
            Self::Version(_) => Reason::TlsVersion,
        }
    }

    /// The ID that the refused peer claimed, where it showed one.
    #[must_use]
    pub const fn claimed_id(&self) -> Option<&SpiffeId> {
        match self {
            Self::Verify(error) => error.claimed_id(),
            _ => None,
        }
    }

    /// Sorts what rustls and the socket say.
    pub(crate) fn from_io(error: io::Error) -> Self {
        match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            Some(inner) => Self::from_tls(inner.clone()),
            None => Self::Io(error),
        }
    }

    pub(crate) fn from_tls(error: rustls::Error) -> Self {
        use rustls::{AlertDescription, Error, PeerIncompatible as Why};
        if let Some(error) = sekisho_certs::tls::verify_error(&error) {
            return Self::Verify(error.clone());
        }
        match error {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::AlertReceived(AlertDescription::ProtocolVersion) => {
                Self::Version("it refused our versions".into())
            }
            Error::AlertReceived(alert) => Self::Alert(alert_name(alert)),
            Error::PeerIncompatible(
                why @ (Why::ServerDoesNotSupportTls12Or13
                | Why::ServerTlsVersionIsDisabledByOurConfig
                | Why::SupportedVersionsExtensionRequired
                | Why::Tls12NotOffered
                | Why::Tls12NotOfferedOrEnabled
                | Why::Tls13RequiredForQuic),
            ) => Self::Version(format!("{why:?}")),
            other => Self::Tls(other),
        }
    }
}

/// The alert's name as RFC 8446 §6 spells it.
pub(crate) fn alert_name(alert: rustls::AlertDescription) -> String {
    let name = format!("{alert:?}");
    let mut text = String::with_capacity(name.len() + 4);
    for (index, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text.replace("c_a", "ca")
}

/// The process at a plain side is not known, or not allowed.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The kernel does not tell whose socket it is.
    #[error("the kernel does not tell whose connection this is: {0}")]
    Unknown(#[source] io::Error),
    /// The source address is not allowed.
    #[error("connections from {0} are not allowed (`from`)")]
    Source(std::net::IpAddr),
}

impl LocalError {
    /// The stable word for it.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Unknown(_) => Reason::LocalUser,
            Self::Source(_) => Reason::NotAccepted,
        }
    }
}

/// The PROXY header was missing or malformed.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The socket failed or closed.
    #[error("no PROXY header came: {0}")]
    Io(#[from] io::Error),
    /// Not a header by the specification.
    #[error("not a PROXY protocol header (v1 or v2)")]
    Malformed,
    /// Larger than allowed.
    #[error("a PROXY header of more than {0} bytes")]
    TooLong(usize),
}

/// No target answered.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Connecting failed everywhere.
    #[error("no target could be reached: {0}")]
    Connect(String),
    /// The name gives no address.
    #[error("{name} does not resolve: {error}")]
    Dns {
        /// The name.
        name: String,
        /// What the resolver says.
        error: io::Error,
    },
    /// The target answered, TLS failed.
    #[error("{address}: {error}")]
    Handshake {
        /// Which target.
        address: String,
        /// Why.
        error: HandshakeError,
    },
    /// The address that a catalogue or its name gives is not one that this site may be sent to.
    #[error(
        "{service}: its catalogue names {address}, which is no public address and not in \
         `federation.allow`"
    )]
    NotAllowed {
        /// The service.
        service: String,
        /// The address.
        address: std::net::IpAddr,
    },
    /// No catalogue lists the service, or its site is not known.
    #[error("{0}: not in its site's catalogue, or the site is not known yet; it is asked for")]
    NotListed(String),
    /// Nothing in time.
    #[error("no target answered within {0:?}")]
    Timeout(Duration),
}

impl UpstreamError {
    /// The stable word for it.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Connect(_)
            | Self::Dns { .. }
            | Self::NotAllowed { .. }
            | Self::NotListed(_)
            | Self::Timeout(_) => Reason::UpstreamUnreachable,
            Self::Handshake { error, .. } => error.reason(),
        }
    }
}
