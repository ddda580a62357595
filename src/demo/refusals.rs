//! What is refused: each with one defect, and the same without it.

use std::{net::SocketAddr, time::Duration};

use sekisho_certs::{
    Clock as _, SystemClock,
    id::{id_below, parse_workload_id},
    issue::Ca,
};

use super::{
    attempt::{Plan, Probe, Way},
    client::Papers,
    sites::{Site, Sites},
};

const HOUR: Duration = Duration::from_secs(3600);

fn svid(ca: &Ca, id: &str) -> anyhow::Result<Papers> {
    let id = parse_workload_id(id)?;
    let (leaf, key) = ca.issue(&id, SystemClock.now(), HOUR)?;
    Ok(Papers::Svid(vec![leaf], key))
}

fn expired(ca: &Ca, id: &str) -> anyhow::Result<Papers> {
    let id = parse_workload_id(id)?;
    let (leaf, key) = ca.issue(&id, SystemClock.now() - 2 * HOUR, HOUR)?;
    Ok(Papers::Svid(vec![leaf], key))
}

/// Everything that is refused, in the order shown.
pub(super) fn plans(sites: &Sites) -> anyhow::Result<Vec<Plan>> {
    let (hokkaido, tokyo) = (sites.of("hokkaido")?, sites.of("tokyo")?);
    let (osaka, kyushu) = (sites.of("osaka")?, sites.of("kyushu")?);
    let at_osaka = osaka.authority()?;
    let at_kyushu = kyushu.authority()?;
    let at_tokyo = tokyo.authority()?;
    let at_hokkaido = hokkaido.authority()?;
    let sender = "spiffe://osaka.example/sender";
    let good = || svid(&at_osaka, sender);
    let mut plans = Vec::new();
    let mut raw = |what: &'static str,
                   to: &'static str,
                   name: &'static str,
                   reason: &'static str,
                   from: &'static str,
                   bad: Papers,
                   good: Papers| {
        plans.push(Plan {
            from,
            to,
            what,
            reason,
            logged_at: to,
            way: Way::Raw { name, bad, good },
        });
    };
    raw(
        "Tokyo's workload at a gate for Osaka",
        "hokkaido",
        "from-osaka.hokkaido.example",
        "unknown_trust_domain",
        "tokyo",
        svid(&at_tokyo, "spiffe://tokyo.example/mdx")?,
        good()?,
    );
    raw(
        "Osaka's sender at Tokyo's gate",
        "tokyo",
        "mdx.tokyo.example",
        "unknown_trust_domain",
        "osaka",
        good()?,
        svid(&at_hokkaido, "spiffe://hokkaido.example/broker/tokyo")?,
    );
    raw(
        "another workload of Kyushu, not on `accept`",
        "hokkaido",
        "from-kyushu.hokkaido.example",
        "not_accepted",
        "kyushu",
        svid(&at_kyushu, "spiffe://kyushu.example/visitor")?,
        svid(&at_kyushu, "spiffe://kyushu.example/sender")?,
    );
    raw(
        "on `accept`, but the policy denies",
        "hokkaido",
        "from-osaka.hokkaido.example",
        "policy_denied",
        "osaka",
        svid(&at_osaka, "spiffe://osaka.example/visitor")?,
        good()?,
    );
    raw(
        "Osaka's ID, signed by Kyushu's CA",
        "hokkaido",
        "from-osaka.hokkaido.example",
        "bad_chain",
        "kyushu",
        svid(&at_kyushu, sender)?,
        good()?,
    );
    raw(
        "an expired SVID",
        "hokkaido",
        "from-osaka.hokkaido.example",
        "expired",
        "osaka",
        expired(&at_osaka, sender)?,
        good()?,
    );
    raw(
        "no certificate",
        "hokkaido",
        "from-osaka.hokkaido.example",
        "no_certificate",
        "osaka",
        Papers::None,
        good()?,
    );
    raw(
        "plain TCP",
        "hokkaido",
        "from-osaka.hokkaido.example",
        "not_tls",
        "osaka",
        Papers::Plain,
        good()?,
    );
    plans.push(local_user(sites, osaka, hokkaido.gate()?)?);
    plans.push(other_identity(sites, osaka, hokkaido.gate()?)?);
    Ok(plans)
}

/// A sender of Osaka that this user may not use; without the defect: one that it may.
fn local_user(sites: &Sites, osaka: &Site, gate: SocketAddr) -> anyhow::Result<Plan> {
    let somebody_else = if sites.user == "nobody" {
        "daemon"
    } else {
        "nobody"
    };
    let endpoint = |name: &str, user: &str| {
        format!(
            "  {name}:\n    listen: tcp://${{{}}}\n    local: [\"user:{user}\"]\n    \
             forward: mtls://{gate}/from-osaka\n    expect: [spiffe://hokkaido.example/broker/osaka]\n",
            name.to_uppercase()
        )
    };
    let endpoints = endpoint("bad", somebody_else) + &endpoint("good", &sites.user);
    Ok(Plan {
        from: "osaka",
        to: "hokkaido",
        what: "a user of the host who is not on `local`",
        reason: "local_user",
        logged_at: "osaka",
        way: Way::Probe(probe(sites, osaka, "local", &endpoints)?),
    })
}

/// The right address, where another identity answers; without the defect: the expected one.
fn other_identity(sites: &Sites, osaka: &Site, gate: SocketAddr) -> anyhow::Result<Plan> {
    let endpoint = |name: &str, asked: &str| {
        format!(
            "  {name}:\n    listen: tcp://${{{}}}\n    local: [\"user:{}\"]\n    \
             forward: mtls://{gate}/{asked}\n    expect: [spiffe://hokkaido.example/broker/osaka]\n",
            name.to_uppercase(),
            sites.user
        )
    };
    let endpoints = endpoint("bad", "from-kyushu") + &endpoint("good", "from-osaka");
    Ok(Plan {
        from: "osaka",
        to: "hokkaido",
        what: "the right address, but another identity answers",
        reason: "not_expected",
        logged_at: "osaka",
        way: Way::Probe(probe(sites, osaka, "identity", &endpoints)?),
    })
}

/// A `sekisho run` of Osaka's with an SVID from files, and these endpoints.
fn probe(sites: &Sites, osaka: &Site, name: &str, endpoints: &str) -> anyhow::Result<Probe> {
    let id = id_below(&osaka.domain, "/sender")?;
    let (leaf, key) = osaka.authority()?.issue(&id, SystemClock.now(), HOUR)?;
    let folder = &osaka.folder;
    Probe::start(&sites.children, folder, name, &leaf, &key, endpoints)
}
