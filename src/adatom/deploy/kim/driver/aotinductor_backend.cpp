#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include "backend.hpp"

namespace adatom_kim {
namespace {

class AotInductor final : public Backend {
 public:
  AotInductor(std::string const& path, torch::Device device)
      : loader_(path, "model", /*run_single_threaded=*/false, /*num_runners=*/1,
                device.is_cuda() ? device.index() : static_cast<c10::DeviceIndex>(-1)) {}

  std::vector<torch::Tensor> run(std::vector<torch::Tensor> const& inputs) const override {
    c10::InferenceMode const no_autograd;
    return loader_.run(inputs);
  }

  bool differentiable() const override { return false; }

 private:
  // The loader queues calls of several threads itself, but does not say const.
  mutable torch::inductor::AOTIModelPackageLoader loader_;
};

}  // namespace

std::unique_ptr<Backend> load_aotinductor(std::string const& path, torch::Device device) {
  return std::make_unique<AotInductor>(path, device);
}

}  // namespace adatom_kim
