#include "neighbours.hpp"

namespace adatom_kim {

NeighbourLists lists_within(Configuration const& atoms, std::vector<int> const& wanted,
                            double cutoff, NeighbourSource const& source) {
  NeighbourLists lists;
  lists.start.assign(static_cast<std::size_t>(atoms.size()) + 1, 0);
  std::size_t next = 0;
  for (int atom = 0; atom < atoms.size(); ++atom) {
    lists.start[static_cast<std::size_t>(atom)] = static_cast<int>(lists.atoms.size());
    if (next == wanted.size() || wanted[next] != atom) continue;
    ++next;
    for_each_within(atoms, atom, cutoff, source, [&](int j) { lists.atoms.push_back(j); });
  }
  lists.start.back() = static_cast<int>(lists.atoms.size());
  return lists;
}

}  // namespace adatom_kim
