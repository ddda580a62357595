//! sekisho as a site would run it: access log, metrics, and a policy of 30 rules at the back.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use super::{BACK, BACK_ADMIN, FRONT, FRONT_ADMIN, Pair, Place, SERVER, Setting, text_of};
use crate::{certificates, certificates::Papers, child::Program};

/// Rules of the policy, of which the last allows.
const RULES: usize = 30;

/// What goes between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// mTLS.
    Mtls,
    /// No TLS, and so no policy on who comes: bulk stays in the kernel.
    Plain,
}

pub(super) fn pair(
    program: &Path,
    mode: Mode,
    place: &Place,
    setting: Setting,
) -> anyhow::Result<Pair> {
    let back_id = certificates::BACK;
    let front_id = certificates::FRONT;
    place.write("sekisho/policy/authz.rego", &policy())?;
    let front = Side {
        site: "a.example",
        peer: "b.example",
        admin: FRONT_ADMIN.to_string(),
        papers: &place.certificates.front,
        endpoint: match mode {
            Mode::Mtls => format!(
                "listen: tcp://{FRONT}\n    forward: mtls://{BACK}\n    expect: [{back_id}]\n"
            ),
            Mode::Plain => format!("listen: tcp://{FRONT}\n    forward: tcp://{BACK}\n"),
        },
    };
    let back = Side {
        site: "b.example",
        peer: "a.example",
        admin: BACK_ADMIN.to_string(),
        papers: &place.certificates.back,
        endpoint: match mode {
            Mode::Mtls => format!(
                "listen: mtls://{BACK}\n    forward: tcp://{SERVER}\n    accept: [{front_id}]\n    \
                 policy: policy/\n"
            ),
            Mode::Plain => format!("listen: tcp://{BACK}\n    forward: tcp://{SERVER}\n"),
        },
    };
    let start = |name: &str, side: &Side<'_>| -> anyhow::Result<Program> {
        let file = place.write(&format!("sekisho/{name}.yaml"), &side.yaml(setting)?)?;
        Ok(Program::new(program, &["run", "-c", &file]))
    };
    Ok(Pair {
        front: start("front", &front)?,
        back: start("back", &back)?,
    })
}

struct Side<'a> {
    site: &'a str,
    peer: &'a str,
    admin: String,
    papers: &'a Papers,
    endpoint: String,
}

impl Side<'_> {
    fn yaml(&self, setting: Setting) -> anyhow::Result<String> {
        let quoted = |path| -> anyhow::Result<String> { Ok(format!("\"{}\"", text_of(path)?)) };
        let resumption = if setting.resumption {
            "    tls: {resumption: true}\n"
        } else {
            ""
        };
        Ok(format!(
            "site: {}\nworkers: {}\nadmin: {}\nlog: {{format: json, access: true}}\n\
             identity:\n  cert: {}\n  key: {}\n  bundles:\n    {}: {}\n    {}: {}\n\
             endpoints:\n  pair:\n    {}{resumption}",
            self.site,
            setting.workers,
            self.admin,
            quoted(&self.papers.certificate)?,
            quoted(&self.papers.key)?,
            self.site,
            quoted(&self.papers.own_ca)?,
            self.peer,
            quoted(&self.papers.peer_ca)?,
            self.endpoint,
        ))
    }
}

/// Rules as a site has them, one for each of its partners.
fn policy() -> String {
    let mut text = String::from("package sekisho.authz\n\ndefault allow := false\n");
    for rule in 1..RULES {
        text.push_str(&format!(
            "\nallow if {{\n\tinput.sekisho.direction == \"inbound\"\n\
             \tinput.sekisho.endpoint == \"service-{rule}\"\n\
             \tinput.sekisho.client.trust_domain == \"partner-{rule}.example\"\n\
             \tinput.sekisho.client.path_segments == [\"sender\"]\n}}\n"
        ));
    }
    text.push_str(&format!(
        "\nallow if {{\n\tinput.sekisho.direction == \"inbound\"\n\
         \tinput.sekisho.endpoint == \"pair\"\n\
         \tinput.sekisho.client.spiffe_id == \"{}\"\n}}\n",
        certificates::FRONT
    ));
    text
}

/// From the access log.
pub(super) fn negotiated(log: &str) -> String {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let all: BTreeSet<_> = lines
        .filter_map(|line| {
            let text = |name| line.get(name).and_then(Value::as_str).map(str::to_owned);
            Some([text("tls_version")?, text("group")?, text("cipher")?].join(" "))
        })
        .collect();
    all.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_has_thirty_rules() {
        assert_eq!(policy().matches("\nallow if {").count(), RULES);
    }

    #[test]
    fn the_access_log_says_what_was_negotiated() {
        let log = "not JSON\n{\"level\":\"INFO\"}\n\
            {\"tls_version\":\"TLSv1.3\",\"group\":\"X25519\",\"cipher\":\"C\"}\n\
            {\"tls_version\":\"TLSv1.3\",\"group\":\"X25519\",\"cipher\":\"C\"}\n";
        assert_eq!(negotiated(log), "TLSv1.3 X25519 C");
    }
}
