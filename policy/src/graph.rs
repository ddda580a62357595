//! Which rules need which: no function may come back to itself, and no chain be too long.

use std::collections::{BTreeMap, BTreeSet};

use crate::{LoadError, Position, calls::Definition};

/// Rules by path, and what each needs.
pub(crate) struct Graph {
    index: BTreeMap<Vec<String>, usize>,
    nodes: Vec<Node>,
}

struct Node {
    name: String,
    at: Position,
    is_function: bool,
    /// How deep the engine recurses within it.
    nesting: usize,
    needs: BTreeSet<usize>,
    /// Those of `needs` that are functions called, or put in the place of others.
    calls: BTreeSet<usize>,
}

impl Graph {
    pub(crate) fn new(rules: &[Definition]) -> Self {
        let mut graph = Self {
            index: BTreeMap::new(),
            nodes: Vec::new(),
        };
        for rule in rules {
            let next = graph.nodes.len();
            let at = *graph.index.entry(rule.path.clone()).or_insert(next);
            if at == next {
                graph.nodes.push(Node {
                    name: format!("data.{}", rule.path.join(".")),
                    at: rule.at.clone(),
                    is_function: false,
                    nesting: 0,
                    needs: BTreeSet::new(),
                    calls: BTreeSet::new(),
                });
            }
            if let Some(node) = graph.nodes.get_mut(at) {
                node.is_function |= rule.arguments.is_some();
            }
        }
        graph
    }

    /// Notes that the rule at `from` mentions `path`: a rule, a part of one's value, or a folder
    /// of rules. `calls` when a function there would run.
    pub(crate) fn link(&mut self, from: &[String], path: &[String], calls: bool) {
        let Some(&from) = self.index.get(from) else {
            return;
        };
        let below = self
            .index
            .range(path.to_vec()..)
            .take_while(|(name, _)| name.starts_with(path));
        let above = (1..path.len()).filter_map(|end| self.index.get_key_value(path.get(..end)?));
        let found: Vec<usize> = below.chain(above).map(|(_, &node)| node).collect();
        for node in found {
            let is_function = self.nodes.get(node).is_some_and(|node| node.is_function);
            // A mere mention does not run a function: it is a variable of the same name.
            if is_function && !calls {
                continue;
            }
            if let Some(from) = self.nodes.get_mut(from) {
                from.needs.insert(node);
                if is_function {
                    from.calls.insert(node);
                }
            }
        }
    }

    /// Notes how deep the engine recurses within one definition of the rule at `path`.
    pub(crate) fn deepen(&mut self, path: &[String], nesting: usize) {
        let node = self
            .index
            .get(path)
            .and_then(|&node| self.nodes.get_mut(node));
        if let Some(node) = node {
            node.nesting = node.nesting.max(nesting);
        }
    }

    /// Refuses functions that come back to themselves by calls, and chains longer than `limit`.
    pub(crate) fn check(&self, limit: usize) -> Result<(), LoadError> {
        let calls = self.groups(|node| &node.calls);
        if let Some(cycle) = calls.iter().find(|group| self.is_cycle(group)) {
            let names: Vec<&str> = cycle.iter().filter_map(|&node| self.name(node)).collect();
            let first = cycle.first().and_then(|&node| self.nodes.get(node));
            let name = first.map_or_else(String::new, |node| node.name.clone());
            return Err(LoadError::Recursion {
                at: first.map_or_else(Position::default, |node| node.at.clone()),
                cycle: names.join(", "),
                name,
            });
        }
        self.check_depth(limit)
    }

    fn is_cycle(&self, group: &[usize]) -> bool {
        let to_itself = |node: &usize| {
            self.nodes
                .get(*node)
                .is_some_and(|n| n.calls.contains(node))
        };
        group.len() > 1 || group.iter().any(to_itself)
    }

    fn name(&self, node: usize) -> Option<&str> {
        self.nodes.get(node).map(|node| node.name.as_str())
    }

    /// Longest chains, from the rules that need nothing upwards. Rules that need one another in a
    /// circle (the engine ends that when it comes round) count as a chain of all of them.
    fn check_depth(&self, limit: usize) -> Result<(), LoadError> {
        let mut depths: Vec<usize> = vec![0; self.nodes.len()];
        for group in self.groups(|node| &node.needs) {
            let members: BTreeSet<usize> = group.iter().copied().collect();
            let needed = group
                .iter()
                .filter_map(|&node| self.nodes.get(node))
                .flat_map(|n| &n.needs);
            let below = needed.filter(|node| !members.contains(node));
            let deepest = below
                .filter_map(|&node| depths.get(node))
                .max()
                .copied()
                .unwrap_or(0);
            let own = group.iter().filter_map(|&node| self.nodes.get(node));
            let depth = deepest + own.map(|node| node.nesting + 1).sum::<usize>();
            for &node in &group {
                if let Some(known) = depths.get_mut(node) {
                    *known = depth;
                }
            }
            let first = group.first().and_then(|&node| self.nodes.get(node));
            if let Some(node) = first.filter(|_| depth > limit) {
                return Err(LoadError::Depth {
                    at: node.at.clone(),
                    name: node.name.clone(),
                    limit,
                });
            }
        }
        Ok(())
    }

    /// Groups of nodes that reach one another, those first that the others reach (Tarjan's
    /// algorithm, on a stack of its own: a policy must not be able to end the loader's).
    fn groups(&self, edges: impl Fn(&Node) -> &BTreeSet<usize>) -> Vec<Vec<usize>> {
        let mut order: Vec<Option<usize>> = vec![None; self.nodes.len()];
        let mut low = vec![usize::MAX; self.nodes.len()];
        let (mut open, mut groups, mut next) = (Vec::new(), Vec::new(), 0);
        let mut on_path = vec![false; self.nodes.len()];
        for root in 0..self.nodes.len() {
            if order.get(root).is_none_or(Option::is_some) {
                continue;
            }
            let mut path = vec![(root, None::<usize>)];
            while let Some((node, last)) = path.pop() {
                if last.is_none() {
                    if order.get(node).is_none_or(Option::is_some) {
                        continue;
                    }
                    set(&mut order, node, Some(next));
                    set(&mut low, node, next);
                    set(&mut on_path, node, true);
                    open.push(node);
                    next += 1;
                }
                if let Some(child) = last {
                    let of_child = low.get(child).copied();
                    lower(&mut low, node, of_child);
                }
                let after = last.map_or(0, |child| child + 1);
                let mut children = self
                    .nodes
                    .get(node)
                    .into_iter()
                    .flat_map(|n| edges(n).range(after..));
                let mut descend = None;
                for &child in children.by_ref() {
                    match order.get(child).copied().flatten() {
                        None => {
                            descend = Some(child);
                            break;
                        }
                        Some(seen) if on_path.get(child) == Some(&true) => {
                            lower(&mut low, node, Some(seen))
                        }
                        Some(_) => {}
                    }
                }
                if let Some(child) = descend {
                    path.push((node, Some(child)));
                    path.push((child, None));
                    continue;
                }
                if low.get(node).copied() == order.get(node).copied().flatten() {
                    let from = open.iter().rposition(|&other| other == node).unwrap_or(0);
                    let group = open.split_off(from);
                    for &member in &group {
                        set(&mut on_path, member, false);
                    }
                    groups.push(group);
                }
            }
        }
        groups
    }
}

fn set<T>(values: &mut [T], at: usize, value: T) {
    if let Some(place) = values.get_mut(at) {
        *place = value;
    }
}

fn lower(low: &mut [usize], node: usize, to: Option<usize>) {
    if let (Some(low), Some(to)) = (low.get_mut(node), to) {
        *low = (*low).min(to);
    }
}
