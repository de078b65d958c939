#include "geometry.hpp"

#include "limits.hpp"

namespace adatom_kim {

Geometry read_geometry(ModelDescription const& description, Configuration const& atoms,
                       NeighbourSource const& source) {
  Geometry found;
  if (description.pattern == Pattern::graph)
    found.layers = staged_graph(atoms, description, source);
  else
    found.lists = lists_within(atoms, atoms.contributors, description.cutoff, source);
  require_few_neighbours(found.lists, description.max_neighbors);
  return found;
}

}  // namespace adatom_kim
