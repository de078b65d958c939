// One model that a simulator has open.
#pragma once

#include <KIM_ModelDriverHeaders.hpp>

#include "environment.hpp"
#include "evaluation.hpp"
#include "times.hpp"
#include "units.hpp"

namespace adatom_kim {

struct KimModel {
  Network network;
  Units units;
  int threads = 1;
  bool whole_system = true;  // no other process holds atoms, so the composition can be checked
  Times times{process_variable("ADATOM_KIM_TIMES")};
  std::vector<std::int64_t> species_values;  // by KIM's code: a code, or an atomic number

  // KIM keeps pointers to these.
  double influence_distance = 0.0;
  double cutoff = 0.0;
  int will_not_request_ghost_lists = 1;
  int no_parameter = 1;
};

// Read the files, load the network, and tell KIM everything but the routines.
std::unique_ptr<KimModel> create_model(KIM::ModelDriverCreate& create, KIM::LengthUnit length,
                                       KIM::EnergyUnit energy);

// Compute what the simulator asks for.
void compute(KimModel const& model, KIM::ModelComputeArguments const& arguments);

}  // namespace adatom_kim
