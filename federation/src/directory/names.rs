//! Names of roles and targets, and the bin that a member is in.
//!
//! A member's role, its only target and its place are functions of its trust domain, and nothing is a
//! path: names are flat, of `[a-z0-9._-]` alone, so that no client makes a folder of one.

use aws_lc_rs::digest::{SHA256, digest};
use sekisho_certs::{TrustDomain, hex, id::parse_trust_domain};

/// What the role of a member begins with.
const MEMBER: &str = "td-";
/// The role of the marks.
pub const MARKS: &str = "marks";
/// The target of the marks.
pub const MARKS_TARGET: &str = "marks.json";
/// The targets of all members, where they are in one bin: by a pattern, which go-tuf's client understands
/// too. Up to 2.4.2 it does not find the prefixes of hashes (go-tuf#783).
pub(crate) const ALL_MEMBERS: &str = "td-*.json";
/// How many bins a directory may have: one more digit each time.
pub const BINS: [usize; 3] = [1, 16, 256];

/// Most bytes of a member's name: `SHA256.td-NAME.json.gz` is the name of a file, of 255 at most.
const LONGEST: usize = 170;

/// Whether a trust domain is short enough to be a member.
#[must_use]
pub fn fits(domain: &TrustDomain) -> bool {
    domain.as_str().len() <= LONGEST
}

/// The role that a member signs.
#[must_use]
pub fn role_of(domain: &TrustDomain) -> String {
    format!("{MEMBER}{domain}")
}

/// The member that signs a role; `None` where the role is another, or its name is no trust domain.
#[must_use]
pub fn member_of(role: &str) -> Option<TrustDomain> {
    let domain = parse_trust_domain(role.strip_prefix(MEMBER)?).ok()?;
    fits(&domain).then_some(domain)
}

/// The target of a member: its descriptor.
#[must_use]
pub fn target_of(domain: &TrustDomain) -> String {
    format!("{MEMBER}{domain}.json")
}

/// The SHA-256 of a target's name, by which its bin is found (TUF §4.5, `path_hash_prefixes`).
#[must_use]
pub fn path_hash(target: &str) -> String {
    hex(digest(&SHA256, target.as_bytes()).as_ref())
}

/// The bins of a directory that has so many, each with the prefixes of the hashes in it.
#[must_use]
pub fn bins(count: usize) -> Vec<(String, Vec<String>)> {
    match count {
        1 => {
            let all = (0..16).map(|digit| format!("{digit:x}")).collect();
            vec![("bin".into(), all)]
        }
        16 => (0..16)
            .map(|digit| (format!("bin-{digit:x}"), vec![format!("{digit:x}")]))
            .collect(),
        _ => (0..256)
            .map(|digits| (format!("bin-{digits:02x}"), vec![format!("{digits:02x}")]))
            .collect(),
    }
}

/// Whether a name may be a part of a file's: flat, and no hidden one.
#[must_use]
pub fn is_flat(name: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    (1..=300).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

/// How many bins suit so many members: one below 500, then about 40 members to a bin at ten thousand.
#[must_use]
pub const fn bins_for(members: usize) -> usize {
    if members < 500 {
        1
    } else if members < 2_000 {
        16
    } else {
        256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        let domain = parse_trust_domain("tokyo.example").unwrap();
        assert_eq!(role_of(&domain), "td-tokyo.example");
        assert_eq!(target_of(&domain), "td-tokyo.example.json");
        assert_eq!(member_of("td-tokyo.example"), Some(domain));
        for other in [
            "marks",
            "bin-0f",
            "td-",
            "td-Tokyo.example",
            "td-a/b",
            "td-a%2e",
        ] {
            assert_eq!(member_of(other), None, "{other}");
        }
    }

    #[test]
    fn every_hash_is_in_one_bin() {
        for count in BINS {
            let bins = bins(count);
            assert_eq!(bins.len(), count);
            for target in [
                "td-a.example.json",
                "td-b.example.json",
                "td-c.example.json",
            ] {
                let hash = path_hash(target);
                let of = bins
                    .iter()
                    .filter(|(_, prefixes)| prefixes.iter().any(|prefix| hash.starts_with(prefix)));
                assert_eq!(of.count(), 1, "{target} {count}");
            }
        }
    }
}
