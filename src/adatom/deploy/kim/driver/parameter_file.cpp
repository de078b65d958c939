#include "parameter_file.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <sstream>

#include "failure.hpp"

namespace adatom_kim {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool is_pattern(std::string const& word) {
  std::string const name = lower(word);
  return name == "none" || name == "descriptor" || name == "graph";
}

class Words {
 public:
  explicit Words(std::istream& stream) {
    std::string line, word;
    while (std::getline(stream, line)) {
      std::istringstream words(line.substr(0, line.find('#')));
      while (words >> word) all_.push_back(word);
    }
  }

  bool empty() const { return at_ == all_.size(); }

  std::string next(std::string const& what) {
    if (empty()) throw Failure("It ends before " + what + ".");
    return all_[at_++];
  }

  int whole(std::string const& what) {
    std::string const word = next(what);
    int value = 0;
    char const* const end = word.data() + word.size();
    auto const [stop, error] = std::from_chars(word.data(), end, value);
    if (error != std::errc() || stop != end || value < 1)
      throw Failure("It has '" + word + "' for " + what + "; expected a positive whole number.");
    return value;
  }

  double length(std::string const& what) {
    std::string const word = next(what);
    std::istringstream text(word);
    double value = 0.0;
    if (!(text >> value) || !text.eof() || !std::isfinite(value) || value <= 0.0)
      throw Failure("It has '" + word + "' for " + what + "; expected a positive length.");
    return value;
  }

 private:
  std::vector<std::string> all_;
  std::size_t at_ = 0;
};

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
