//! What a certificate says of itself, as plain data: so that the same table of certificates can be
//! made by more than one program.

/// The basic constraints of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasicConstraints {
    /// No extension at all.
    Absent,
    /// `CA:FALSE`.
    EndEntity,
    /// `CA:TRUE`.
    Ca {
        /// Most intermediates below it.
        path_length: Option<u8>,
    },
}

/// A bit of the key usage extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// `cRLSign`
    CrlSign,
    /// `digitalSignature`
    DigitalSignature,
    /// `keyCertSign`
    KeyCertSign,
    /// `keyEncipherment`
    KeyEncipherment,
}

/// An extended key usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtendedUse {
    /// `clientAuth`
    ClientAuth,
    /// `serverAuth`
    ServerAuth,
}

/// What to write into a certificate. [`Profile::leaf`] and [`Profile::ca`] are faultless
/// X.509-SVIDs and CAs; each method makes one thing different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The subject.
    pub common_name: String,
    /// URI names.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// Basic constraints.
    pub basic_constraints: BasicConstraints,
    /// Key usages; none: no extension.
    pub key_usage: Vec<KeyUse>,
    /// Whether the key usage extension is critical.
    pub key_usage_critical: bool,
    /// Extended key usages; none: no extension.
    pub extended_key_usage: Vec<ExtendedUse>,
    /// Start of validity, in seconds from the issuer's present.
    pub begins: i64,
    /// End of validity, in seconds from the issuer's present.
    pub ends: i64,
    /// Name constraints: the only host that URI names below may have.
    pub permitted_uri_host: Option<String>,
    /// Adds a critical extension that nobody knows.
    pub unknown_critical_extension: bool,
}

impl Profile {
    /// An X.509-SVID with this URI name: valid from 10 s ago, for an hour.
    #[must_use]
    pub fn leaf(uri: &str) -> Self {
        Self {
            common_name: "workload".into(),
            uris: vec![uri.into()],
            dns_names: Vec::new(),
            basic_constraints: BasicConstraints::EndEntity,
            key_usage: vec![KeyUse::DigitalSignature],
            key_usage_critical: true,
            extended_key_usage: vec![ExtendedUse::ServerAuth, ExtendedUse::ClientAuth],
            begins: -10,
            ends: 3600,
            permitted_uri_host: None,
            unknown_critical_extension: false,
        }
    }

    /// A CA of this trust domain, with the domain's URI name: valid from 10 s ago, for a day.
    #[must_use]
    pub fn ca(domain: &str) -> Self {
        Self {
            common_name: format!("CA of {domain}"),
            uris: vec![format!("spiffe://{domain}")],
            basic_constraints: BasicConstraints::Ca { path_length: None },
            key_usage: vec![KeyUse::KeyCertSign, KeyUse::CrlSign],
            extended_key_usage: Vec::new(),
            ends: 24 * 3600,
            ..Self::leaf("")
        }
    }

    /// With another subject: two CAs of one name confuse path building.
    #[must_use]
    pub fn with_common_name(mut self, name: &str) -> Self {
        self.common_name = name.into();
        self
    }

    /// With these URI names and no other.
    #[must_use]
    pub fn with_uris<'a>(mut self, uris: impl IntoIterator<Item = &'a str>) -> Self {
        self.uris = uris.into_iter().map(Into::into).collect();
        self
    }

    /// With these DNS names.
    #[must_use]
    pub fn with_dns_names<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.dns_names = names.into_iter().map(Into::into).collect();
        self
    }

    /// With these basic constraints.
    #[must_use]
    pub const fn with_basic_constraints(mut self, constraints: BasicConstraints) -> Self {
        self.basic_constraints = constraints;
        self
    }

    /// A CA with at most so many intermediates below it.
    #[must_use]
    pub const fn with_path_length(self, length: u8) -> Self {
        self.with_basic_constraints(BasicConstraints::Ca {
            path_length: Some(length),
        })
    }

    /// With these key usages.
    #[must_use]
    pub fn with_key_usage(mut self, usages: impl IntoIterator<Item = KeyUse>) -> Self {
        self.key_usage = usages.into_iter().collect();
        self
    }

    /// Without the key usage extension.
    #[must_use]
    pub fn without_key_usage(self) -> Self {
        self.with_key_usage([])
    }

    /// With a key usage extension that is not critical.
    #[must_use]
    pub const fn with_non_critical_key_usage(mut self) -> Self {
        self.key_usage_critical = false;
        self
    }

    /// With these extended key usages; none: without the extension.
    #[must_use]
    pub fn with_extended_key_usage(
        mut self,
        usages: impl IntoIterator<Item = ExtendedUse>,
    ) -> Self {
        self.extended_key_usage = usages.into_iter().collect();
        self
    }

    /// Valid between these times, in seconds from the issuer's present.
    #[must_use]
    pub const fn valid_between(mut self, begins: i64, ends: i64) -> Self {
        self.begins = begins;
        self.ends = ends;
        self
    }

    /// A CA below which URI names may have this host only.
    #[must_use]
    pub fn with_permitted_uri_host(mut self, host: &str) -> Self {
        self.permitted_uri_host = Some(host.into());
        self
    }

    /// With a critical extension that nobody knows.
    #[must_use]
    pub const fn with_unknown_critical_extension(mut self) -> Self {
        self.unknown_critical_extension = true;
        self
    }
}
