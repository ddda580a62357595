//! HAProxy, with mTLS, or plain with splice(2).
//!
//! Its check of the peer stops at the chain: it has no word for a URI name.

use std::path::Path;

use super::{BACK, FRONT, Pair, Place, SERVER, Setting, text_of};
use crate::child::Program;

/// How it forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Mtls,
    Splice,
}

pub(super) fn pair(
    program: &Path,
    mode: Mode,
    place: &Place,
    setting: Setting,
) -> anyhow::Result<Pair> {
    let (front, back) = (&place.certificates.front, &place.certificates.back);
    let (server, bind) = match mode {
        Mode::Splice => (String::new(), String::new()),
        Mode::Mtls => (
            format!(
                " ssl verify required crt {} ca-file {} ssl-min-ver TLSv1.3{}",
                text_of(&front.both)?,
                text_of(&front.peer_ca)?,
                if setting.resumption {
                    ""
                } else {
                    " no-ssl-reuse"
                },
            ),
            format!(
                " ssl verify required crt {} ca-file {} ssl-min-ver TLSv1.3",
                text_of(&back.both)?,
                text_of(&back.peer_ca)?,
            ),
        ),
    };
    let file = |name: &str, listen: String, forward: String| -> anyhow::Result<Program> {
        let text = configuration(mode, setting.workers, &listen, &forward);
        let path = place.write(&format!("haproxy-{mode:?}/{name}.cfg"), &text)?;
        Ok(Program::new(program, &["-db", "-f", &path]))
    };
    Ok(Pair {
        front: file("front", FRONT.to_string(), format!("{BACK}{server}"))?,
        back: file("back", format!("{BACK}{bind}"), SERVER.to_string())?,
    })
}

fn configuration(mode: Mode, workers: u16, listen: &str, forward: &str) -> String {
    // It takes at start the files that so many connections would need, pipes included, and ends if
    // it may not.
    let (splice, connections) = match mode {
        Mode::Mtls => ("", 8_000),
        Mode::Splice => (
            "    option splice-request\n    option splice-response\n",
            1_000,
        ),
    };
    format!(
        "global\n    nbthread {workers}\n    maxconn {connections}\n\n\
         defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 10m\n    \
         timeout server 10m\n{splice}\n\
         listen pair\n    bind {listen}\n    server next {forward}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splice_is_asked_for_where_it_can_be() {
        let plain = configuration(Mode::Splice, 2, "127.0.0.1:1", "127.0.0.1:2");
        assert!(plain.contains("splice-request") && plain.contains("nbthread 2"));
        let mtls = configuration(Mode::Mtls, 1, "127.0.0.1:1 ssl", "127.0.0.1:2 ssl");
        assert!(!mtls.contains("splice") && mtls.contains("bind 127.0.0.1:1 ssl"));
    }
}
