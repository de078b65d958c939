// From atoms to energy, forces and what follows from them, in eV and angstrom.
#pragma once

#include <optional>
#include <vector>

#include "backend.hpp"
#include "model_inputs.hpp"

namespace adatom_kim {

struct Wanted {
  bool forces = false;
  bool particle_energies = false;
  bool particle_virial = false;
};

struct Results {
  double energy = 0.0;                    // of contributing atoms
  std::vector<double> forces;             // [3N] -dE/dx of all atoms, ghosts too
  std::vector<double> particle_energies;  // [N] zero for ghosts
  std::vector<double> particle_virial;    // [6N] 11,22,33,23,31,12; their sum is the virial
  double network_seconds = 0.0;           // spent in the network and its derivative
};

struct Network {
  ModelDescription description;
  torch::Device device = torch::kCPU;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Descriptor> descriptor;
};

// Throws Failure if the model returns something else than it promised, or no finite number.
// Threads may call this at once.
Results evaluate(Network const& network, Configuration const& atoms, Geometry const& geometry,
                 Wanted const& wanted);

// dE/dx (x) x summed over atoms: 11,22,33,23,31,12, in the unit of force times that of length.
void virial_of(std::vector<double> const& forces, std::vector<double> const& coordinates,
               double* virial);

}  // namespace adatom_kim
