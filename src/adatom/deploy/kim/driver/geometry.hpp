// Which atoms see which: what a model of each pattern needs of the simulator's lists.
#pragma once

#include <vector>

#include "model_description.hpp"
#include "neighbours.hpp"
#include "staged_graph.hpp"

namespace adatom_kim {

struct Geometry {
  NeighbourLists lists;          // raw and descriptor: of contributing atoms
  std::vector<EdgeList> layers;  // graph: one per layer

  // Whether no two atoms see each other, so that an energy may be without derivatives.
  bool empty() const { return lists.atoms.empty() && (layers.empty() || layers[0].first.empty()); }
};

Geometry read_geometry(ModelDescription const& description, Configuration const& atoms,
                       NeighbourSource const& source);

}  // namespace adatom_kim
