// The atoms of one evaluation, in angstrom.
#pragma once

#include <cstdint>
#include <vector>

namespace adatom_kim {

struct Configuration {
  std::vector<std::int64_t> species;  // [N] codes, or atomic numbers if the model wants these
  std::vector<double> coordinates;    // [3N] angstrom
  std::vector<char> contributing;     // [N] 1, or 0 for ghosts
  std::vector<int> contributors;      // [C] indices of those that contribute, ascending

  int size() const { return static_cast<int>(species.size()); }
};

}  // namespace adatom_kim
