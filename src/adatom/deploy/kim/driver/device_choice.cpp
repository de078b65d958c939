#include "device_choice.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "failure.hpp"

namespace adatom_kim {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

[[noreturn]] void unknown(std::string const& requested) {
  throw Failure("The device '" + requested +
                "' in KIM_MODEL_EXECUTION_DEVICE is unknown; expected cpu, cuda or cuda:N.");
}

int index_of(std::string const& name, std::string const& requested) {
  int index = 0;
  char const* const end = name.data() + name.size();
  auto const [stop, error] = std::from_chars(name.data() + 5, end, index);
  if (error != std::errc() || stop != end || index < 0) unknown(requested);
  return index;
}

}  // namespace

std::string choose_device(std::string const& requested, int gpu_count,
                          std::optional<int> local_rank) {
  std::string const name = lower(requested);
  if (name == "cpu") return "cpu";
  bool const numbered = name.rfind("cuda:", 0) == 0;
  if (name != "cuda" && !numbered) unknown(requested);
  int const index = numbered ? index_of(name, requested) : 0;
  if (gpu_count < 1)
    throw Failure("KIM_MODEL_EXECUTION_DEVICE is '" + requested +
                  "', but this PyTorch sees no CUDA device; unset it, or install a PyTorch with "
                  "CUDA on a machine with a GPU and run: adatom kim install-driver");
  if (!numbered) return "cuda:" + std::to_string(local_rank.value_or(0) % gpu_count);
  if (index >= gpu_count)
    throw Failure("KIM_MODEL_EXECUTION_DEVICE is '" + requested + "', but this process sees " +
                  std::to_string(gpu_count) + " CUDA device(s), counted from 0.");
  return "cuda:" + std::to_string(index);
}

}  // namespace adatom_kim
