// The virial of each atom, from derivatives with respect to the vectors between atoms.
#pragma once

#include "model_inputs.hpp"

namespace adatom_kim {

// Add g (x) v of every pair, half to each of its atoms. The sum over atoms is the virial.
// ``virial``: f64[M,6] in the order 11,22,33,23,31,12; ``gradient``: f64[E,3] dE/dv.
void add_particle_virial(torch::Tensor& virial, PairTensors const& pair,
                         torch::Tensor const& gradient);

}  // namespace adatom_kim
