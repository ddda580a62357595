//! Who may call what (the comments in `spire-api/proto/`).

/// As what a call may be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// As an administrator from afar.
    pub admin: bool,
    /// As an agent.
    pub agent: bool,
    /// As anybody, without a certificate too.
    pub any: bool,
    /// As a server below.
    pub downstream: bool,
    /// Over the Unix socket.
    pub local: bool,
}

const NOBODY: Allowed = Allowed {
    admin: false,
    agent: false,
    any: false,
    downstream: false,
    local: false,
};
const ADMINISTRATORS: Allowed = Allowed {
    admin: true,
    local: true,
    ..NOBODY
};
const AGENTS: Allowed = Allowed {
    agent: true,
    ..NOBODY
};
const ANYBODY: Allowed = Allowed {
    any: true,
    ..NOBODY
};
const SERVERS_BELOW: Allowed = Allowed {
    downstream: true,
    ..NOBODY
};
const THIS_HOST: Allowed = Allowed {
    local: true,
    ..NOBODY
};

/// As what a method may be called; `None` for one that is neither SPIRE's nor ours.
#[must_use]
pub fn allowed(method: &str) -> Option<Allowed> {
    let (service, call) = method.strip_prefix('/')?.split_once('/')?;
    if service == "grpc.health.v1.Health" {
        return Some(THIS_HOST);
    }
    if service == "sekisho.federation.admin.v1.FederationAdmin" {
        return Some(ADMINISTRATORS);
    }
    if service == "sekisho.federation.v1.Federation" {
        return (call == "GetMembers").then_some(Allowed {
            agent: true,
            ..ADMINISTRATORS
        });
    }
    let service = service.strip_prefix("spire.api.server.")?;
    let allowed = match (service, call) {
        ("agent.v1.Agent", "AttestAgent") | ("bundle.v1.Bundle", "GetBundle") => ANYBODY,
        ("agent.v1.Agent", "RenewAgent" | "PostStatus")
        | ("entry.v1.Entry", "GetAuthorizedEntries" | "SyncAuthorizedEntries")
        | ("svid.v1.SVID", "BatchNewX509SVID" | "NewJWTSVID") => AGENTS,
        ("bundle.v1.Bundle", "GetFederatedBundle") => Allowed {
            agent: true,
            ..ADMINISTRATORS
        },
        ("bundle.v1.Bundle", "PublishJWTAuthority") | ("svid.v1.SVID", "NewDownstreamX509CA") => {
            SERVERS_BELOW
        }
        ("debug.v1.Debug" | "logger.v1.Logger", _) => THIS_HOST,
        // What is added later is for administrators until somebody has thought about it.
        _ => ADMINISTRATORS,
    };
    Some(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_for_agents_and_administrators() {
        let allowed = allowed("/sekisho.federation.v1.Federation/GetMembers").unwrap();
        let text = include_str!("../../../spire-api/proto/sekisho/federation/v1/federation.proto");
        assert!(text.contains("// Callers: local, admin, agent."));
        assert!(allowed.local && allowed.admin && allowed.agent);
        assert!(!allowed.any && !allowed.downstream);
        assert_eq!(
            super::allowed("/sekisho.federation.v1.Federation/Other"),
            None
        );
        assert_eq!(
            super::allowed("/sekisho.federation.v1.NodeFederation/WatchMembers"),
            None
        );
    }

    /// The comments in the protobuf say it too: they must say the same.
    #[test]
    fn it_is_what_the_protobuf_says() {
        let mut count = 0;
        for service in [
            "agent",
            "bundle",
            "debug",
            "entry",
            "localauthority",
            "logger",
            "svid",
            "trustdomain",
        ] {
            let file = format!(
                "{}/../spire-api/proto/spire/api/server/{service}/v1/{service}.proto",
                env!("CARGO_MANIFEST_DIR")
            );
            let text = std::fs::read_to_string(file).unwrap();
            let name = text
                .split("service ")
                .nth(1)
                .unwrap()
                .split(' ')
                .next()
                .unwrap();
            let mut callers = "";
            for line in text.lines() {
                if let Some(said) = line.trim().strip_prefix("// Callers: ") {
                    callers = said.trim_end_matches('.');
                }
                let Some(call) = line.trim().strip_prefix("rpc ") else {
                    continue;
                };
                let call = call.split('(').next().unwrap();
                let is = |who| callers.split(", ").any(|caller| caller == who);
                let expected = Allowed {
                    admin: is("admin"),
                    agent: is("agent"),
                    any: is("any"),
                    downstream: is("downstream"),
                    local: is("local"),
                };
                let method = format!("/spire.api.server.{service}.v1.{name}/{call}");
                assert_eq!(allowed(&method), Some(expected), "{method}: {callers}");
                count += 1;
            }
        }
        assert_eq!(count, 54);
        for call in ["ListPeers", "AcceptRollback", "RemovePeer"] {
            let method = format!("/sekisho.federation.admin.v1.FederationAdmin/{call}");
            assert_eq!(allowed(&method), Some(ADMINISTRATORS), "{method}");
        }
        assert_eq!(allowed("/spire.api.agent.x/Y"), None);
        assert_eq!(allowed("nonsense"), None);
    }
}
