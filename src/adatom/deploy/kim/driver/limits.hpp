// What a model holds for beyond its elements: a composition, and a number of neighbours.
#pragma once

#include <cstdint>
#include <vector>

#include "model_description.hpp"
#include "neighbours.hpp"

namespace adatom_kim {

// Throws Failure unless the contributing atoms have the composition that the weights are for, if
// they are for one only. ``values`` are what Configuration::species holds, by species code.
void require_composition(ModelDescription const& description, Configuration const& atoms,
                         std::vector<std::int64_t> const& values);

// Throws Failure if an atom has more neighbours than the model takes; 0 means any number.
void require_few_neighbours(NeighbourLists const& lists, int limit);

}  // namespace adatom_kim
