#include "staged_graph.hpp"

#include <algorithm>

#include "limits.hpp"

namespace adatom_kim {
namespace {

// Pairs (j, i) of a layer: j sends, i receives.
struct Pairs {
  std::vector<int> sender;
  std::vector<int> receiver;
  void add(int j, int i) { sender.push_back(j), receiver.push_back(i); }
};

// Sort by sender, then stably by receiver; two counting passes, so O(E + N).
EdgeList sorted(Pairs const& pairs, int atoms) {
  std::size_t const edges = pairs.sender.size();
  std::vector<int> by_sender(edges);
  std::vector<std::size_t> place(static_cast<std::size_t>(atoms) + 1, 0);
  auto const count = [&](std::vector<int> const& keys) {
    std::fill(place.begin(), place.end(), 0);
    for (int key : keys) ++place[static_cast<std::size_t>(key) + 1];
    for (std::size_t a = 1; a < place.size(); ++a) place[a] += place[a - 1];
  };
  count(pairs.sender);
  for (std::size_t e = 0; e < edges; ++e)
    by_sender[place[static_cast<std::size_t>(pairs.sender[e])]++] = static_cast<int>(e);
  count(pairs.receiver);
  EdgeList list{std::vector<std::int64_t>(edges), std::vector<std::int64_t>(edges)};
  for (int e : by_sender) {
    int const receiver = pairs.receiver[static_cast<std::size_t>(e)];
    std::size_t const to = place[static_cast<std::size_t>(receiver)]++;
    list.first[to] = pairs.sender[static_cast<std::size_t>(e)];
    list.second[to] = receiver;
  }
  return list;
}

// Atoms that are ``seen`` already or that some list names, ascending.
std::vector<int> named_by(NeighbourLists const& lists, std::vector<char> seen) {
  for (int j : lists.atoms) seen[static_cast<std::size_t>(j)] = 1;
  std::vector<int> named;
  for (std::size_t a = 0; a < seen.size(); ++a)
    if (seen[a]) named.push_back(static_cast<int>(a));
  return named;
}

}  // namespace

std::vector<EdgeList> staged_graph(Configuration const& atoms, ModelDescription const& description,
                                   NeighbourSource const& source) {
  std::vector<EdgeList> graph;
  std::vector<int> layer = atoms.contributors;
  std::vector<char> inside(static_cast<std::size_t>(atoms.size()));
  for (int k = 0; k < description.layers; ++k) {
    std::fill(inside.begin(), inside.end(), 0);
    for (int i : layer) inside[static_cast<std::size_t>(i)] = 1;
    NeighbourLists const lists = lists_within(atoms, layer, description.cutoff, source);
    require_few_neighbours(lists, description.max_neighbors);
    Pairs pairs;
    for (int i : layer) {
      auto const a = static_cast<std::size_t>(i);
      for (int n = lists.start[a]; n < lists.start[a + 1]; ++n) {
        int const j = lists.atoms[static_cast<std::size_t>(n)];
        pairs.add(j, i);
        // The other direction comes from the list of j, unless that is not read.
        if (!description.directed_edges && !inside[static_cast<std::size_t>(j)]) pairs.add(i, j);
      }
    }
    graph.push_back(sorted(pairs, atoms.size()));
    // Atoms that receive nothing from each other are not named again. With both directions they
    // receive their edges all the same.
    if (!description.directed_edges) std::fill(inside.begin(), inside.end(), 0);
    layer = named_by(lists, inside);
  }
  return graph;
}

}  // namespace adatom_kim
