#include "limits.hpp"

#include <algorithm>
#include <string>

#include "failure.hpp"

namespace adatom_kim {
namespace {

std::string formula(std::vector<std::string> const& species,
                    std::vector<std::int64_t> const& counts) {
  std::string text;
  for (std::size_t s = 0; s < species.size(); ++s)
    if (counts[s] != 0) text += species[s] + (counts[s] == 1 ? "" : std::to_string(counts[s]));
  return text;
}

std::int64_t sum(std::vector<std::int64_t> const& counts) {
  std::int64_t total = 0;
  for (std::int64_t count : counts) total += count;
  return total;
}

}  // namespace

void require_composition(ModelDescription const& description, Configuration const& atoms,
                         std::vector<std::int64_t> const& values) {
  std::vector<std::int64_t> const& unit = description.composition;
  if (unit.empty()) return;
  std::vector<std::int64_t> counts(unit.size(), 0);
  for (int atom : atoms.contributors) {
    auto const value = atoms.species[static_cast<std::size_t>(atom)];
    auto const code = std::find(values.begin(), values.end(), value) - values.begin();
    ++counts[static_cast<std::size_t>(code)];
  }
  // Whole numbers are compared, so that nothing is lost to rounding.
  std::int64_t const all = sum(counts), one = sum(unit);
  bool same = description.composition_multiples || all == one;
  for (std::size_t s = 0; s < unit.size(); ++s) same = same && counts[s] * one == unit[s] * all;
  if (same) return;
  throw Failure("The atoms are " + formula(description.species, counts) +
                ", and the weights of this model are for " + formula(description.species, unit) +
                (description.composition_multiples ? " (any number of formula units)" : "") +
                " only. Export the model for this composition; or set ADATOM_KIM_COMPOSITION=any "
                "to use these weights all the same.");
}

void require_few_neighbours(NeighbourLists const& lists, int limit) {
  if (limit == 0) return;
  for (std::size_t atom = 0; atom + 1 < lists.start.size(); ++atom) {
    int const count = lists.start[atom + 1] - lists.start[atom];
    if (count > limit)
      throw Failure("Atom " + std::to_string(atom) + " has " + std::to_string(count) +
                    " neighbours within the cutoff, and the network was trained with the nearest " +
                    std::to_string(limit) +
                    " only, which a part of the system cannot choose as the whole does.");
  }
}

}  // namespace adatom_kim
