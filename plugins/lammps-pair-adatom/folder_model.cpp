// SPDX-License-Identifier: GPL-2.0-only
#include "folder_model.hpp"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/cuda.h>
#include <torch/version.h>

#include <algorithm>
#include <filesystem>

#include "device_choice.hpp"
#include "elements.hpp"
#include "environment.hpp"
#include "evaluation.hpp"
#include "failure.hpp"
#include "gil.hpp"
#include "threads.hpp"
#include "torch_version.hpp"

namespace adatom_lammps {

using adatom_kim::Failure;

struct FolderModel::Parts {
  adatom_kim::Network network;
  int threads = 1;
};

namespace {

adatom_kim::ModelFiles files_in(std::string const& folder) {
  if (!std::filesystem::is_directory(folder))
    throw Failure("There is no folder '" + folder +
                  "'; expected one that 'adatom export kim' wrote.");
  adatom_kim::ModelFiles files;
  files.folder = folder;
  for (auto const& entry : std::filesystem::directory_iterator(folder))
    if (entry.is_regular_file()) files.names.push_back(entry.path().filename().string());
  std::sort(files.names.begin(), files.names.end());
  return files;
}

torch::Device device_for(adatom_kim::Environment const& environment) {
  int const count =
      torch::cuda::is_available() ? static_cast<int>(torch::cuda::device_count()) : 0;
  return torch::Device(
      adatom_kim::choose_device(environment.device, count, environment.local_rank));
}

}  // namespace

FolderModel::FolderModel(std::string const& folder) : parts_(std::make_unique<Parts>()) {
  adatom_kim::require_same_torch(TORCH_ABI_VERSION, aoti_torch_abi_version());
  adatom_kim::ModelFiles const files = files_in(folder);
  auto const environment = adatom_kim::read_environment(adatom_kim::process_variable);
  parts_->threads = environment.threads;
  adatom_kim::Network& network = parts_->network;
  network.description = adatom_kim::read_description(files);
  network.description.elements_map |= environment.elements_map;
  network.device = device_for(environment);
  adatom_kim::ModelDescription const& says = network.description;
  network.backend =
      adatom_kim::load_backend(folder + "/" + says.model_file, says, network.device);
  if (!network.backend->differentiable() && !says.returns_forces)
    throw Failure("A compiled model must return forces, and this one does not promise to.");
  if (says.pattern == adatom_kim::Pattern::descriptor)
    network.descriptor = adatom_kim::load_descriptor(
        says.descriptor, adatom_kim::file_ending_with(files, ".dat"), says, network.device);
}

FolderModel::~FolderModel() = default;

double FolderModel::cutoff() const { return parts_->network.description.cutoff; }

int FolderModel::layers() const { return parts_->network.description.layers; }

std::string FolderModel::species_text() const {
  std::string text;
  for (std::string const& name : parts_->network.description.species)
    text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::int64_t FolderModel::species_value(std::string const& symbol) const {
  auto const& names = parts_->network.description.species;
  auto const found = std::find(names.begin(), names.end(), symbol);
  if (found == names.end()) return -1;
  if (parts_->network.description.elements_map) return adatom_kim::atomic_number(symbol);
  return std::distance(names.begin(), found);
}

bool FolderModel::gives_energies() const {
  return parts_->network.description.returns_particle_energies;
}

bool FolderModel::gives_virials() const {
  auto const& says = parts_->network.description;
  return says.edge_vectors || says.returns_particle_virial;
}

Answer FolderModel::evaluate(adatom_kim::Configuration const& atoms,
                             adatom_kim::NeighbourSource const& source, Asked const& asked) const {
  Answer answer;
  auto const size = static_cast<std::size_t>(atoms.size());
  if (atoms.contributors.empty()) {
    // A rank without atoms of its own.
    answer.forces.assign(3 * size, 0.0);
    answer.energies.assign(size, 0.0);
    answer.virials.assign(6 * size, 0.0);
    return answer;
  }
  adatom_kim::Wanted wanted;
  wanted.forces = true;
  wanted.particle_energies = asked.energies;
  wanted.particle_virial = asked.virials;
  auto const geometry = adatom_kim::read_geometry(parts_->network.description, atoms, source);
  adatom_kim::GilRelease const released;
  adatom_kim::ThreadScope const threads(parts_->threads);
  try {
    auto results = adatom_kim::evaluate(parts_->network, atoms, geometry, wanted);
    answer.energy = results.energy;
    answer.forces = std::move(results.forces);
    answer.energies = std::move(results.particle_energies);
    answer.virials = std::move(results.particle_virial);
  } catch (Failure const&) {
    throw;
  } catch (std::exception const& error) {
    throw Failure("The model cannot be evaluated: " + adatom_kim::one_line(error.what()));
  }
  return answer;
}

}  // namespace adatom_lammps
