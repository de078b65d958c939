// The tensors that forward is called with, in the published order.
#pragma once

#include <torch/types.h>

#include <vector>

#include "descriptor.hpp"
#include "geometry.hpp"

namespace adatom_kim {

// Pairs of atoms whose difference x[first] - x[second] a model was given.
struct PairTensors {
  torch::Tensor first;    // i64[E]
  torch::Tensor second;   // i64[E]
  torch::Tensor vectors;  // f64[E,3], a leaf with gradients
};

struct ModelInputs {
  std::vector<torch::Tensor> arguments;
  torch::Tensor coordinates;       // f64[M,3], a leaf; M is N, or 2 for a padded single atom
  std::vector<PairTensors> pairs;  // only if vectors were asked for
};

struct InputOptions {
  torch::Device device = torch::kCPU;
  bool gradients = true;                   // coordinates (and vectors) ask for gradients
  bool vectors = false;                    // append edge vectors
  Descriptor const* descriptor = nullptr;  // descriptor pattern only
};

// Make the arguments. They may share memory with ``atoms`` and ``geometry``.
//
// raw:        species i64[N], coordinates f64[N,3], list lengths i32[C], lists i32[L],
//             mask i64[N] (1 contributing, 0 ghost) [, vectors f64[L,3]]
// descriptor: values f64[C,width]
// graph:      species i64[M], coordinates f64[M,3], layers i64[2,E_k] (the smallest first),
//             batch index i64[M] (0 contributing, 1 ghost) [, vectors f64[E_k,3] per layer]
ModelInputs make_inputs(ModelDescription const& description, Configuration const& atoms,
                        Geometry const& geometry, InputOptions const& options);

}  // namespace adatom_kim
