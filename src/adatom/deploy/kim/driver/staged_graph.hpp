// One edge list per message-passing layer, each as small as it can be.
#pragma once

#include <cstdint>
#include <vector>

#include "model_description.hpp"
#include "neighbours.hpp"

namespace adatom_kim {

// Edges of one layer, sorted by the second atom (the one that receives), then by the first.
struct EdgeList {
  std::vector<std::int64_t> first;
  std::vector<std::int64_t> second;
};

// Layer 0 holds the edges that touch contributing atoms; layer k those that touch atoms which
// k steps along edges lead to. Both directions of each edge are there. A network applies the
// widest first: after that, the atoms that the next layer reads are up to date.
//
// Needs lists of ghosts up to ``layers - 1`` steps away; reading each list once is enough.
//
// With ``directed_edges`` only those directions are there that atoms of the layer receive, about
// half of the edges of a thin layer; networks that sum over received edges need no others.
std::vector<EdgeList> staged_graph(Configuration const& atoms, ModelDescription const& description,
                                   NeighbourSource const& source);

}  // namespace adatom_kim
