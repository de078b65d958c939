#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/cuda.h>
#include <torch/version.h>

#include <filesystem>

#include "device_choice.hpp"
#include "elements.hpp"
#include "failure.hpp"
#include "kim_model.hpp"
#include "mpi_rank.hpp"
#include "torch_version.hpp"

// "adatom kim doctor" looks for this text in the installed file.
extern "C" __attribute__((used)) char const adatom_kim_build[] =
    "adatom-kim-driver built with PyTorch " TORCH_VERSION;

namespace adatom_kim {
namespace {

ModelFiles files_of(KIM::ModelDriverCreate const& create) {
  ModelFiles files;
  std::string const* text = nullptr;
  create.GetParameterFileDirectoryName(&text);
  files.folder = *text;
  int count = 0;
  create.GetNumberOfParameterFiles(&count);
  for (int i = 0; i < count; ++i) {
    if (create.GetParameterFileBasename(i, &text) != 0)
      throw Failure("KIM does not give the name of parameter file " + std::to_string(i) + ".");
    files.names.push_back(*text);
  }
  return files;
}

torch::Device device_for(Environment const& environment) {
  bool const gpu = torch::cuda::is_available();
  auto rank = environment.local_rank;
  // Asking MPI is collective: every rank gets here, or none.
  if (auto const told = local_rank_from_mpi()) rank = told;
  int const count = gpu ? static_cast<int>(torch::cuda::device_count()) : 0;
  return torch::Device(choose_device(environment.device, count, rank));
}

std::vector<std::int64_t> register_species(KIM::ModelDriverCreate& create,
                                           ModelDescription const& description) {
  std::vector<std::int64_t> values;
  int code = 0;
  for (std::string const& name : description.species) {
    KIM::SpeciesName const species(name);
    if (!species.Known())
      throw Failure("The parameter file names the species '" + name +
                    "', which is no element that KIM knows.");
    int const number = atomic_number(name);
    if (description.elements_map && number == 0)
      throw Failure("The species '" + name + "' has no atomic number, and the model asks for it.");
    if (create.SetSpeciesCode(species, code) != 0)
      throw Failure("KIM refuses the species '" + name + "'.");
    values.push_back(description.elements_map ? number : code);
    ++code;
  }
  return values;
}

void load_network(Network& network, ModelFiles const& files) {
  ModelDescription const& says = network.description;
#ifdef ADATOM_KIM_NO_GRAPH
  if (says.pattern == Pattern::graph)
    throw Failure("This driver was built with KIM_MODEL_DISABLE_GRAPH, and the model is a graph "
                  "network; build it again without: adatom kim install-driver");
#endif
  network.backend = load_backend(files.folder + "/" + says.model_file, says, network.device);
  if (!network.backend->differentiable() && !says.returns_forces)
    throw Failure("A compiled model must return forces, and this one does not promise to.");
  if (says.pattern == Pattern::descriptor)
    network.descriptor =
        load_descriptor(says.descriptor, file_ending_with(files, ".dat"), says, network.device);
}

void register_distances(KIM::ModelDriverCreate& create, KimModel& model) {
  ModelDescription const& says = model.network.description;
  model.cutoff = says.cutoff * model.units.length;
  model.influence_distance = says.influence_distance() * model.units.length;
  model.will_not_request_ghost_lists = says.layers > 1 ? 0 : 1;
  create.SetInfluenceDistancePointer(&model.influence_distance);
  create.SetNeighborListPointers(1, &model.cutoff, &model.will_not_request_ghost_lists);
}

// KIM 2.3 leaves the unpacked files of a model behind that could not be created, weights and all.
class Unpacked {
 public:
  explicit Unpacked(ModelFiles const& files) : files_(files) {}
  ~Unpacked() {
    if (!failed_) return;
    std::error_code ignored;
    for (std::string const& name : files_.names)
      std::filesystem::remove(files_.folder + "/" + name, ignored);
    // Only if nothing else is in it.
    std::filesystem::remove(files_.folder, ignored);
  }
  Unpacked(Unpacked const&) = delete;
  Unpacked& operator=(Unpacked const&) = delete;
  void keep() { failed_ = false; }

 private:
  ModelFiles const& files_;
  bool failed_ = true;
};

}  // namespace

std::unique_ptr<KimModel> create_model(KIM::ModelDriverCreate& create, KIM::LengthUnit length,
                                       KIM::EnergyUnit energy) {
  ModelFiles const files = files_of(create);
  Unpacked unpacked(files);
  require_same_torch(TORCH_ABI_VERSION, aoti_torch_abi_version());
  auto model = std::make_unique<KimModel>();
  Environment const environment = read_environment(process_variable);
  Network& network = model->network;
  network.description = read_description(files);
  // adatom.json, which has this number, says itself what the network takes.
  if (!network.description.model_sha256)
    network.description.elements_map |= environment.elements_map;
  model->threads = environment.threads;
  model->whole_system = environment.processes == 1 && !environment.any_composition;
  model->units = agree_on_units(create, length, energy);
  model->species_values = register_species(create, network.description);
  if (create.SetModelNumbering(KIM::NUMBERING::zeroBased) != 0)
    throw Failure("KIM refuses to count atoms from zero.");
  register_distances(create, *model);
  network.device = device_for(environment);
  load_network(network, files);
  // KIM's tools complain about a model without any parameter.
  if (create.SetParameterPointer(1, &model->no_parameter, "none",
                                 "Not used: weights of networks cannot be changed here.") != 0)
    throw Failure("KIM refuses the parameter of this model.");
  unpacked.keep();
  return model;
}

}  // namespace adatom_kim
