#include "backend.hpp"

#include <torch/version.h>

#include "failure.hpp"
#include "sha256.hpp"

namespace adatom_kim {
namespace {

bool ends_with(std::string const& text, std::string const& ending) {
  return text.size() >= ending.size() &&
         text.compare(text.size() - ending.size(), ending.size(), ending) == 0;
}

// Compiled code is bound to one version of PyTorch; 2.13.1+cpu and 2.13.0 agree here.
void require_compiled_for_this_torch(std::string const& version) {
  std::string const here =
      std::to_string(TORCH_VERSION_MAJOR) + "." + std::to_string(TORCH_VERSION_MINOR) + ".";
  if (version.rfind(here, 0) != 0)
    throw Failure("The model was compiled with PyTorch " + version + ", and the driver has " +
                  TORCH_VERSION + "; install the model again with: adatom kim install");
}

}  // namespace

std::unique_ptr<Backend> load_backend(std::string const& path, ModelDescription const& description,
                                      torch::Device device) {
  if (description.model_sha256 && sha256_of_file(path) != *description.model_sha256)
    throw Failure("The model file '" + description.model_file +
                  "' is damaged: its SHA-256 is not the one in adatom.json.");
  if (description.torch_version) require_compiled_for_this_torch(*description.torch_version);
  try {
    if (ends_with(path, ".pt2")) return load_aotinductor(path, device);
    return load_torchscript(path, device);
  } catch (c10::Error const& error) {
    throw Failure("The model file '" + description.model_file + "' cannot be loaded: " +
                  one_line(error.what_without_backtrace()));
  } catch (std::exception const& error) {
    throw Failure("The model file '" + description.model_file + "' cannot be loaded: " +
                  one_line(error.what()));
  }
}

}  // namespace adatom_kim
