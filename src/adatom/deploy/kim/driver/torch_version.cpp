#include "torch_version.hpp"

#include "failure.hpp"

namespace adatom_kim {

std::string version_text(std::uint64_t packed) {
  return std::to_string(packed >> 56) + "." + std::to_string((packed >> 48) & 0xff) + "." +
         std::to_string((packed >> 40) & 0xff);
}

void require_same_torch(std::uint64_t built_with, std::uint64_t found) {
  if (built_with >> 48 == found >> 48) return;
  throw Failure("The driver was built with PyTorch " + version_text(built_with) +
                ", and this process uses PyTorch " + version_text(found) +
                "; build it again with that Python: adatom kim install-driver");
}

}  // namespace adatom_kim
