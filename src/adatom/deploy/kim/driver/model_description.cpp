#include "model_description.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include "failure.hpp"
#include "json.hpp"
#include "parameter_file.hpp"

namespace adatom_kim {
namespace {

constexpr int known_version = 2;
constexpr char const* json_name = "adatom.json";

char const* name_of(Pattern pattern) {
  if (pattern == Pattern::raw) return "raw";
  return pattern == Pattern::descriptor ? "descriptor" : "graph";
}

void require_same(bool same, std::string const& what) {
  if (!same) throw Failure("Its " + what + " differs from that of the parameter file.");
}

bool among(std::vector<std::string> const& names, std::string const& wanted) {
  return std::find(names.begin(), names.end(), wanted) != names.end();
}

void check_version(Json const& json) {
  if (json.text("schema") != "adatom-kim")
    throw Failure("Its schema is '" + json.text("schema") + "'; expected adatom-kim.");
  if (json.whole("version") > known_version)
    throw Failure("Its schema version is " + std::to_string(json.whole("version")) +
                  ", and this driver reads " + std::to_string(known_version) +
                  "; install a newer driver with: adatom kim install-driver");
}

void add_limits(Json const& json, ModelDescription& found) {
  found.directed_edges = json.boolean("directed_edges");
  if (!json.at("max_neighbors").is_null()) found.max_neighbors = json.whole("max_neighbors");
  if (!json.at("composition").is_null())
    for (int count : json.wholes("composition")) found.composition.push_back(count);
  found.composition_multiples = json.boolean("composition_multiples");
  require_same(found.composition.empty() || found.composition.size() == found.species.size(),
               "number of species in the composition");
}

void add_json(Json const& json, ModelDescription& found) {
  check_version(json);
  require_same(json.texts("species") == found.species, "list of species");
  require_same(json.text("pattern") == name_of(found.pattern), "pattern");
  require_same(std::abs(json.number("cutoff") - found.cutoff) <= 1e-12 * found.cutoff, "cutoff");
  require_same(json.whole("layers") == found.layers, "number of layers");
  require_same(json.text("model_file") == found.model_file, "model file");
  auto const outputs = json.texts("outputs");
  require_same(among(outputs, "forces") == found.returns_forces, "statement about forces");
  found.returns_particle_virial = among(outputs, "particle_virial");
  found.returns_particle_energies = among(outputs, "particle_energies");
  found.elements_map = json.text("species_input") == "atomic_number";
  found.edge_vectors = json.boolean("edge_vectors");
  if (json.whole("version") >= 2) add_limits(json, found);
  found.model_sha256 = json.text("model_sha256");
  if (json.text("backend") == "aotinductor") found.torch_version = json.text("torch_version");
}

void check_inputs(ModelDescription const& description) {
  int expected = 5;
  if (description.pattern == Pattern::descriptor) expected = 1;
  if (description.pattern == Pattern::graph) expected = 3 + description.layers;
  if (description.inputs != expected)
    throw Failure("It has " + std::to_string(description.inputs) + " for the number of inputs; a " +
                  name_of(description.pattern) + " model takes " + std::to_string(expected) + ".");
}

}  // namespace

std::string file_ending_with(ModelFiles const& files, std::string const& ending) {
  for (std::string const& name : files.names)
    if (name.size() >= ending.size() &&
        name.compare(name.size() - ending.size(), ending.size(), ending) == 0)
      return files.folder + "/" + name;
  return "";
}

ModelDescription read_description(ModelFiles const& files) {
  std::string const path = file_ending_with(files, ".param");
  if (path.empty()) throw Failure("The model has no parameter file (its name must end in .param).");
  ModelDescription found;
  try {
    std::ifstream stream(path);
    if (!stream) throw Failure("It cannot be read.");
    found = read_parameter_file(stream);
    check_inputs(found);
  } catch (Failure const& failure) {
    throw Failure("The parameter file is wrong. " + std::string(failure.what()));
  }
  std::string const json_path = file_ending_with(files, json_name);
  if (!json_path.empty()) {
    try {
      std::ostringstream text;
      text << std::ifstream(json_path).rdbuf();
      add_json(Json::parse(text.str()), found);
    } catch (Failure const& failure) {
      throw Failure("adatom.json is wrong. " + std::string(failure.what()));
    }
  }
  if (!among(files.names, found.model_file))
    throw Failure("The parameter file names the model file '" + found.model_file +
                  "', which this model does not contain.");
  return found;
}

}  // namespace adatom_kim
