//! Names as institutions have them: of many lengths, and no two of a pattern that a compressor would see
//! through as it would through a counter.

use sekisho_certs::sha256;

const UNITS: [&str; 32] = [
    "cs",
    "hpc",
    "phys",
    "med",
    "lib",
    "ee",
    "chem",
    "math",
    "bio",
    "astro",
    "data",
    "grid",
    "net",
    "ocean",
    "genome",
    "imaging",
    "nano",
    "fusion",
    "climate",
    "robotics",
    "materials",
    "seismo",
    "neuro",
    "agri",
    "pharm",
    "econ",
    "ling",
    "vis",
    "quantum",
    "accel",
    "archive",
    "cloud",
];
const KINDS: [&str; 8] = [
    "u", "inst", "lab", "center", "college", "nat", "tech", "hospital",
];
const ROOTS: [&str; 6] = [
    "ac.example",
    "edu.example",
    "go.example",
    "research.example",
    "or.example",
    "eu.example",
];

fn pick<'a>(from: &'a [&'a str], by: u8) -> &'a str {
    from.get(usize::from(by) % from.len())
        .copied()
        .unwrap_or("x")
}

/// The name of a member, the same each time.
pub(super) fn name(number: u32) -> String {
    let digest = sha256(format!("member {number}").as_bytes());
    let at = |index: usize| digest.get(index).copied().unwrap_or_default();
    let unit = pick(&UNITS, at(0));
    let unit_number = if at(1) < 128 {
        format!("{}", at(2) % 40)
    } else {
        String::new()
    };
    let kind = pick(&KINDS, at(3));
    let root = pick(&ROOTS, at(4));
    // What makes it its own, in one of two manners.
    if at(5) < 128 {
        let spread = u32::from(at(6)) % 4 * 100_000;
        format!("{unit}{unit_number}.{kind}-{:04}.{root}", number + spread)
    } else {
        let word: String = (7..13)
            .map(|index| char::from(b'a' + at(index) % 26))
            .collect();
        format!("{unit}{unit_number}.{word}{number}.{kind}.{root}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_members_have_a_name() {
        let names: HashSet<String> = (0..20_000).map(name).collect();
        assert_eq!(names.len(), 20_000);
        for name in names {
            sekisho_certs::id::parse_trust_domain(&name).unwrap();
        }
    }
}
