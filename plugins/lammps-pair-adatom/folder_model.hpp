// SPDX-License-Identifier: GPL-2.0-only
// A portable model read from its folder. Nothing of PyTorch is seen here: its headers and those of
// LAMMPS do not go into one file.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "configuration.hpp"
#include "neighbours.hpp"

namespace adatom_lammps {

struct Asked {
  bool energies = false;  // of each atom
  bool virials = false;   // of each atom
};

// In eV and angstrom, for all atoms, ghosts too.
struct Answer {
  double energy = 0.0;           // of this rank's own atoms
  std::vector<double> forces;    // [3N]
  std::vector<double> energies;  // [N], if asked for
  std::vector<double> virials;   // [6N] xx,yy,zz,yz,xz,xy of dE/dr (x) r, if asked for
};

class FolderModel {
 public:
  // Read the folder and load the network, on the device that KIM_MODEL_EXECUTION_DEVICE names.
  // Throws std::exception with one sentence.
  explicit FolderModel(std::string const& folder);
  ~FolderModel();
  FolderModel(FolderModel const&) = delete;
  FolderModel& operator=(FolderModel const&) = delete;

  double cutoff() const;
  int layers() const;
  double influence_distance() const { return cutoff() * layers(); }
  std::string species_text() const;
  // What the network takes for an element; -1 if it does not know it.
  std::int64_t species_value(std::string const& symbol) const;
  bool gives_energies() const;
  bool gives_virials() const;

  // Throws std::exception with one sentence.
  Answer evaluate(adatom_kim::Configuration const& atoms,
                  adatom_kim::NeighbourSource const& source, Asked const& asked) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace adatom_lammps
