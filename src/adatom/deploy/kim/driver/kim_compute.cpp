#include "failure.hpp"
#include "gil.hpp"
#include "limits.hpp"
#include "kim_model.hpp"
#include "threads.hpp"

namespace adatom_kim {
namespace {

namespace names = KIM::COMPUTE_ARGUMENT_NAME;

template <typename Pointer>
Pointer argument(KIM::ModelComputeArguments const& arguments, KIM::ComputeArgumentName name) {
  Pointer found = nullptr;
  if (arguments.GetArgumentPointer(name, &found) != 0)
    throw Failure("KIM does not give the argument " + name.ToString() + ".");
  return found;
}

// Where the simulator wants results; null for what it does not want.
struct Targets {
  explicit Targets(KIM::ModelComputeArguments const& arguments)
      : energy(argument<double*>(arguments, names::partialEnergy)),
        forces(argument<double*>(arguments, names::partialForces)),
        virial(argument<double*>(arguments, names::partialVirial)) {}

  double *energy, *forces, *virial;
  double* particle_energies = nullptr;
  double* particle_virial = nullptr;
};

Targets targets_of(KimModel const& model, KIM::ModelComputeArguments const& arguments) {
  Targets found(arguments);
  ModelDescription const& says = model.network.description;
  if (says.returns_particle_energies)
    found.particle_energies = argument<double*>(arguments, names::partialParticleEnergy);
  if (says.edge_vectors || says.returns_particle_virial)
    found.particle_virial = argument<double*>(arguments, names::partialParticleVirial);
  return found;
}

Configuration read_configuration(KimModel const& model,
                                 KIM::ModelComputeArguments const& arguments) {
  int const count = *argument<int const*>(arguments, names::numberOfParticles);
  auto const* const codes = argument<int const*>(arguments, names::particleSpeciesCodes);
  auto const* const contributing = argument<int const*>(arguments, names::particleContributing);
  auto const* const x = argument<double const*>(arguments, names::coordinates);
  Configuration atoms;
  auto const size = static_cast<std::size_t>(count);
  atoms.species.reserve(size);
  for (int i = 0; i < count; ++i) {
    int const code = codes[i];
    if (code < 0 || static_cast<std::size_t>(code) >= model.species_values.size())
      throw Failure("Atom " + std::to_string(i) + " has the species code " + std::to_string(code) +
                    ", and this model has " + std::to_string(model.species_values.size()) +
                    " species, counted from 0.");
    atoms.species.push_back(model.species_values[static_cast<std::size_t>(code)]);
    atoms.contributing.push_back(contributing[i] != 0);
    if (contributing[i] != 0) atoms.contributors.push_back(i);
  }
  atoms.coordinates.assign(x, x + 3 * size);
  for (double& each : atoms.coordinates) each /= model.units.length;
  return atoms;
}

NeighbourSource lists_of(KIM::ModelComputeArguments const& arguments) {
  return [&arguments](int atom) {
    Neighbours found;
    if (arguments.GetNeighborList(0, atom, &found.count, &found.begin) != 0)
      throw Failure("The simulator does not give the neighbor list of atom " +
                    std::to_string(atom) + ".");
    return found;
  };
}

void write_scaled(std::vector<double> const& values, double factor, double* target) {
  if (target == nullptr) return;
  for (double value : values) *target++ = value * factor;
}

void write(KimModel const& model, Configuration const& atoms, Results const& results,
           Targets const& targets) {
  double const energy = model.units.energy;
  if (targets.energy != nullptr) *targets.energy = results.energy * energy;
  write_scaled(results.forces, energy / model.units.length, targets.forces);
  write_scaled(results.particle_energies, energy, targets.particle_energies);
  write_scaled(results.particle_virial, energy, targets.particle_virial);
  if (targets.virial == nullptr) return;
  virial_of(results.forces, atoms.coordinates, targets.virial);
  for (int v = 0; v < 6; ++v) targets.virial[v] *= energy;
}

}  // namespace

void compute(KimModel const& model, KIM::ModelComputeArguments const& arguments) {
  Stopwatch const watch;
  Targets const targets = targets_of(model, arguments);
  Configuration const atoms = read_configuration(model, arguments);
  Results results;
  std::size_t const size = atoms.species.size();
  if (atoms.contributors.empty()) {
    // A rank without atoms of its own.
    results.forces.assign(3 * size, 0.0);
    results.particle_energies.assign(size, 0.0);
    results.particle_virial.assign(6 * size, 0.0);
    return write(model, atoms, results, targets);
  }
  if (model.whole_system)
    require_composition(model.network.description, atoms, model.species_values);
  Wanted wanted;
  wanted.forces = targets.forces != nullptr || targets.virial != nullptr;
  wanted.particle_energies = targets.particle_energies != nullptr;
  wanted.particle_virial = targets.particle_virial != nullptr;
  // Lists may come from a function in Python, which needs the lock that the evaluation must drop.
  Geometry const geometry =
      read_geometry(model.network.description, atoms, lists_of(arguments));
  {
    GilRelease const released;
    ThreadScope const threads(model.threads);
    results = evaluate(model.network, atoms, geometry, wanted);
  }
  write(model, atoms, results, targets);
  model.times.add(watch.seconds(), results.network_seconds);
}

}  // namespace adatom_kim
