//! Circles of files.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use super::resolve::Arrow;
use super::tree::Tree;

/// For each file, those that it uses, with the names that it takes from them.
type Graph<'a> = BTreeMap<usize, BTreeMap<usize, Vec<&'a str>>>;

/// For each set of files that all reach each other, the shortest circle through its first file, as a chain.
pub(super) fn all(tree: &Tree, arrows: &[Arrow]) -> Vec<String> {
    let mut graph = Graph::new();
    for arrow in arrows {
        graph.entry(arrow.from).or_default().entry(arrow.to).or_default().push(&arrow.name);
    }
    let mut told = Vec::new();
    let mut chains = Vec::new();
    for &file in graph.keys() {
        let from_here = reached(&graph, file);
        if told.contains(&file) || !from_here.contains_key(&file) {
            continue;
        }
        let tied: Vec<_> = from_here.keys().copied().filter(|&to| reached(&graph, to).contains_key(&file)).collect();
        chains.push(chain(tree, &graph, file, &from_here, tied.len()));
        told.extend(tied);
    }
    chains
}

/// Every file that `start` reaches, itself only where a way leads back to it, with the file before it on a shortest way.
fn reached(graph: &Graph<'_>, start: usize) -> BTreeMap<usize, usize> {
    let mut reached = BTreeMap::new();
    let mut next = VecDeque::from([start]);
    while let Some(file) = next.pop_front() {
        for &to in graph.get(&file).into_iter().flat_map(BTreeMap::keys) {
            if let Entry::Vacant(place) = reached.entry(to) {
                place.insert(file);
                next.push_back(to);
            }
        }
    }
    reached
}

/// Spells the way from `start` back to itself, one of `tied` files that all reach each other.
fn chain(tree: &Tree, graph: &Graph<'_>, start: usize, before: &BTreeMap<usize, usize>, tied: usize) -> String {
    let mut steps = Vec::new();
    let mut file = start;
    while steps.is_empty() || file != start {
        let from = before[&file];
        steps.push(format!("-> {}: {}", tree.files[file], graph[&from][&file].join(", ")));
        file = from;
    }
    steps.reverse();
    format!("a circle among {tied} files: {} {}", tree.files[start], steps.join(" "))
}
