// SPDX-License-Identifier: GPL-2.0-only
#include "pair_adatom.h"

#include <cstring>

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

using namespace LAMMPS_NS;

namespace {

// kcal/mol of one eV, with the constants of nature that adatom takes from ASE (CODATA 2014).
constexpr double kcal_per_mol = 23.060548012069493;

// xx,yy,zz,xy,xz,yz of LAMMPS among xx,yy,zz,yz,xz,xy of the model.
constexpr int voigt[6] = {0, 1, 2, 5, 4, 3};

}    // namespace

PairAdatom::PairAdatom(LAMMPS *lmp) : Pair(lmp), energy_unit(1.0)
{
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  // The virial is made of this model's own forces, whatever else acts on the atoms.
  no_virial_fdotr_compute = 1;
  if (strcmp(update->unit_style, "real") == 0)
    energy_unit = kcal_per_mol;
  else if (strcmp(update->unit_style, "metal") != 0)
    error->all(FLERR, "pair_style adatom needs units metal or real, and the script has units {}",
               update->unit_style);
}

PairAdatom::~PairAdatom()
{
  if (!allocated) return;
  memory->destroy(setflag);
  memory->destroy(cutsq);
  memory->destroy(cutghost);
}

void PairAdatom::allocate()
{
  int const n = atom->ntypes + 1;
  memory->create(setflag, n, n, "pair:setflag");
  memory->create(cutsq, n, n, "pair:cutsq");
  memory->create(cutghost, n, n, "pair:cutghost");
  allocated = 1;
}

void PairAdatom::settings(int narg, char ** /*arg*/)
{
  if (narg != 0)
    error->all(FLERR, "pair_style adatom takes no arguments; the model is named by pair_coeff");
}

// pair_coeff * * FOLDER Si O ...
void PairAdatom::coeff(int narg, char **arg)
{
  int const types = atom->ntypes;
  if (narg < 3 || strcmp(arg[0], "*") != 0 || strcmp(arg[1], "*") != 0)
    error->all(FLERR, "Expected: pair_coeff * * FOLDER and one element for each atom type");
  if (narg != 3 + types)
    error->all(FLERR,
               "pair_coeff names {} element(s) after the folder, and there are {} atom type(s)",
               narg - 3, types);
  std::string message;
  try {
    model = std::make_unique<adatom_lammps::FolderModel>(arg[2]);
    values.assign(1, -1);
    for (int type = 1; type <= types; ++type) {
      char const *const symbol = arg[2 + type];
      values.push_back(model->species_value(symbol));
      if (values.back() < 0 && message.empty())
        message = std::string("The model in ") + arg[2] + " does not know the element " + symbol +
            "; it knows " + model->species_text();
    }
  } catch (std::exception const &failure) {
    message = failure.what();
  }
  fail_together(message);
  if (!allocated) allocate();
  for (int i = 1; i <= types; ++i)
    for (int j = i; j <= types; ++j) setflag[i][j] = 1;
}

void PairAdatom::init_style()
{
  if (!force->newton_pair) error->all(FLERR, "pair_style adatom needs newton on");
  if (comm->mode != Comm::SINGLE)
    error->all(FLERR, "pair_style adatom needs comm_modify mode single");
  // Ghosts as far away as atoms can act, and while they move by the skin.
  double const needed = model->influence_distance() + neighbor->skin;
  if (comm->cutghostuser < needed) {
    if (comm->cutghostuser > 0.0 && comm->me == 0)
      error->warning(FLERR, "Increasing the communication cutoff to {:.4f} for pair_style adatom",
                     needed);
    comm->cutghostuser = needed;
  }
  int request = NeighConst::REQ_FULL;
  // Layers after the first need neighbors of ghosts.
  if (model->layers() > 1) request |= NeighConst::REQ_GHOST;
  neighbor->add_request(this, request);
}

double PairAdatom::init_one(int i, int j)
{
  if (setflag[i][j] == 0) error->all(FLERR, "All pair coeffs of pair_style adatom are not set");
  cutghost[i][j] = cutghost[j][i] = model->cutoff();
  return model->cutoff();
}

// Stop all ranks with the message of the first one that has any.
void PairAdatom::fail_together(std::string const &message)
{
  int const mine = message.empty() ? comm->nprocs : comm->me;
  int first = comm->nprocs;
  MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, world);
  if (first == comm->nprocs) return;
  int length = static_cast<int>(message.size());
  MPI_Bcast(&length, 1, MPI_INT, first, world);
  std::vector<char> text(message.begin(), message.end());
  text.resize(length);
  MPI_Bcast(text.data(), length, MPI_CHAR, first, world);
  error->all(FLERR, "{}", std::string(text.data(), length));
}

adatom_kim::Configuration PairAdatom::read_atoms() const
{
  adatom_kim::Configuration atoms;
  int const local = atom->nlocal, all = local + atom->nghost;
  atoms.species.reserve(all);
  for (int i = 0; i < all; ++i) atoms.species.push_back(values[atom->type[i]]);
  if (all > 0) atoms.coordinates.assign(&atom->x[0][0], &atom->x[0][0] + 3 * all);
  atoms.contributing.assign(all, 0);
  for (int i = 0; i < local; ++i) {
    atoms.contributing[i] = 1;
    atoms.contributors.push_back(i);
  }
  return atoms;
}

void PairAdatom::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  std::string message;
  adatom_lammps::Answer answer;
  adatom_lammps::Asked asked;
  asked.energies = eflag_atom != 0;
  asked.virials = vflag_atom != 0;
  if (asked.energies && !model->gives_energies())
    message = "Energies of atoms were asked for (compute pe/atom), and this model gives none";
  if (asked.virials && !model->gives_virials())
    message = "Stresses of atoms were asked for (compute stress/atom), and this model gives none";
  auto const source = [this](int i) {
    adatom_kim::Neighbours found;
    found.count = list->numneigh[i];
    found.begin = list->firstneigh[i];
    if (atom->molecular == Atom::ATOMIC) return found;
    // Bonded neighbors carry a mark in their highest bits.
    masked.assign(found.begin, found.begin + found.count);
    for (int &j : masked) j &= NEIGHMASK;
    found.begin = masked.data();
    return found;
  };
  try {
    if (message.empty()) answer = model->evaluate(read_atoms(), source, asked);
  } catch (std::exception const &failure) {
    message = fmt::format("The model failed at step {}: {}", update->ntimestep, failure.what());
  }
  // Before any force is added: no rank goes on with those of another step.
  fail_together(message);
  add(answer);
}

void PairAdatom::add(adatom_lammps::Answer const &answer)
{
  int const local = atom->nlocal, all = local + atom->nghost;
  if (eflag_global) eng_vdwl += energy_unit * answer.energy;
  double v[6] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
  for (int i = 0; i < all; ++i) {
    double const *const x = atom->x[i];
    double f[3];
    for (int k = 0; k < 3; ++k) {
      f[k] = energy_unit * answer.forces[3 * i + k];
      atom->f[i][k] += f[k];
      v[k] += f[k] * x[k];
    }
    v[3] += f[0] * x[1];
    v[4] += f[0] * x[2];
    v[5] += f[1] * x[2];
  }
  if (vflag_global)
    for (int k = 0; k < 6; ++k) virial[k] += v[k];
  if (eflag_atom)
    for (int i = 0; i < local; ++i) eatom[i] += energy_unit * answer.energies[i];
  if (vflag_atom) add_virials(answer);
}

void PairAdatom::add_virials(adatom_lammps::Answer const &answer)
{
  int const all = atom->nlocal + atom->nghost;
  for (int i = 0; i < all; ++i)
    for (int k = 0; k < 6; ++k) vatom[i][k] -= energy_unit * answer.virials[6 * i + voigt[k]];
}
