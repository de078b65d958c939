#include "environment.hpp"

#include <charconv>
#include <cstdlib>

#include "failure.hpp"

namespace adatom_kim {
namespace {

// What launchers call the rank of a process on its node: Open MPI, MPICH and Intel MPI (Hydra),
// MVAPICH2, Slurm, PMI, PMIx-based launchers that follow torchrun.
constexpr char const* rank_variables[] = {"OMPI_COMM_WORLD_LOCAL_RANK",
                                          "MPI_LOCALRANKID",
                                          "MV2_COMM_WORLD_LOCAL_RANK",
                                          "SLURM_LOCALID",
                                          "PMI_LOCAL_RANK",
                                          "PALS_LOCAL_RANKID",
                                          "LOCAL_RANK"};

// What they call the number of processes.
constexpr char const* size_variables[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE",
                                          "SLURM_NTASKS", "WORLD_SIZE"};

int whole_number(char const* name, std::string const& text, int smallest) {
  int value = 0;
  char const* const end = text.data() + text.size();
  auto const [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < smallest)
    throw Failure("The environment variable " + std::string(name) + " is '" + text +
                  "'; expected a whole number of at least " + std::to_string(smallest) + ".");
  return value;
}

int threads_of(Lookup const& lookup) {
  if (auto const own = lookup("ADATOM_KIM_THREADS"))
    return whole_number("ADATOM_KIM_THREADS", *own, 1);
  // OMP_NUM_THREADS may be a list, one number per level of nesting; the first one is meant.
  if (auto const openmp = lookup("OMP_NUM_THREADS"))
    return whole_number("OMP_NUM_THREADS", openmp->substr(0, openmp->find(',')), 1);
  return 1;
}

}  // namespace

std::optional<std::string> process_variable(char const* name) {
  char const* const value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

Environment read_environment(Lookup const& lookup) {
  Environment found;
  found.device = lookup("KIM_MODEL_EXECUTION_DEVICE").value_or("cpu");
  found.elements_map = lookup("KIM_MODEL_ELEMENTS_MAP").has_value();
  found.threads = threads_of(lookup);
  for (char const* name : rank_variables) {
    if (auto const rank = lookup(name)) {
      found.local_rank = whole_number(name, *rank, 0);
      break;
    }
  }
  for (char const* name : size_variables) {
    if (auto const size = lookup(name)) {
      found.processes = whole_number(name, *size, 1);
      break;
    }
  }
  if (auto const composition = lookup("ADATOM_KIM_COMPOSITION")) {
    if (*composition != "any")
      throw Failure("The environment variable ADATOM_KIM_COMPOSITION is '" + *composition +
                    "'; expected any, or nothing.");
    found.any_composition = true;
  }
  return found;
}

}  // namespace adatom_kim
