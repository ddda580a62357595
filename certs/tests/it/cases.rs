//! Certificates and what becomes of them: the checklist of SPIFFE ID.md and X509-SVID.md as a
//! table. Each line becomes a test for every program that makes certificates.

use sekisho_certs::Reason;
use sekisho_testkit::{BasicConstraints, ExtendedUse, KeyUse, Profile};

/// Who signs the leaf, or the intermediates above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// The CA in the bundle of a.example.
    A,
    /// The CA in the bundle of b.example.
    B,
    /// A CA in no bundle, with the name of that of a.example.
    Stranger,
}

/// What should become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The peer is verified under the ID of its only URI name.
    Accepted,
    /// The bundle of a.example is refused with a problem that contains this.
    BundleRefused(&'static str),
    /// The peer is refused for this reason, with a text that contains the second.
    Refused(Reason, &'static str),
}

/// A chain and the time it is looked at. The bundles of a.example and b.example are trusted.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The CA in the bundle of a.example.
    pub(crate) root: Profile,
    /// Who signs.
    pub(crate) signer: Root,
    /// From the root's side down.
    pub(crate) intermediates: Vec<Profile>,
    /// Whether the peer sends its intermediates.
    pub(crate) sends_intermediates: bool,
    /// The peer's certificate.
    pub(crate) leaf: Profile,
    /// Seconds from the present.
    pub(crate) at: i64,
    /// What should become of it.
    pub(crate) expected: Expected,
}

impl Case {
    fn leaf(leaf: Profile) -> Self {
        Self {
            root: Profile::ca("a.example"),
            signer: Root::A,
            intermediates: Vec::new(),
            sends_intermediates: true,
            leaf,
            at: 0,
            expected: Expected::Accepted,
        }
    }

    /// A faultless leaf of a.example.
    fn faultless() -> Self {
        Self::leaf(svid())
    }

    fn uri(uri: &str) -> Self {
        Self::leaf(Profile::leaf(uri))
    }

    fn below(mut self, intermediates: impl IntoIterator<Item = Profile>) -> Self {
        self.intermediates = intermediates.into_iter().collect();
        self
    }

    fn below_root(mut self, root: Profile) -> Self {
        self.root = root;
        self
    }

    fn signed_by(mut self, signer: Root) -> Self {
        self.signer = signer;
        self
    }

    fn without_sending_intermediates(mut self) -> Self {
        self.sends_intermediates = false;
        self
    }

    fn at(mut self, seconds: i64) -> Self {
        self.at = seconds;
        self
    }

    fn refused(mut self, reason: Reason, text: &'static str) -> Self {
        self.expected = Expected::Refused(reason, text);
        self
    }

    fn bundle_refused(mut self, text: &'static str) -> Self {
        self.expected = Expected::BundleRefused(text);
        self
    }
}

fn svid() -> Profile {
    Profile::leaf("spiffe://a.example/x")
}

fn middle() -> Profile {
    Profile::ca("a.example").with_common_name("middle")
}

const ABSENT: BasicConstraints = BasicConstraints::Absent;
const NOT_A_CA: BasicConstraints = BasicConstraints::EndEntity;
const CA: BasicConstraints = BasicConstraints::Ca { path_length: None };
const HOUR: i64 = 3600;

macro_rules! table {
    ($($(#[$section:meta])* $name:ident => $case:expr;)*) => {
        /// Certificates of the test kit.
        mod made_by_rcgen {
            use super::*;
            $(#[test] fn $name() { crate::conformance::check(&$case); })*
        }

        /// Certificates of the command line of OpenSSL.
        mod made_by_openssl {
            use super::*;
            $(#[test] fn $name() { crate::openssl::check(&$case); })*
        }
    };
}

table! {
    // SPIFFE-ID.md §2, §2.1: scheme and trust domain.
    accepts_another_trust_domain_by_its_own_bundle =>
        Case::uri("spiffe://b.example/x").signed_by(Root::B);
    reads_every_character_of_a_trust_domain =>
        Case::uri("spiffe://0a_b-c.9/x").refused(Reason::UnknownTrustDomain, "0a_b-c.9");
    reads_a_trust_domain_that_looks_like_an_address =>
        Case::uri("spiffe://127.0.0.1/x").refused(Reason::UnknownTrustDomain, "127.0.0.1");
    reads_a_trust_domain_of_255_bytes =>
        Case::uri(&format!("spiffe://{}/x", "a".repeat(255)))
            .refused(Reason::UnknownTrustDomain, "no bundle");
    refuses_a_trust_domain_of_256_bytes =>
        Case::uri(&format!("spiffe://{}/x", "a".repeat(256))).refused(Reason::BadSpiffeId, "");
    refuses_another_character_in_the_trust_domain =>
        Case::uri("spiffe://a+b.example/x").refused(Reason::BadSpiffeId, "a+b");
    refuses_another_scheme =>
        Case::uri("https://a.example/x").refused(Reason::BadSpiffeId, "https");
    refuses_an_empty_trust_domain =>
        Case::uri("spiffe:///x").refused(Reason::BadSpiffeId, "spiffe:///x");
    refuses_a_query =>
        Case::uri("spiffe://a.example/x?y").refused(Reason::BadSpiffeId, "x?y");
    refuses_a_fragment =>
        Case::uri("spiffe://a.example/x#y").refused(Reason::BadSpiffeId, "x#y");
    refuses_user_information =>
        Case::uri("spiffe://me@a.example/x").refused(Reason::BadSpiffeId, "me@");
    refuses_a_port =>
        Case::uri("spiffe://a.example:8443/x").refused(Reason::BadSpiffeId, "8443");
    refuses_percent_encoding =>
        Case::uri("spiffe://a.example/%78").refused(Reason::BadSpiffeId, "%78");
    refuses_percent_encoding_in_the_trust_domain =>
        Case::uri("spiffe://a%2eexample/x").refused(Reason::BadSpiffeId, "%2e");
    refuses_an_upper_case_trust_domain =>
        Case::uri("spiffe://A.example/x").refused(Reason::BadSpiffeId, "lower case");
    refuses_an_upper_case_scheme =>
        Case::uri("SPIFFE://a.example/x").refused(Reason::BadSpiffeId, "lower case");

    // SPIFFE-ID.md §2.2, §2.3: path and length.
    accepts_every_character_of_a_path =>
        Case::uri("spiffe://a.example/Az09/.-_/...");
    refuses_a_trailing_slash =>
        Case::uri("spiffe://a.example/x/").refused(Reason::BadSpiffeId, "x/");
    refuses_an_empty_segment =>
        Case::uri("spiffe://a.example//x").refused(Reason::BadSpiffeId, "//x");
    refuses_a_dot_segment =>
        Case::uri("spiffe://a.example/./x").refused(Reason::BadSpiffeId, "/./x");
    refuses_a_double_dot_segment =>
        Case::uri("spiffe://a.example/y/../x").refused(Reason::BadSpiffeId, "/../x");
    refuses_another_character_in_the_path =>
        Case::uri("spiffe://a.example/x+y").refused(Reason::BadSpiffeId, "x+y");
    accepts_an_id_of_2048_bytes =>
        Case::uri(&format!("spiffe://a.example/{}", "x".repeat(2048 - 19)));
    refuses_an_id_of_2049_bytes =>
        Case::uri(&format!("spiffe://a.example/{}", "x".repeat(2049 - 19)))
            .refused(Reason::BadSpiffeId, "2049 bytes");

    // X509-SVID.md §2, §5.2: exactly one URI name.
    accepts_a_leaf_with_dns_names_beside_its_uri_name =>
        Case::leaf(svid().with_dns_names(["x.a.example", "a.example"]));
    refuses_a_leaf_with_a_dns_name_only =>
        Case::leaf(svid().with_uris([]).with_dns_names(["x.a.example"]))
            .refused(Reason::NoSpiffeId, "no URI name");
    refuses_a_leaf_without_names =>
        Case::leaf(svid().with_uris([])).refused(Reason::NoSpiffeId, "no URI name");
    refuses_a_leaf_with_two_uri_names =>
        Case::leaf(svid().with_uris(["spiffe://a.example/x", "spiffe://a.example/y"]))
            .refused(Reason::SeveralUris, "2 URI names");
    refuses_a_leaf_with_the_same_uri_name_twice =>
        Case::leaf(svid().with_uris(["spiffe://a.example/x", "spiffe://a.example/x"]))
            .refused(Reason::SeveralUris, "2 URI names");
    refuses_a_leaf_with_a_uri_name_beside_its_spiffe_id =>
        Case::leaf(svid().with_uris(["spiffe://a.example/x", "https://a.example/"]))
            .refused(Reason::SeveralUris, "2 URI names");

    // X509-SVID.md §3: a workload has a path.
    refuses_a_leaf_with_the_bare_trust_domain =>
        Case::uri("spiffe://a.example").refused(Reason::BadSpiffeId, "no path");
    refuses_a_leaf_with_the_root_path_only =>
        Case::uri("spiffe://a.example/").refused(Reason::BadSpiffeId, "spiffe://a.example/");

    // X509-SVID.md §4.1: basic constraints.
    accepts_a_leaf_without_basic_constraints =>
        Case::leaf(svid().with_basic_constraints(ABSENT));
    refuses_a_leaf_that_is_a_ca =>
        Case::leaf(svid().with_basic_constraints(CA)).refused(Reason::KeyUsage, "it is a CA");

    // X509-SVID.md §4.3: key usage.
    accepts_key_encipherment_beside_digital_signature =>
        Case::leaf(svid().with_key_usage([KeyUse::DigitalSignature, KeyUse::KeyEncipherment]));
    refuses_a_leaf_without_key_usage =>
        Case::leaf(svid().without_key_usage()).refused(Reason::KeyUsage, "no key usage");
    refuses_a_leaf_whose_key_usage_is_not_critical =>
        Case::leaf(svid().with_non_critical_key_usage()).refused(Reason::KeyUsage, "not critical");
    refuses_a_leaf_without_digital_signature =>
        Case::leaf(svid().with_key_usage([KeyUse::KeyEncipherment]))
            .refused(Reason::KeyUsage, "digitalSignature");
    refuses_a_leaf_with_key_cert_sign =>
        Case::leaf(svid().with_key_usage([KeyUse::DigitalSignature, KeyUse::KeyCertSign]))
            .refused(Reason::KeyUsage, "keyCertSign");
    refuses_a_leaf_with_crl_sign =>
        Case::leaf(svid().with_key_usage([KeyUse::DigitalSignature, KeyUse::CrlSign]))
            .refused(Reason::KeyUsage, "cRLSign");

    // X509-SVID.md §4.4: extended key usage.
    accepts_a_leaf_without_extended_key_usage =>
        Case::leaf(svid().with_extended_key_usage([]));
    refuses_a_leaf_for_servers_only =>
        Case::leaf(svid().with_extended_key_usage([ExtendedUse::ServerAuth]))
            .refused(Reason::KeyUsage, "clientAuth");
    refuses_a_leaf_for_clients_only =>
        Case::leaf(svid().with_extended_key_usage([ExtendedUse::ClientAuth]))
            .refused(Reason::KeyUsage, "serverAuth");

    // X509-SVID.md §5.1, Federation.md §7.3: a path to the bundle of its own trust domain.
    accepts_a_leaf_of_the_root =>
        Case::faultless();
    accepts_a_leaf_of_an_intermediate =>
        Case::faultless().below([middle()]);
    accepts_a_leaf_below_three_intermediates =>
        Case::faultless().below(["1", "2", "3"].map(|name| middle().with_common_name(name)));
    refuses_a_leaf_whose_intermediate_is_not_sent =>
        Case::faultless().below([middle()]).without_sending_intermediates()
            .refused(Reason::BadChain, "UnknownIssuer");
    refuses_a_leaf_of_a_stranger_that_bears_the_name_of_the_ca =>
        Case::faultless().signed_by(Root::Stranger).refused(Reason::BadChain, "bundle of a.example");
    refuses_a_trust_domain_without_a_bundle =>
        Case::uri("spiffe://c.example/x").refused(Reason::UnknownTrustDomain, "c.example");
    a_ca_of_site_b_that_signs_an_svid_with_site_as_id_is_refused =>
        Case::faultless().signed_by(Root::B).refused(Reason::BadChain, "bundle of a.example");
    an_intermediate_of_site_b_in_the_name_of_site_a_is_refused =>
        Case::faultless().signed_by(Root::B).below([middle()])
            .refused(Reason::BadChain, "bundle of a.example");
    refuses_an_intermediate_with_the_name_of_another_trust_domain =>
        Case::faultless().below([middle().with_uris(["spiffe://b.example"])])
            .refused(Reason::BadChain, "another trust domain");
    refuses_an_intermediate_with_a_name_that_is_no_spiffe_id =>
        Case::faultless().below([middle().with_uris(["https://a.example"])])
            .refused(Reason::BadChain, "another trust domain");
    refuses_an_intermediate_with_two_names =>
        Case::faultless().below([middle().with_uris(["spiffe://a.example", "spiffe://a.example/ca"])])
            .refused(Reason::BadChain, "more than one URI name");
    accepts_an_intermediate_without_a_name =>
        Case::faultless().below([middle().with_uris([])]);
    accepts_an_intermediate_with_a_path_of_the_same_trust_domain =>
        Case::faultless().below([middle().with_uris(["spiffe://a.example/ca"])]);
    refuses_an_intermediate_without_key_cert_sign =>
        Case::faultless().below([middle().with_key_usage([KeyUse::CrlSign])])
            .refused(Reason::BadChain, "keyCertSign");
    refuses_an_intermediate_without_key_usage =>
        Case::faultless().below([middle().without_key_usage()])
            .refused(Reason::BadChain, "keyCertSign");
    refuses_an_intermediate_that_is_not_a_ca =>
        Case::faultless().below([middle().with_basic_constraints(NOT_A_CA)])
            .refused(Reason::BadChain, "");
    refuses_an_intermediate_without_basic_constraints =>
        Case::faultless().below([middle().with_basic_constraints(ABSENT)])
            .refused(Reason::BadChain, "");
    refuses_an_svid_that_signs_another =>
        Case::faultless().below([svid().with_common_name("other")])
            .refused(Reason::BadChain, "");
    accepts_a_path_as_long_as_its_root_allows =>
        Case::faultless().below_root(Profile::ca("a.example").with_path_length(1))
            .below([middle()]);
    refuses_a_path_longer_than_its_intermediate_allows =>
        Case::faultless()
            .below([middle().with_common_name("upper").with_path_length(0), middle()])
            .refused(Reason::BadChain, "");
    refuses_a_path_longer_than_its_root_allows =>
        Case::faultless().below_root(Profile::ca("a.example").with_path_length(0))
            .below([middle()])
            .refused(Reason::BadChain, "longer than the CA in the bundle allows");

    // RFC 5280 §4.2: what is critical and unknown is not passed over.
    refuses_an_unknown_critical_extension_of_the_leaf =>
        Case::leaf(svid().with_unknown_critical_extension()).refused(Reason::BadChain, "");
    refuses_an_unknown_critical_extension_of_an_intermediate =>
        Case::faultless().below([middle().with_unknown_critical_extension()])
            .refused(Reason::BadChain, "");
    refuses_an_unknown_critical_extension_of_the_root =>
        Case::faultless()
            .below_root(Profile::ca("a.example").with_unknown_critical_extension())
            .bundle_refused("critical extension");
    refuses_a_name_outside_an_intermediates_constraint =>
        Case::faultless().below([middle().with_permitted_uri_host("b.example")])
            .refused(Reason::BadChain, "");

    // rustls-webpki does not know constraints of URI names, and refuses rather than guess.
    refuses_a_name_within_an_intermediates_constraint =>
        Case::faultless().below([middle().with_permitted_uri_host("a.example")])
            .refused(Reason::BadChain, "NameConstraintViolation");

    // RFC 5280 §4.1.2.5: validity.
    accepts_a_leaf_in_its_last_second =>
        Case::faultless().at(HOUR);
    refuses_an_expired_leaf =>
        Case::faultless().at(HOUR + 1).refused(Reason::Expired, "expired");
    accepts_a_leaf_in_its_first_second =>
        Case::faultless().at(-10);
    refuses_a_leaf_that_is_not_valid_yet =>
        Case::leaf(svid().valid_between(60, HOUR)).refused(Reason::NotYetValid, "not valid yet");
    refuses_a_leaf_of_an_expired_intermediate =>
        Case::faultless().below([middle().valid_between(-HOUR, -1)])
            .refused(Reason::Expired, "expired");
    refuses_a_leaf_of_an_intermediate_that_is_not_valid_yet =>
        Case::faultless().below([middle().valid_between(60, HOUR)])
            .refused(Reason::NotYetValid, "not valid yet");
    refuses_a_leaf_of_an_expired_root =>
        Case::faultless().below_root(Profile::ca("a.example").valid_between(-HOUR, -1))
            .refused(Reason::BadChain, "not valid at this time");
    refuses_a_leaf_of_a_root_that_is_not_valid_yet =>
        Case::faultless().below_root(Profile::ca("a.example").valid_between(60, HOUR))
            .refused(Reason::BadChain, "not valid at this time");

    // X509-SVID.md §3.2, §4: what may stand in a bundle.
    accepts_a_root_without_a_name =>
        Case::faultless().below_root(Profile::ca("a.example").with_uris([]));
    refuses_a_root_with_the_name_of_another_trust_domain =>
        Case::faultless().below_root(Profile::ca("a.example").with_uris(["spiffe://b.example"]))
            .bundle_refused("another trust domain");
    refuses_a_root_with_two_names =>
        Case::faultless()
            .below_root(Profile::ca("a.example").with_uris(["spiffe://a.example", "urn:x"]))
            .bundle_refused("more than one URI");
    refuses_a_root_with_a_name_that_is_no_spiffe_id =>
        Case::faultless().below_root(Profile::ca("a.example").with_uris(["https://a.example"]))
            .bundle_refused("no SPIFFE ID");
    refuses_a_root_without_key_cert_sign =>
        Case::faultless().below_root(Profile::ca("a.example").with_key_usage([KeyUse::CrlSign]))
            .bundle_refused("keyCertSign");
    refuses_a_root_without_key_usage =>
        Case::faultless().below_root(Profile::ca("a.example").without_key_usage())
            .bundle_refused("keyCertSign");
    refuses_a_root_that_is_not_a_ca =>
        Case::faultless().below_root(Profile::ca("a.example").with_basic_constraints(NOT_A_CA))
            .bundle_refused("not a CA");
}
