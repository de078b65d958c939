#include "parameter_file.hpp"

#include <algorithm>

#include "failure.hpp"
#include "words.hpp"

namespace adatom_kim {
namespace {

bool is_pattern(std::string const& word) {
  std::string const name = lower(word);
  return name == "none" || name == "descriptor" || name == "graph";
}

std::vector<std::string> read_species(Words& words) {
  int const count = words.whole("the number of elements");
  std::vector<std::string> species;
  for (int i = 0; i < count; ++i) {
    std::string const word = words.next("the elements");
    if (is_pattern(word))
      throw Failure("It promises " + std::to_string(count) + " element(s) and lists " +
                    std::to_string(i) + ".");
    if (std::find(species.begin(), species.end(), word) != species.end())
      throw Failure("It lists the element " + word + " twice.");
    species.push_back(word);
  }
  return species;
}

Pattern read_pattern(Words& words) {
  std::string const word = words.next("the preprocessing");
  std::string const name = lower(word);
  if (name == "none") return Pattern::raw;
  if (name == "descriptor") return Pattern::descriptor;
  if (name == "graph") return Pattern::graph;
  throw Failure("It has '" + word +
                "' where the preprocessing (None, Descriptor or Graph) was expected; it may list "
                "more elements than it promises.");
}

bool read_returns_forces(Words& words) {
  std::string const word = words.next("whether forces are returned");
  std::string const answer = lower(word);
  if (answer == "true") return true;
  if (answer == "false") return false;
  throw Failure("It has '" + word + "' for whether forces are returned; expected True or False.");
}

}  // namespace

ModelDescription read_parameter_file(std::istream& stream) {
  Words words(stream);
  ModelDescription found;
  found.species = read_species(words);
  found.pattern = read_pattern(words);
  found.cutoff = words.length("the cutoff");
  if (found.pattern == Pattern::graph) found.layers = words.whole("the number of layers");
  found.model_file = words.next("the model file");
  found.returns_forces = read_returns_forces(words);
  found.inputs = words.whole("the number of inputs");
  if (!words.empty()) found.descriptor = lower(words.next("the descriptor"));
  if (found.pattern == Pattern::descriptor && found.descriptor == "none")
    throw Failure("Its preprocessing is Descriptor, but it names no descriptor.");
  return found;
}

}  // namespace adatom_kim
