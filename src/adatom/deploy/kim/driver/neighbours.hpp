// Neighbour lists within the cutoff, cut out of the longer ones that a simulator gives.
#pragma once

#include <functional>
#include <vector>

#include "configuration.hpp"

namespace adatom_kim {

struct Neighbours {
  int const* begin = nullptr;
  int count = 0;
};

// The simulator's list of one atom. It may be in any order and longer than the cutoff asks for,
// and it is valid until the next call.
using NeighbourSource = std::function<Neighbours(int atom)>;

// Lists of some atoms, one after the other.
struct NeighbourLists {
  std::vector<int> start;   // [N+1] where the list of an atom starts; empty for atoms left out
  std::vector<int> atoms;   // the lists
};

// The lists of ``wanted`` (ascending), without what is farther than the cutoff.
NeighbourLists lists_within(Configuration const& atoms, std::vector<int> const& wanted,
                            double cutoff, NeighbourSource const& source);

// Call ``visit(j)`` for every neighbour of ``atom`` within the cutoff.
template <typename Visit>
void for_each_within(Configuration const& atoms, int atom, double cutoff,
                     NeighbourSource const& source, Visit&& visit) {
  double const* const x = atoms.coordinates.data();
  double const* const center = x + 3 * static_cast<std::size_t>(atom);
  double const limit = cutoff * cutoff;
  Neighbours const found = source(atom);
  for (int n = 0; n < found.count; ++n) {
    double const* const other = x + 3 * static_cast<std::size_t>(found.begin[n]);
    double const dx = other[0] - center[0], dy = other[1] - center[1], dz = other[2] - center[2];
    if (dx * dx + dy * dy + dz * dz <= limit) visit(found.begin[n]);
  }
}

}  // namespace adatom_kim
