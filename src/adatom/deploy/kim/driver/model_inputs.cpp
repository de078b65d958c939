#include "model_inputs.hpp"

#include <ATen/Functions.h>
#include <c10/core/GradMode.h>

namespace adatom_kim {
namespace {

// Where the only atom of a graph gets a companion, far from everything.
constexpr double far_away = 999.0;

template <typename T>
torch::Tensor view(std::vector<T> const& values, torch::Dtype dtype) {
  // from_blob wants a mutable pointer; nobody writes.
  return torch::from_blob(const_cast<T*>(values.data()), {static_cast<std::int64_t>(values.size())},
                          dtype);
}

torch::Tensor coordinates_of(Configuration const& atoms, bool padded) {
  torch::Tensor found = view(atoms.coordinates, torch::kFloat64).view({-1, 3});
  return padded ? torch::cat({found, torch::full({1, 3}, far_away, torch::kFloat64)}) : found;
}

// 1 for atoms that contribute.
torch::Tensor mask_of(Configuration const& atoms) {
  return view(atoms.contributing, torch::kInt8).to(torch::kInt64);
}

std::vector<int> lengths_of(Configuration const& atoms, NeighbourLists const& lists) {
  std::vector<int> lengths;
  for (int i : atoms.contributors) {
    auto const a = static_cast<std::size_t>(i);
    lengths.push_back(lists.start[a + 1] - lists.start[a]);
  }
  return lengths;
}

class Maker {
 public:
  Maker(ModelDescription const& description, Configuration const& atoms, Geometry const& geometry,
        InputOptions const& options)
      : description_(description), atoms_(atoms), geometry_(geometry), options_(options) {}

  ModelInputs make() {
    bool const padded = description_.pattern == Pattern::graph && atoms_.size() == 1;
    torch::Tensor species = view(atoms_.species, torch::kInt64);
    if (padded) species = species.repeat({2});
    inputs_.coordinates = leaf(coordinates_of(atoms_, padded));
    if (description_.pattern == Pattern::descriptor) {
      describe(species);
      return std::move(inputs_);
    }
    inputs_.arguments = {on_device(species), inputs_.coordinates};
    if (description_.pattern == Pattern::raw)
      add_lists();
    else
      add_layers(padded);
    for (PairTensors const& pair : inputs_.pairs) inputs_.arguments.push_back(pair.vectors);
    return std::move(inputs_);
  }

 private:
  torch::Tensor on_device(torch::Tensor const& tensor) const { return tensor.to(options_.device); }

  torch::Tensor leaf(torch::Tensor const& tensor) const {
    return on_device(tensor).detach().requires_grad_(options_.gradients);
  }

  void add_pairs(torch::Tensor first, torch::Tensor second) {
    c10::NoGradGuard const constant;
    torch::Tensor const& x = inputs_.coordinates;
    torch::Tensor const vectors = x.index_select(0, first) - x.index_select(0, second);
    inputs_.pairs.push_back({first, second, leaf(vectors)});
  }

  torch::Tensor centers(torch::Tensor const& lengths) const {
    torch::Tensor const contributors = view(atoms_.contributors, torch::kInt32).to(torch::kInt64);
    return on_device(contributors.repeat_interleave(lengths.to(torch::kInt64)));
  }

  void add_lists() {
    // Owned by the tensor, unlike the views, whose vectors live on outside.
    torch::Tensor const lengths = view(lengths_of(atoms_, geometry_.lists), torch::kInt32).clone();
    torch::Tensor const lists = on_device(view(geometry_.lists.atoms, torch::kInt32));
    inputs_.arguments.push_back(on_device(lengths));
    inputs_.arguments.push_back(lists);
    inputs_.arguments.push_back(on_device(mask_of(atoms_)));
    if (options_.vectors) add_pairs(lists.to(torch::kInt64), centers(lengths));
  }

  void add_layers(bool padded) {
    for (EdgeList const& layer : geometry_.layers) {
      torch::Tensor const edges = on_device(
          torch::stack({view(layer.first, torch::kInt64), view(layer.second, torch::kInt64)}));
      inputs_.arguments.push_back(edges);
      if (options_.vectors) add_pairs(edges[0], edges[1]);
    }
    torch::Tensor ghosts = 1 - mask_of(atoms_);
    if (padded) ghosts = torch::cat({ghosts, torch::ones({1}, torch::kInt64)});
    inputs_.arguments.push_back(on_device(ghosts));
  }

  void describe(torch::Tensor const& species) {
    torch::Tensor const lengths = view(lengths_of(atoms_, geometry_.lists), torch::kInt32).clone();
    DescriptorInput input;
    input.species = on_device(species);
    input.coordinates = inputs_.coordinates;
    input.contributors = on_device(view(atoms_.contributors, torch::kInt32).to(torch::kInt64));
    input.centers = centers(lengths);
    input.neighbours = on_device(view(geometry_.lists.atoms, torch::kInt32).to(torch::kInt64));
    inputs_.arguments = {options_.descriptor->values(input)};
  }

  ModelDescription const& description_;
  Configuration const& atoms_;
  Geometry const& geometry_;
  InputOptions const& options_;
  ModelInputs inputs_;
};

}  // namespace

ModelInputs make_inputs(ModelDescription const& description, Configuration const& atoms,
                        Geometry const& geometry, InputOptions const& options) {
  return Maker(description, atoms, geometry, options).make();
}

}  // namespace adatom_kim
