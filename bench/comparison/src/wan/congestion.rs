//! Which congestion controls every process may choose. The kernel has one list for all namespaces,
//! so whatever runs beside is concerned too, and it is put back at the end.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, bail};

use crate::namespace::{ALLOWED, AVAILABLE};

/// Linux's default.
const USUAL: [&str; 2] = ["reno", "cubic"];
const BBR: &str = "bbr";

fn wanted(with_bbr: bool) -> BTreeSet<&'static str> {
    USUAL.into_iter().chain(with_bbr.then_some(BBR)).collect()
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split_whitespace().collect()
}

fn joined(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(" ")
}

fn read() -> anyhow::Result<String> {
    fs::read_to_string(ALLOWED)
        .with_context(|| format!("{ALLOWED}: this must be run in the initial network namespace"))
}

/// The list as it was found.
#[derive(Debug)]
pub(super) struct Before(String);

impl Before {
    pub(super) fn look() -> anyhow::Result<Self> {
        Ok(Self(read()?.trim().to_owned()))
    }

    /// Puts it back, unless somebody else has chosen otherwise in between.
    pub(super) fn restore(&self) -> anyhow::Result<()> {
        let now = read()?;
        let is_ours = [false, true].map(wanted).contains(&words(&now));
        if is_ours && words(&now) != words(&self.0) {
            fs::write(ALLOWED, &self.0).with_context(|| {
                format!(
                    "{ALLOWED} could not be put back to \"{}\": do it by hand",
                    self.0
                )
            })?;
        }
        Ok(())
    }
}

/// Allows reno and cubic to everybody, and bbr only if asked to.
pub(super) fn allow(with_bbr: bool) -> anyhow::Result<()> {
    let wanted = wanted(with_bbr);
    let available = fs::read_to_string(AVAILABLE)?;
    if let Some(missing) = wanted
        .iter()
        .find(|name| !words(&available).contains(*name))
    {
        bail!("the kernel has no {missing}: modprobe tcp_{missing}");
    }
    if words(&read()?) != wanted {
        fs::write(ALLOWED, joined(&wanted)).with_context(|| ALLOWED.to_owned())?;
    }
    check(with_bbr)
}

/// Whether the list still is that, while something is measured.
pub(super) fn check(with_bbr: bool) -> anyhow::Result<()> {
    let now = read()?;
    let wanted = wanted(with_bbr);
    if words(&now) != wanted {
        bail!(
            "{ALLOWED} is \"{}\" instead of \"{}\": another program writes it",
            now.trim(),
            joined(&wanted)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        assert_eq!(words("cubic reno\n"), wanted(false));
        assert_eq!(words("reno bbr cubic"), wanted(true));
        assert_ne!(words("reno bbr"), wanted(true));
        assert_eq!(joined(&wanted(true)), "bbr cubic reno");
    }
}
