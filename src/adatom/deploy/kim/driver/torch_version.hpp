// Whether the PyTorch of this process is the one that the driver was built with.
#pragma once

#include <cstdint>
#include <string>

namespace adatom_kim {

// Args: versions as PyTorch packs them, major, minor and patch in the three highest bytes.
// Throws Failure unless major and minor agree: another PyTorch has another layout of its classes.
void require_same_torch(std::uint64_t built_with, std::uint64_t found);

// "2.13.0" of a packed version.
std::string version_text(std::uint64_t packed);

}  // namespace adatom_kim
