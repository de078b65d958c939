// SPDX-License-Identifier: GPL-2.0-only
// pair_style adatom: a portable model of adatom in LAMMPS, on any number of MPI ranks.
#ifndef LMP_PAIR_ADATOM_H
#define LMP_PAIR_ADATOM_H

#include <memory>
#include <string>
#include <vector>

#include "folder_model.hpp"
#include "pair.h"

namespace LAMMPS_NS {

class PairAdatom : public Pair {
 public:
  explicit PairAdatom(LAMMPS *lmp);
  ~PairAdatom() override;

  void compute(int eflag, int vflag) override;
  void settings(int narg, char **arg) override;
  void coeff(int narg, char **arg) override;
  void init_style() override;
  double init_one(int i, int j) override;

 private:
  void allocate();
  void fail_together(std::string const &message);
  adatom_kim::Configuration read_atoms() const;
  void add(adatom_lammps::Answer const &answer);
  void add_virials(adatom_lammps::Answer const &answer);

  std::unique_ptr<adatom_lammps::FolderModel> model;
  std::vector<std::int64_t> values;    // by atom type: what the network takes for its element
  std::vector<int> masked;             // one list, without the marks of bonded neighbors
  double energy_unit;                  // of one eV
};

}    // namespace LAMMPS_NS

#endif
