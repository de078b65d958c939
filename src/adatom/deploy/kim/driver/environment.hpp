// The environment variables that steer the driver while it runs.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace adatom_kim {

// How a variable is looked up: its value, or nothing where it is not set.
using Lookup = std::function<std::optional<std::string>(char const* name)>;

// Look up variables of this process.
std::optional<std::string> process_variable(char const* name);

struct Environment {
  std::string device;            // KIM_MODEL_EXECUTION_DEVICE: cpu, cuda or cuda:N
  bool elements_map = false;     // KIM_MODEL_ELEMENTS_MAP: species are atomic numbers
  int threads = 1;               // ADATOM_KIM_THREADS, else OMP_NUM_THREADS, else 1
  std::optional<int> local_rank; // rank on this node, as the launcher says
  int processes = 1;             // of the whole run, as the launcher says
  bool any_composition = false;  // ADATOM_KIM_COMPOSITION=any: weights for another one are meant
};

// Read all of them. Throws Failure on a number that is none.
Environment read_environment(Lookup const& lookup);

}  // namespace adatom_kim
