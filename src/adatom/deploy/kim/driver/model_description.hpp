// What a portable model says about itself: the parameter file, and adatom.json where there is one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace adatom_kim {

enum class Pattern { raw, descriptor, graph };

struct ModelDescription {
  std::vector<std::string> species;  // the position is the species code
  Pattern pattern = Pattern::raw;
  double cutoff = 0.0;               // angstrom
  int layers = 1;                    // message-passing layers; 1 unless the pattern is graph
  std::string model_file;
  bool returns_forces = false;       // else the driver differentiates
  int inputs = 0;                    // number of tensors that forward takes
  std::string descriptor = "none";   // lower case

  // What only adatom.json can say.
  bool elements_map = false;         // species are atomic numbers
  bool edge_vectors = false;         // forward also takes edge vectors, for particle virials
  bool returns_particle_virial = false;
  bool returns_particle_energies = true;  // false: known to return a total only
  bool directed_edges = false;       // graph layers lack edges that no atom of theirs receives
  int max_neighbors = 0;             // more within the cutoff are an error; 0: any number
  std::vector<std::int64_t> composition;  // atoms of each species that weights are for; empty: any
  bool composition_multiples = true;      // also for larger systems of the same ratios
  std::optional<std::string> model_sha256;
  std::optional<std::string> torch_version;  // that of an ahead-of-time compiled model

  double influence_distance() const { return cutoff * layers; }
};

struct ModelFiles {
  std::string folder;
  std::vector<std::string> names;
};

// Read and check what the files say. Throws Failure, naming the file.
ModelDescription read_description(ModelFiles const& files);

// The path of the one file whose name ends so, or "" where there is none.
std::string file_ending_with(ModelFiles const& files, std::string const& ending);

}  // namespace adatom_kim
