// Which device a process computes on: a pure function, so that it can be tested without a GPU.
#pragma once

#include <optional>
#include <string>

namespace adatom_kim {

// Args:
//   requested: "cpu", "cuda" or "cuda:N" (as in KIM_MODEL_EXECUTION_DEVICE; case does not matter).
//   gpu_count: GPUs that this process sees. CUDA_VISIBLE_DEVICES is honoured by the counting, so
//     indices always start at 0.
//   local_rank: Rank on this node, or nothing where there is no launcher.
// Returns: "cpu" or "cuda:N"; ranks go round-robin over the GPUs of their node.
// Throws Failure if there is no such device.
std::string choose_device(std::string const& requested, int gpu_count,
                          std::optional<int> local_rank);

}  // namespace adatom_kim
