// Calls parts of the driver that need neither PyTorch nor KIM. Built by test_kim_driver_parts.py.
#include <cstring>
#include <iostream>
#include <sstream>

#include "device_choice.hpp"
#include "elements.hpp"
#include "environment.hpp"
#include "failure.hpp"
#include "model_description.hpp"
#include "sha256.hpp"
#include "torch_version.hpp"

using namespace adatom_kim;

namespace {

// "A=1" arguments as an environment.
Lookup lookup_of(int count, char** assignments) {
  return [=](char const* name) -> std::optional<std::string> {
    for (int i = 0; i < count; ++i) {
      std::string const text = assignments[i];
      auto const equals = text.find('=');
      if (text.substr(0, equals) == name) return text.substr(equals + 1);
    }
    return std::nullopt;
  };
}

void device(int count, char** arguments) {
  int const gpus = std::stoi(arguments[0]);
  Environment const found = read_environment(lookup_of(count - 1, arguments + 1));
  std::cout << choose_device(found.device, gpus, found.local_rank) << " threads=" << found.threads;
}

void description(int count, char** arguments) {
  ModelFiles files{arguments[0], {}};
  for (int i = 1; i < count; ++i) files.names.push_back(arguments[i]);
  ModelDescription const found = read_description(files);
  for (std::string const& species : found.species) std::cout << species << " ";
  std::cout << static_cast<int>(found.pattern) << " " << found.cutoff << " " << found.layers << " "
            << found.model_file << " " << found.returns_forces << " " << found.inputs << " "
            << found.descriptor << " " << found.elements_map << " " << found.edge_vectors << " "
            << found.influence_distance();
}

}  // namespace

int main(int argc, char** argv) {
  std::string const what = argv[1];
  try {
    if (what == "device") device(argc - 2, argv + 2);
    if (what == "description") description(argc - 2, argv + 2);
    if (what == "sha256") std::cout << sha256_of_file(argv[2]);
    if (what == "element") std::cout << atomic_number(argv[2]);
    if (what == "line") std::cout << one_line(argv[2]);
    if (what == "torch") require_same_torch(std::stoull(argv[2], nullptr, 16),
                                            std::stoull(argv[3], nullptr, 16));
  } catch (Failure const& failure) {
    std::cerr << failure.what();
    return 1;
  }
}
