// The units that a simulator asks for. The model works in angstrom and eV.
#pragma once

#include <KIM_ModelDriverHeaders.hpp>

namespace adatom_kim {

struct Units {
  double length = 1.0;  // in the requested unit, of one angstrom
  double energy = 1.0;  // in the requested unit, of one eV
};

// Tell KIM that the requested units are used, and return their factors.
// Throws Failure for a unit that KIM cannot convert.
Units agree_on_units(KIM::ModelDriverCreate& create, KIM::LengthUnit length,
                     KIM::EnergyUnit energy);

}  // namespace adatom_kim
