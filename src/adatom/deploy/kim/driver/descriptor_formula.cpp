#include "descriptor_formula.hpp"

#include <ATen/Functions.h>

#include <algorithm>
#include <map>
#include <numbers>
#include <set>

namespace adatom_kim {

PairCutoffs::PairCutoffs(Words& words, std::vector<std::string> const& species,
                         torch::Device device) {
  auto const code_of = [&](std::string const& name) {
    auto const found = std::find(species.begin(), species.end(), name);
    if (found == species.end())
      throw Failure("It lists the species '" + name + "', which the parameter file does not.");
    return static_cast<std::size_t>(found - species.begin());
  };
  auto const count = static_cast<std::size_t>(words.whole("the number of species"));
  std::map<std::set<std::size_t>, double> found;
  double ignored = 0.0;
  while (!words.empty() && !is_number(words.peek(), ignored)) {
    std::size_t const first = code_of(words.next("a species"));
    std::size_t const second = code_of(words.next("a second species"));
    double const length = words.length("a cutoff of two species");
    if (found.emplace(std::set{first, second}, length).first->second != length)
      throw Failure("It gives two different cutoffs for " + species[first] + "-" +
                    species[second] + ".");
    for (std::size_t code : {first, second})
      if (std::find(file_order_.begin(), file_order_.end(), code) == file_order_.end())
        file_order_.push_back(code);
  }
  if (file_order_.size() != count)
    throw Failure("It promises " + std::to_string(count) + " species and lists " +
                  std::to_string(file_order_.size()) + ".");
  auto const size = static_cast<std::int64_t>(species.size());
  std::vector<double> table;
  for (std::size_t i = 0; i < species.size(); ++i)
    for (std::size_t j = 0; j < species.size(); ++j) {
      auto const pair = found.find({i, j});
      if (pair == found.end())
        throw Failure("It gives no cutoff for " + species[i] + "-" + species[j] + ".");
      table.push_back(pair->second);
    }
  longest_ = *std::max_element(table.begin(), table.end());
  shortest_ = *std::min_element(table.begin(), table.end());
  table_ = torch::tensor(table, torch::kFloat64).view({size, size}).to(device);
}

PairCutoffs::PairCutoffs(std::vector<std::string> const& listed, double length,
                         std::vector<std::string> const& species, torch::Device device)
    : longest_(length), shortest_(length) {
  for (std::string const& name : listed) {
    auto const found = std::find(species.begin(), species.end(), name);
    if (found == species.end())
      throw Failure("It lists the species '" + name + "', which the parameter file does not.");
    file_order_.push_back(static_cast<std::size_t>(found - species.begin()));
  }
  if (std::set(listed.begin(), listed.end()).size() != species.size() ||
      listed.size() != species.size())
    throw Failure("It lists other species than the parameter file.");
  auto const size = static_cast<std::int64_t>(species.size());
  table_ = torch::full({size, size}, length, torch::kFloat64).to(device);
}

torch::Tensor PairCutoffs::of(torch::Tensor const& first, torch::Tensor const& second) const {
  return table_.flatten().index_select(0, first * table_.size(0) + second);
}

torch::Tensor cosine_cutoff(torch::Tensor const& distances, torch::Tensor const& cutoffs) {
  torch::Tensor const inside = distances.lt(cutoffs).to(distances.dtype());
  return 0.5 * (torch::cos(std::numbers::pi * distances / cutoffs) + 1.0) * inside;
}

}  // namespace adatom_kim
