// The line-oriented parameter file of Torch models in KIM.
#pragma once

#include <istream>

#include "model_description.hpp"

namespace adatom_kim {

// Read words one after the other: a comment runs from # to the end of its line, and layout does
// not matter, because published files differ in it. In order: number of elements, elements,
// pattern (None, Descriptor, Graph), cutoff in angstrom, layers (Graph only), model file,
// whether forces are returned, number of inputs, kind of descriptor.
// Throws Failure that says what was found and what was expected.
ModelDescription read_parameter_file(std::istream& stream);

}  // namespace adatom_kim
