//! Any other pair, described by a TOML file.

use std::{collections::HashMap, fs, net::SocketAddr, path::Path};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::{BACK, FRONT, Pair, Place, SERVER, Setting, text_of};
use crate::{certificates, certificates::Papers, child::Program};

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Custom {
    /// As in tables.
    pub(super) name: String,
    /// Whether the two speak mTLS: idle connections and start-up are measured then. Default: true.
    #[serde(default = "yes")]
    pub(super) mtls: bool,
    /// A command whose first line is the version. Default: none.
    #[serde(default)]
    version: Vec<String>,
    front: Side,
    back: Side,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Side {
    /// Program and arguments. It must stay in the foreground.
    command: Vec<String>,
    /// The text of its configuration, whose place is `{config}`. Default: none.
    #[serde(default)]
    config: Option<String>,
}

const fn yes() -> bool {
    true
}

impl Custom {
    /// Reads the description of a pair.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    pub(super) fn version(&self) -> anyhow::Result<String> {
        match self.version.split_first() {
            None => Ok(String::new()),
            Some((program, arguments)) => Program {
                path: program.into(),
                arguments: arguments.to_vec(),
            }
            .first_line(),
        }
    }

    pub(super) fn pair(&self, place: &Place, setting: Setting) -> anyhow::Result<Pair> {
        let front = values(FRONT, BACK, &place.certificates.front, setting)?;
        let back = values(BACK, SERVER, &place.certificates.back, setting)?;
        Ok(Pair {
            front: self.program("front", &self.front, front, certificates::BACK, place)?,
            back: self.program("back", &self.back, back, certificates::FRONT, place)?,
        })
    }

    fn program(
        &self,
        end: &str,
        side: &Side,
        mut values: HashMap<&str, String>,
        peer: &str,
        place: &Place,
    ) -> anyhow::Result<Program> {
        values.insert("peer", peer.into());
        if let Some(config) = &side.config {
            let name: String = self
                .name
                .chars()
                .map(|letter| {
                    if letter.is_ascii_alphanumeric() {
                        letter
                    } else {
                        '-'
                    }
                })
                .collect();
            let text = filled(config, &values)?;
            let path = place.write(&format!("{name}/{end}.conf"), &text)?;
            values.insert("config", path);
        }
        let words: Vec<String> = side
            .command
            .iter()
            .map(|word| filled(word, &values))
            .collect::<anyhow::Result<_>>()?;
        let Some((program, arguments)) = words.split_first() else {
            bail!("{}: `command` of `{end}` is empty", self.name);
        };
        Ok(Program {
            path: program.into(),
            arguments: arguments.to_vec(),
        })
    }
}

fn values(
    listen: SocketAddr,
    connect: SocketAddr,
    papers: &Papers,
    setting: Setting,
) -> anyhow::Result<HashMap<&'static str, String>> {
    Ok(HashMap::from([
        ("listen", listen.to_string()),
        ("listen_port", listen.port().to_string()),
        ("connect", connect.to_string()),
        ("connect_port", connect.port().to_string()),
        ("cert", text_of(&papers.certificate)?),
        ("key", text_of(&papers.key)?),
        ("cert_and_key", text_of(&papers.both)?),
        ("ca", text_of(&papers.peer_ca)?),
        ("workers", setting.workers.to_string()),
    ]))
}

/// Replaces `{name}`. Braces around anything but lower-case letters and `_` are left alone.
fn filled(text: &str, values: &HashMap<&str, String>) -> anyhow::Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        out.push_str(before);
        let name = behind.split_once('}').filter(|(name, _)| {
            let is_letter = |letter: char| letter.is_ascii_lowercase() || letter == '_';
            !name.is_empty() && name.chars().all(is_letter)
        });
        let Some((name, behind)) = name else {
            out.push('{');
            rest = behind;
            continue;
        };
        let Some(value) = values.get(name) else {
            let mut known: Vec<_> = values.keys().copied().collect();
            known.sort_unstable();
            bail!(
                "{{{name}}} is not known here; known are {}",
                known.join(", ")
            );
        };
        out.push_str(value);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_other_braces_stay() {
        let values = HashMap::from([("listen", "127.0.0.1:1".to_owned())]);
        let text = filled("--listen={listen} {\"a\": {}} {A}", &values).unwrap();
        assert_eq!(text, "--listen=127.0.0.1:1 {\"a\": {}} {A}");
        let error = filled("{lisen}", &values).unwrap_err().to_string();
        assert_eq!(error, "{lisen} is not known here; known are listen");
    }

    #[test]
    fn the_files_that_come_along_are_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pairs");
        let mut count = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let custom = Custom::read(&entry.unwrap().path()).unwrap();
            assert!(!custom.front.command.is_empty() && !custom.back.command.is_empty());
            count += 1;
        }
        assert!(count >= 2);
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let text = "name = \"x\"\nfrnt = 1\n";
        assert!(toml::from_str::<Custom>(text).is_err());
    }
}
