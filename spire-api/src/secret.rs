//! What is printed of messages with keys and tokens in them: everything else. And what is left of keys and
//! tokens in memory: nothing, as far as the messages go.

use std::fmt::{Debug, Formatter, Result};

use zeroize::Zeroize as _;

use crate::{
    agent::delegated_identity::X509svidWithKey,
    envoy::core::{DataSource, data_source},
    server::agent::CreateJoinTokenRequest,
    types, workload,
};

/// Fields to print, and a word in place of the others.
macro_rules! hide {
    ($message:path, $name:literal, [$($field:ident),*], $hidden:ident) => {
        impl Debug for $message {
            fn fmt(&self, f: &mut Formatter<'_>) -> Result {
                f.debug_struct($name)
                    $(.field(stringify!($field), &self.$field))*
                    .field(stringify!($hidden), &format_args!("hidden"))
                    .finish_non_exhaustive()
            }
        }
    };
}

/// Wipes a field when the message is dropped.
macro_rules! wipe {
    ($message:path, $field:ident) => {
        impl Drop for $message {
            fn drop(&mut self) {
                self.$field.zeroize();
            }
        }
    };
}

wipe!(types::AttestationData, payload);
wipe!(workload::X509svid, x509_svid_key);
wipe!(workload::Jwtsvid, svid);
wipe!(X509svidWithKey, x509_svid_key);

hide!(
    workload::X509svid,
    "X509Svid",
    [spiffe_id, hint],
    x509_svid_key
);
hide!(workload::Jwtsvid, "JwtSvid", [spiffe_id, hint], svid);
hide!(
    workload::ValidateJwtsvidRequest,
    "ValidateJwtSvidRequest",
    [audience],
    svid
);
hide!(
    X509svidWithKey,
    "X509SvidWithKey",
    [x509_svid],
    x509_svid_key
);
hide!(
    CreateJoinTokenRequest,
    "CreateJoinTokenRequest",
    [ttl, agent_id],
    token
);
hide!(types::AttestationData, "AttestationData", [r#type], payload);
hide!(
    types::Jwtsvid,
    "JwtSvid",
    [id, expires_at, issued_at, hint],
    token
);
hide!(types::JoinToken, "JoinToken", [expires_at], value);

impl Debug for DataSource {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.specifier.fmt(f)
    }
}

impl Debug for data_source::Specifier {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Filename(name) => write!(f, "Filename({name:?})"),
            // A certificate or a key: nothing here tells which.
            Self::InlineBytes(_) => f.write_str("InlineBytes(hidden)"),
            Self::InlineString(_) => f.write_str("InlineString(hidden)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_and_no_token_is_printed() {
        let secret = "s3cr3t";
        let mut svid = workload::X509svid::default();
        svid.spiffe_id = "spiffe://a.example/w".into();
        svid.x509_svid_key = secret.into();
        let mut token = workload::Jwtsvid::default();
        token.svid = secret.into();
        let mut with_key = X509svidWithKey::default();
        with_key.x509_svid_key = secret.into();
        let shown = [
            format!(
                "{:?}",
                workload::X509svidResponse {
                    svids: vec![svid],
                    ..Default::default()
                }
            ),
            format!("{:?}", workload::JwtsvidResponse { svids: vec![token] }),
            format!("{with_key:?}"),
            format!(
                "{:?}",
                types::JoinToken {
                    value: secret.into(),
                    ..Default::default()
                }
            ),
            format!(
                "{:?}",
                types::Jwtsvid {
                    token: secret.into(),
                    ..Default::default()
                }
            ),
            format!(
                "{:?}",
                types::AttestationData {
                    r#type: "join_token".into(),
                    payload: secret.into()
                }
            ),
            format!(
                "{:?}",
                CreateJoinTokenRequest {
                    token: secret.into(),
                    ..Default::default()
                }
            ),
            format!(
                "{:?}",
                crate::envoy::tls::TlsCertificate {
                    private_key: Some(DataSource {
                        specifier: Some(data_source::Specifier::InlineBytes(secret.into())),
                    }),
                    ..Default::default()
                }
            ),
        ];
        let bytes = format!("{:?}", secret.as_bytes());
        for text in shown {
            assert!(text.contains("hidden"), "{text}");
            assert!(
                !text.contains(secret) && !text.contains(bytes.trim_matches(['[', ']'])),
                "{text}"
            );
        }
    }
}
