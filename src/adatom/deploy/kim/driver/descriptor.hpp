// Fingerprints of atoms, for models that take these instead of positions.
#pragma once

#include <torch/types.h>

#include <memory>
#include <string>

#include "model_description.hpp"

namespace adatom_kim {

struct DescriptorInput {
  torch::Tensor species;       // i64[N] codes, as the parameter file orders the species
  torch::Tensor coordinates;   // f64[N,3] angstrom, with gradients wherever these are wanted
  torch::Tensor contributors;  // i64[C] atoms that get a row, ascending
  torch::Tensor centers;       // i64[E] the contributor of a pair, ascending
  torch::Tensor neighbours;    // i64[E] the other atom, within the cutoff
};

class Descriptor {
 public:
  virtual ~Descriptor() = default;

  // f64[C,width], made of operations that autograd can differentiate.
  virtual torch::Tensor values(DescriptorInput const& input) const = 0;
};

// Args: the kind in lower case, and the path of the descriptor file ("" where there is none).
// Throws Failure if the kind is unknown or the file is wrong.
std::unique_ptr<Descriptor> load_descriptor(std::string const& kind, std::string const& path,
                                            ModelDescription const& description,
                                            torch::Device device);

}  // namespace adatom_kim
