// What runs a network: one class, whatever the file format is.
#pragma once

#include <c10/core/Device.h>
#include <torch/types.h>

#include <memory>
#include <vector>

#include "model_description.hpp"

namespace adatom_kim {

class Backend {
 public:
  virtual ~Backend() = default;

  // Call forward. May be called by several threads at once.
  virtual std::vector<torch::Tensor> run(std::vector<torch::Tensor> const& inputs) const = 0;

  // Whether outputs can be differentiated with respect to inputs.
  virtual bool differentiable() const = 0;
};

// Load the model file on a device, by its suffix: .pt is TorchScript, .pt2 an ahead-of-time
// compiled package. Throws Failure if it is damaged or does not fit.
std::unique_ptr<Backend> load_backend(std::string const& path, ModelDescription const& description,
                                      torch::Device device);

std::unique_ptr<Backend> load_torchscript(std::string const& path, torch::Device device);
std::unique_ptr<Backend> load_aotinductor(std::string const& path, torch::Device device);

}  // namespace adatom_kim
