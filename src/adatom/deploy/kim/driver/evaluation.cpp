#include "evaluation.hpp"

#include <ATen/Functions.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <sstream>

#include "failure.hpp"
#include "particle_virial.hpp"
#include "times.hpp"

namespace adatom_kim {
namespace {

std::string shape_of(torch::Tensor const& tensor) {
  std::ostringstream text;
  text << tensor.sizes();
  return text.str();
}

std::vector<double> to_vector(torch::Tensor const& tensor, std::size_t count) {
  torch::Tensor const flat =
      tensor.detach().to(torch::kCPU, torch::kFloat64).contiguous().reshape({-1});
  double const* const start = flat.const_data_ptr<double>();
  return std::vector<double>(start, start + count);
}

void require_finite(std::vector<double> const& values, std::string const& what) {
  for (double value : values)
    if (!std::isfinite(value)) throw Failure("The model's " + what + " are not finite.");
}

class Evaluation {
 public:
  Evaluation(Network const& network, Configuration const& atoms, Geometry const& geometry,
             Wanted const& wanted)
      : network_(network), atoms_(atoms), geometry_(geometry), wanted_(wanted) {}

  Results run() {
    bool const differentiate =
        !says().returns_forces && (wanted_.forces || wanted_.particle_virial);
    // A model that returns forces may differentiate inside of forward.
    c10::AutoGradMode const mode(network_.backend->differentiable() &&
                                 (differentiate || says().returns_forces));
    InputOptions options;
    options.device = network_.device;
    options.gradients = network_.backend->differentiable();
    options.vectors = wanted_.particle_virial && says().edge_vectors;
    options.descriptor = network_.descriptor.get();
    inputs_ = make_inputs(says(), atoms_, geometry_, options);
    Stopwatch const watch;
    outputs_ = network_.backend->run(inputs_.arguments);
    results_.network_seconds = watch.seconds();
    require_outputs();
    torch::Tensor const energy = outputs_[0].sum();
    results_.energy = energy.detach().to(torch::kCPU, torch::kFloat64).item<double>();
    if (!std::isfinite(results_.energy)) throw Failure("The model's energy is not finite.");
    split_energy();
    if (differentiate)
      differentiate_energy(energy);
    else if (wanted_.forces)
      take_forces();
    if (wanted_.particle_virial && says().returns_particle_virial)
      results_.particle_virial = taken(2, 6, "particle virials");
    return std::move(results_);
  }

 private:
  ModelDescription const& says() const { return network_.description; }
  std::size_t size() const { return atoms_.species.size(); }

  void require_outputs() const {
    std::size_t const promised = 1 + (says().returns_forces ? 1 : 0) +
                                 (says().returns_particle_virial ? 1 : 0);
    if (outputs_.size() < promised)
      throw Failure("The model returns " + std::to_string(outputs_.size()) +
                    " tensor(s), and its files promise " + std::to_string(promised) + ".");
  }

  // The first rows of an output, which may have one more for the padding.
  std::vector<double> taken(std::size_t which, std::int64_t width, std::string const& what) const {
    torch::Tensor const& output = outputs_[which];
    std::int64_t const rows = inputs_.coordinates.size(0);
    if (output.numel() != rows * width)
      throw Failure("The model returns " + what + " of shape " + shape_of(output) + "; expected [" +
                    std::to_string(rows) + ", " + std::to_string(width) + "].");
    auto found = to_vector(output, size() * static_cast<std::size_t>(width));
    require_finite(found, what);
    return found;
  }

  void take_forces() { results_.forces = taken(1, 3, "forces"); }

  // Energies of particles, where the model returns one number per atom or per contributing atom.
  void split_energy() {
    torch::Tensor const& output = outputs_[0];
    auto const count = static_cast<std::size_t>(output.numel());
    auto const rows = static_cast<std::size_t>(inputs_.coordinates.size(0));
    if (count == rows && rows > 1) {
      results_.particle_energies = to_vector(output, size());
      for (std::size_t i = 0; i < size(); ++i)
        if (!atoms_.contributing[i] && results_.particle_energies[i] != 0.0)
          throw Failure("The model returns energies for ghost atoms; these must be zero.");
    } else if (count == atoms_.contributors.size()) {
      results_.particle_energies.assign(size(), 0.0);
      std::vector<double> const energies = to_vector(output, count);
      for (std::size_t c = 0; c < count; ++c)
        results_.particle_energies[static_cast<std::size_t>(atoms_.contributors[c])] = energies[c];
    } else if (wanted_.particle_energies) {
      throw Failure("Energies of particles were asked for, and the model returns a tensor of shape " +
                    shape_of(output) + " for " + std::to_string(size()) + " atoms.");
    }
  }

  void differentiate_energy(torch::Tensor const& energy) {
    results_.forces.assign(3 * size(), 0.0);
    if (wanted_.particle_virial) results_.particle_virial.assign(6 * size(), 0.0);
    if (!energy.requires_grad()) return require_nothing_to_derive();
    torch::autograd::variable_list leaves = {inputs_.coordinates};
    for (PairTensors const& pair : inputs_.pairs) leaves.push_back(pair.vectors);
    Stopwatch const watch;
    auto const gradients =
        torch::autograd::grad({energy}, leaves, {}, std::nullopt, false, /*allow_unused=*/true);
    results_.network_seconds += watch.seconds();
    bool some = false;
    for (torch::Tensor const& gradient : gradients) some = some || gradient.defined();
    if (!some) return require_nothing_to_derive();
    add_gradients(gradients);
  }

  void add_gradients(torch::autograd::variable_list const& gradients) {
    c10::NoGradGuard const done;
    torch::Tensor total = torch::zeros_like(inputs_.coordinates);
    if (gradients[0].defined()) total += gradients[0];
    if (wanted_.particle_virial && gradients[0].defined() && gradients[0].ne(0).any().item<bool>())
      throw Failure("The model uses coordinates although it was given edge vectors; particle "
                    "virials cannot be made of that.");
    torch::Tensor virial = torch::zeros({total.size(0), 6}, total.options());
    for (std::size_t p = 0; p < inputs_.pairs.size(); ++p) {
      PairTensors const& pair = inputs_.pairs[p];
      if (!gradients[p + 1].defined()) continue;
      total.index_add_(0, pair.first, gradients[p + 1]);
      total.index_add_(0, pair.second, gradients[p + 1], -1);
      add_particle_virial(virial, pair, gradients[p + 1]);
    }
    results_.forces = to_vector(-total, 3 * size());
    require_finite(results_.forces, "forces");
    if (wanted_.particle_virial) results_.particle_virial = to_vector(virial, 6 * size());
  }

  // Atoms alone have no forces; anything else without a derivative would have silent zeros.
  void require_nothing_to_derive() const {
    if (geometry_.empty()) return;
    throw Failure("The model's energy has no derivative with respect to coordinates; it may have "
                  "been exported without gradients.");
  }

  Network const& network_;
  Configuration const& atoms_;
  Geometry const& geometry_;
  Wanted const& wanted_;
  ModelInputs inputs_;
  std::vector<torch::Tensor> outputs_;
  Results results_;
};

}  // namespace

Results evaluate(Network const& network, Configuration const& atoms, Geometry const& geometry,
                 Wanted const& wanted) {
  return Evaluation(network, atoms, geometry, wanted).run();
}

void virial_of(std::vector<double> const& forces, std::vector<double> const& coordinates,
               double* virial) {
  constexpr int rows[] = {0, 1, 2, 1, 2, 0}, columns[] = {0, 1, 2, 2, 0, 1};
  for (int v = 0; v < 6; ++v) {
    virial[v] = 0.0;
    for (std::size_t i = 0; i < forces.size(); i += 3)
      virial[v] -= forces[i + static_cast<std::size_t>(rows[v])] *
                   coordinates[i + static_cast<std::size_t>(columns[v])];
  }
}

}  // namespace adatom_kim
