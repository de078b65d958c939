#include "descriptor.hpp"

#include "failure.hpp"

namespace adatom_kim {

std::unique_ptr<Descriptor> load_descriptor(std::string const& kind, std::string const&,
                                            ModelDescription const&, torch::Device) {
  throw Failure("This driver does not know the descriptor '" + kind + "'.");
}

}  // namespace adatom_kim
