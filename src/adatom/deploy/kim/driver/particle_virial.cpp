#include "particle_virial.hpp"

#include <ATen/Functions.h>

namespace adatom_kim {

void add_particle_virial(torch::Tensor& virial, PairTensors const& pair,
                         torch::Tensor const& gradient) {
  auto const rows = torch::tensor({0, 1, 2, 1, 2, 0}, pair.first.options());
  auto const columns = torch::tensor({0, 1, 2, 2, 0, 1}, pair.first.options());
  torch::Tensor const vectors = pair.vectors.detach();
  // Off the diagonal both orders count half, so that a rotated frame gives a rotated tensor.
  torch::Tensor const product =
      0.25 * (gradient.index_select(1, rows) * vectors.index_select(1, columns) +
              gradient.index_select(1, columns) * vectors.index_select(1, rows));
  virial.index_add_(0, pair.first, product);
  virial.index_add_(0, pair.second, product);
}

}  // namespace adatom_kim
