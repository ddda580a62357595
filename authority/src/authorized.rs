//! Which entries an agent may have: its own, those below them, and those of the aliases that its
//! node answers to.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use sekisho_certs::TrustDomain;

use crate::{entry::Entry, store::Node};

/// All entries, in the order that the question asks for; those for one question by age, then by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arrangement {
    all: BTreeMap<String, Arc<Entry>>,
    by_parent: HashMap<String, Vec<Arc<Entry>>>,
    by_spiffe_id: HashMap<String, Vec<Arc<Entry>>>,
    /// Entries whose parent is the server: each names a set of nodes by their selectors.
    aliases: Vec<Arc<Entry>>,
}

impl Arrangement {
    /// Arranges the entries of a trust domain.
    #[must_use]
    pub fn new(entries: Vec<Entry>, domain: &TrustDomain) -> Self {
        let all = entries.into_iter();
        Self::of(
            all.map(|entry| (entry.id.clone(), Arc::new(entry)))
                .collect(),
            domain,
        )
    }

    /// The same, where the entries of these names are now as `now` has them, or are not there.
    #[must_use]
    pub fn with(&self, names: &BTreeSet<String>, now: Vec<Entry>, domain: &TrustDomain) -> Self {
        let mut all = self.all.clone();
        all.retain(|name, _| !names.contains(name));
        all.extend(
            now.into_iter()
                .map(|entry| (entry.id.clone(), Arc::new(entry))),
        );
        Self::of(all, domain)
    }

    fn of(all: BTreeMap<String, Arc<Entry>>, domain: &TrustDomain) -> Self {
        let server = format!("spiffe://{domain}/spire/server");
        let mut arranged = Self::default();
        let mut in_order: Vec<_> = all.values().collect();
        in_order.sort_by_key(|entry| entry.created_at);
        for entry in in_order {
            let parent = entry.draft.parent_id.to_string();
            if parent == server {
                arranged.aliases.push(Arc::clone(entry));
            }
            let own = entry.draft.spiffe_id.to_string();
            let with_id = arranged.by_spiffe_id.entry(own).or_default();
            with_id.push(Arc::clone(entry));
            let below = arranged.by_parent.entry(parent).or_default();
            below.push(Arc::clone(entry));
        }
        Self { all, ..arranged }
    }

    /// The entries that give this ID to somebody.
    #[must_use]
    pub fn with_id(&self, id: &str) -> &[Arc<Entry>] {
        self.by_spiffe_id
            .get(id)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// The entries that the agent of `node` may have, each once. What it answers to by an alias is
    /// left out where `expired`: its selectors are those of its last attestation.
    #[must_use]
    pub fn of_node(&self, node: &Node, expired: bool) -> Vec<Arc<Entry>> {
        let mut found = Vec::new();
        let mut walk = Walk {
            arranged: self,
            parents: HashSet::new(),
            entries: HashSet::new(),
        };
        walk.below(&node.id.to_string(), &mut found);
        if !expired {
            for alias in &self.aliases {
                if alias.draft.selectors.is_subset(&node.selectors) {
                    walk.below(&alias.draft.spiffe_id.to_string(), &mut found);
                }
            }
        }
        found
    }
}

struct Walk<'a> {
    arranged: &'a Arrangement,
    /// Where it has been: entries may be parents of one another in a circle.
    parents: HashSet<String>,
    entries: HashSet<&'a str>,
}

impl<'a> Walk<'a> {
    fn below(&mut self, parent: &str, found: &mut Vec<Arc<Entry>>) {
        let mut waiting = vec![parent.to_owned()];
        while let Some(parent) = waiting.pop() {
            let arranged: &'a Arrangement = self.arranged;
            let Some(entries) = arranged.by_parent.get(&parent) else {
                continue;
            };
            if !self.parents.insert(parent) {
                continue;
            }
            for entry in entries {
                if self.entries.insert(&entry.id) {
                    found.push(Arc::clone(entry));
                }
                waiting.push(entry.draft.spiffe_id.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        time::{Duration, SystemTime},
    };

    use sekisho_certs::id;

    use super::*;
    use crate::entry::{Draft, Selector};

    fn domain() -> TrustDomain {
        id::parse_trust_domain("a.example").unwrap()
    }

    fn selectors(all: &[&str]) -> BTreeSet<Selector> {
        let one = |text: &&str| {
            let (kind, value) = text.split_once(':').unwrap();
            Selector {
                kind: kind.into(),
                value: value.into(),
            }
        };
        all.iter().map(one).collect()
    }

    fn entry(path: &str, parent: &str, given: &[&str]) -> Entry {
        Entry {
            id: path.trim_start_matches('/').into(),
            revision: 0,
            created_at: SystemTime::UNIX_EPOCH,
            draft: Draft {
                id: None,
                spiffe_id: id::id_below(&domain(), path).unwrap(),
                parent_id: id::id_below(&domain(), parent).unwrap(),
                selectors: selectors(given),
                x509_ttl: Duration::ZERO,
                jwt_ttl: Duration::ZERO,
                federates_with: Vec::new(),
                admin: false,
                downstream: false,
                expires_at: None,
                dns_names: Vec::new(),
                store_svid: false,
                hint: String::new(),
                no_prefetch: false,
                jwt_id: false,
            },
        }
    }

    fn node(path: &str, given: &[&str]) -> Node {
        Node {
            id: id::id_below(&domain(), path).unwrap(),
            attestation_type: "t".into(),
            selectors: selectors(given),
            active: None,
            next: None,
            can_reattest: false,
            reattest_at: None,
            svid_ttl: None,
            banned: false,
            version: String::new(),
        }
    }

    fn names(arranged: &Arrangement, node: &Node, expired: bool) -> Vec<String> {
        let mut all: Vec<_> = arranged
            .of_node(node, expired)
            .iter()
            .map(|entry| entry.id.clone())
            .collect();
        all.sort();
        all
    }

    #[test]
    fn an_agent_gets_its_entries_and_those_below_them_and_no_others() {
        let arranged = Arrangement::new(
            vec![
                entry("/a", "/spire/agent/x", &["unix:uid:1"]),
                entry("/b", "/a", &["unix:uid:2"]),
                entry("/c", "/spire/agent/y", &["unix:uid:3"]),
                // A circle, and an entry that is its own parent.
                entry("/d", "/b", &["unix:uid:4"]),
                entry("/b2", "/d", &["unix:uid:5"]),
                Entry {
                    id: "b-again".into(),
                    ..entry("/b", "/d", &["unix:uid:6"])
                },
                entry("/e", "/e", &["unix:uid:7"]),
            ],
            &domain(),
        );
        assert_eq!(
            names(&arranged, &node("/spire/agent/x", &[]), false),
            ["a", "b", "b-again", "b2", "d"]
        );
        assert_eq!(names(&arranged, &node("/spire/agent/y", &[]), false), ["c"]);
        assert_eq!(
            names(&arranged, &node("/spire/agent/z", &[]), false),
            [""; 0]
        );
        assert_eq!(arranged.with_id("spiffe://a.example/b").len(), 2);
        assert!(arranged.with_id("spiffe://a.example/x").is_empty());
    }

    #[test]
    fn what_changes_a_few_entries_is_as_if_all_were_read_again() {
        let before = [
            entry("/a", "/spire/agent/x", &["unix:uid:1"]),
            entry("/b", "/spire/agent/x", &["unix:uid:2"]),
            entry("/c", "/spire/agent/x", &["unix:uid:3"]),
        ];
        let arranged = Arrangement::new(before.to_vec(), &domain());
        // One goes to another node, one is gone, one is new.
        let mut moved = entry("/b", "/spire/agent/y", &["unix:uid:2"]);
        moved.revision = 1;
        let new = entry("/d", "/spire/agent/x", &["unix:uid:4"]);
        let names = ["b", "c", "d"].map(str::to_owned).into();
        let after = arranged.with(&names, vec![moved.clone(), new.clone()], &domain());
        assert_eq!(
            self::names(&after, &node("/spire/agent/x", &[]), false),
            ["a", "d"]
        );
        assert_eq!(
            self::names(&after, &node("/spire/agent/y", &[]), false),
            ["b"]
        );
        assert!(after.with_id("spiffe://a.example/c").is_empty());
        let [a, ..] = before;
        let whole = Arrangement::new(vec![a, moved, new], &domain());
        assert_eq!(format!("{:?}", whole.all), format!("{:?}", after.all));
        // What was handed out before is as it was.
        assert_eq!(
            self::names(&arranged, &node("/spire/agent/x", &[]), false),
            ["a", "b", "c"]
        );
    }

    #[test]
    fn a_node_answers_to_the_aliases_whose_selectors_it_has() {
        let arranged = Arrangement::new(
            vec![
                entry(
                    "/nodes/campus",
                    "/spire/server",
                    &["k8s_psat:cluster:campus"],
                ),
                entry(
                    "/nodes/both",
                    "/spire/server",
                    &["k8s_psat:cluster:campus", "tpm:ok:1"],
                ),
                entry("/on-campus", "/nodes/campus", &["unix:uid:1"]),
                entry("/on-both", "/nodes/both", &["unix:uid:1"]),
            ],
            &domain(),
        );
        let plain = node(
            "/spire/agent/x",
            &["k8s_psat:cluster:campus", "k8s_psat:agent_ns:s"],
        );
        assert_eq!(names(&arranged, &plain, false), ["on-campus"]);
        let both = node("/spire/agent/x", &["k8s_psat:cluster:campus", "tpm:ok:1"]);
        assert_eq!(names(&arranged, &both, false), ["on-both", "on-campus"]);
        assert_eq!(names(&arranged, &both, true), [""; 0]);
        assert_eq!(
            names(&arranged, &node("/spire/agent/y", &[]), false),
            [""; 0]
        );
    }
}
