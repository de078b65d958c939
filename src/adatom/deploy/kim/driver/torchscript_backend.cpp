#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>

#include "backend.hpp"
#include "failure.hpp"

namespace adatom_kim {
namespace {

class TorchScript final : public Backend {
 public:
  TorchScript(std::string const& path, torch::Device device)
      : module_(torch::jit::load(path, device)) {
    module_.eval();
    // Only positions are differentiated; weights that ask for gradients would cost time.
    for (torch::Tensor const& parameter : module_.parameters()) parameter.requires_grad_(false);
  }

  std::vector<torch::Tensor> run(std::vector<torch::Tensor> const& inputs) const override {
    // The optimizer changes the order of operations after the first calls, and with it the last
    // digits: the same atoms must give the same numbers whenever they come. This thread only.
    torch::jit::GraphOptimizerEnabledGuard const plain(false);
    std::vector<torch::IValue> arguments(inputs.begin(), inputs.end());
    // forward is const in effect, but not in the type.
    torch::IValue const result = torch::jit::Module(module_).forward(std::move(arguments));
    if (result.isTensor()) return {result.toTensor()};
    if (result.isTuple()) {
      std::vector<torch::Tensor> all;
      for (torch::IValue const& each : result.toTupleRef().elements()) {
        if (!each.isTensor()) throw Failure("The model returns something that is no tensor.");
        all.push_back(each.toTensor());
      }
      return all;
    }
    if (result.isTensorList()) return result.toTensorVector();
    throw Failure("The model returns neither a tensor nor a tuple of tensors.");
  }

  bool differentiable() const override { return true; }

 private:
  torch::jit::Module module_;
};

}  // namespace

std::unique_ptr<Backend> load_torchscript(std::string const& path, torch::Device device) {
  return std::make_unique<TorchScript>(path, device);
}

}  // namespace adatom_kim
