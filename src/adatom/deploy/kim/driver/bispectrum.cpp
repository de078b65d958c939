// Bispectrum components as LAMMPS's SNAP has them: A. P. Thompson et al., J. Comput. Phys. 285, 316
// (2015), eqs. 2 to 7. Angular momenta are counted twice, as whole numbers.
#include <ATen/Functions.h>

#include <array>
#include <cmath>
#include <numbers>

#include "descriptor_formula.hpp"

namespace adatom_kim {
namespace {

struct Complex {
  torch::Tensor real, imaginary;
};

double factorial(int n) {
  double product = 1.0;
  for (int k = 2; k <= n; ++k) product *= k;
  return product;
}

// Racah's formula: Varshalovich, Moskalev, Khersonskii, 8.2.1 (3). Index k of j is m = k - j / 2.
double clebsch_gordan(int j1, int j2, int j, int k1, int k2, int k) {
  int const apart = (j1 + j2 - j) / 2;
  double total = 0.0;
  for (int z = 0; z <= apart; ++z) {
    // Only even numbers are halved.
    std::array<int, 5> const others = {apart - z, j1 - k1 - z, k2 - z, (j - j2 - j1) / 2 + k1 + z,
                                       (j - j1 + j2 - 2 * k2) / 2 + z};
    double product = factorial(z);
    bool possible = true;
    for (int n : others) {
      possible = possible && n >= 0;
      if (n > 0) product *= factorial(n);
    }
    if (possible) total += (z % 2 == 0 ? 1.0 : -1.0) / product;
  }
  double const triangle =
      factorial(apart) * factorial((j1 - j2 + j) / 2) * factorial((-j1 + j2 + j) / 2);
  double const projections = factorial(k1) * factorial(j1 - k1) * factorial(k2) *
                             factorial(j2 - k2) * factorial(k) * factorial(j - k) * (j + 1);
  return total * std::sqrt(triangle * projections / factorial((j1 + j2 + j) / 2 + 1));
}

torch::Tensor coupling_of(int j1, int j2, int j, torch::Device device) {
  torch::Tensor table = torch::zeros({j1 + 1, j2 + 1, j + 1}, torch::kFloat64);
  if ((j1 + j2 + j) % 2 == 0)
    for (int k1 = 0; k1 <= j1; ++k1)
      for (int k2 = 0; k2 <= j2; ++k2) {
        int const k = k1 + k2 - (j1 + j2 - j) / 2;
        if (k >= 0 && k <= j)
          table.mutable_data_ptr<double>()[(k1 * (j2 + 1) + k2) * (j + 1) + k] =
              clebsch_gordan(j1, j2, j, k1, k2, k);
      }
  return table.to(device);
}

class Bispectrum : public Formula {
 public:
  Bispectrum(Words& words, PairCutoffs cutoffs, torch::Device device)
      : cutoffs_(std::move(cutoffs)) {
    double const jmax = words.number("jmax");
    twojmax_ = static_cast<int>(std::lround(2 * jmax));
    if (twojmax_ != 2 * jmax || twojmax_ < 0 || twojmax_ > 20)
      throw Failure("It has " + std::to_string(jmax) +
                    " for jmax; expected a multiple of 1/2 from 0 to 10.");
    rfac0_ = words.number("rfac0");
    int const style = words.whole("diagonalstyle", 0);
    rmin0_ = words.number("rmin0");
    smooth_ = words.flag("switch_flag");
    bool const subtract = words.flag("bzero_flag");
    if (!(rfac0_ > 0 && rfac0_ < 1 && rmin0_ >= 0 && rmin0_ < cutoffs_.shortest() && style <= 3))
      throw Failure("It has rfac0 " + std::to_string(rfac0_) + ", diagonalstyle " +
                    std::to_string(style) + " and rmin0 " + std::to_string(rmin0_) +
                    "; expected rfac0 between 0 and 1, a style from 0 to 3 and rmin0 below the "
                    "cutoffs.");
    std::vector<double> weights(cutoffs_.file_order().size());
    for (std::size_t code : cutoffs_.file_order())
      weights[code] = words.number("a weight of a species");
    weights_ = torch::tensor(weights, torch::kFloat64).to(device);
    add_components(style, subtract, device);
    add_roots(device);
  }

  torch::Tensor values(FormulaInput const& in) const override {
    torch::Tensor const r = torch::linalg_vector_norm(in.vectors, 2, at::IntArrayRef{1});
    torch::Tensor const reach = cutoffs_.of(in.center_species, in.neighbour_species) - rmin0_;
    torch::Tensor const beyond = r - rmin0_;
    torch::Tensor weights = smooth_ ? cosine_cutoff(beyond.clamp_min(0.0), reach)
                                    : beyond.lt(reach).to(r.dtype());
    weights = weights * weights_.index_select(0, in.neighbour_species);
    torch::Tensor const angles = (std::numbers::pi * rfac0_) * beyond / reach;
    std::vector<Complex> const u = densities(in, r, angles, weights);
    std::vector<torch::Tensor> columns;
    for (Component const& c : components_)
      columns.push_back(component(u[c.j1], u[c.j2], u[c.j], c.coupling));
    return torch::stack(columns, 1) - lone_;
  }

  double longest_cutoff() const override { return cutoffs_.longest(); }

  double kept_numbers(double neighbours) const override {
    double const size = twojmax_ + 1.0;
    return neighbours * 4.0 * size * size * size +
           static_cast<double>(components_.size()) * size * size * size;
  }

 private:
  struct Component {
    std::size_t j1, j2, j;
    torch::Tensor coupling;
  };

  void add_components(int style, bool subtract, torch::Device device) {
    std::vector<double> lone;
    auto const add = [&](int j1, int j2, int j) {
      components_.push_back({static_cast<std::size_t>(j1), static_cast<std::size_t>(j2),
                             static_cast<std::size_t>(j), coupling_of(j1, j2, j, device)});
      lone.push_back(subtract && (j1 + j2 + j) % 2 == 0 ? j + 1.0 : 0.0);
    };
    for (int j1 = 0; j1 <= twojmax_; ++j1) {
      if (style == 2) {
        add(j1, j1, j1);
        continue;
      }
      for (int j2 = style == 1 ? j1 : 0; j2 <= j1; ++j2)
        for (int j = j1 - j2; j <= std::min(twojmax_, j1 + j2); j += 2)
          if (style != 3 || j >= j1) add(j1, j2, j);
    }
    lone_ = torch::tensor(lone, torch::kFloat64).to(device);
  }

  // Factors of the recursion of rotation matrices, and the signs of its last column.
  void add_roots(torch::Device device) {
    for (int j = 1; j <= twojmax_; ++j) {
      std::vector<double> below, above, signs;
      for (int row = 0; row <= j; ++row) {
        signs.push_back((j - row) % 2 == 0 ? 1.0 : -1.0);
        for (int column = 0; column < j; ++column) {
          below.push_back(std::sqrt(static_cast<double>(j - row) / (j - column)));
          above.push_back(std::sqrt(static_cast<double>(row) / (j - column)));
        }
      }
      auto const make = [&](std::vector<double> const& values, std::int64_t columns) {
        return torch::tensor(values, torch::kFloat64).view({j + 1, columns}).to(device);
      };
      roots_.push_back({make(below, j), make(above, j), make(signs, 1)});
    }
  }

  std::vector<Complex> densities(FormulaInput const& in, torch::Tensor const& r,
                                 torch::Tensor const& angles, torch::Tensor const& weights) const {
    torch::Tensor const direction =
        in.vectors / r.unsqueeze(1) * torch::sin(angles).unsqueeze(1);
    auto const axis = [&](std::int64_t k) { return direction.select(1, k).view({-1, 1, 1}); };
    Complex const a = {torch::cos(angles).view({-1, 1, 1}), -axis(2)};
    Complex const b = {axis(1), -axis(0)};
    torch::Tensor const w = weights.view({-1, 1, 1});
    Complex matrix = {torch::ones_like(w), torch::zeros_like(w)};
    std::vector<Complex> found;
    for (int j = 0; j <= twojmax_; ++j) {
      if (j > 0) matrix = next_matrix(matrix, a, b, roots_[static_cast<std::size_t>(j - 1)]);
      auto const sum = [&](torch::Tensor const& part) {
        return torch::zeros({in.rows, j + 1, j + 1}, part.options())
            .index_add(0, in.row, part * w);
      };
      found.push_back({sum(matrix.real) + torch::eye(j + 1, r.options()), sum(matrix.imaginary)});
    }
    return found;
  }

  // U^j from U^(j-1): Varshalovich et al. 4.8.2. Both parameters enter conjugated.
  static Complex next_matrix(Complex const& u, Complex const& a, Complex const& b,
                             std::array<torch::Tensor, 3> const& roots) {
    auto const down = [&](torch::Tensor const& part) {
      return torch::constant_pad_nd(part, {0, 0, 0, 1}) * roots[0];
    };
    auto const up = [&](torch::Tensor const& part) {
      return torch::constant_pad_nd(part, {0, 0, 1, 0}) * roots[1];
    };
    Complex const below = {down(u.real), down(u.imaginary)}, above = {up(u.real), up(u.imaginary)};
    torch::Tensor const real = a.real * below.real + a.imaginary * below.imaginary -
                               b.real * above.real - b.imaginary * above.imaginary;
    torch::Tensor const imaginary = a.real * below.imaginary - a.imaginary * below.real -
                                    b.real * above.imaginary + b.imaginary * above.real;
    // The last column is the first one upside down, by inversion.
    torch::Tensor const last_real = real.slice(2, 0, 1).flip({1}) * roots[2];
    torch::Tensor const last_imaginary = -imaginary.slice(2, 0, 1).flip({1}) * roots[2];
    return {torch::cat({real, last_real}, 2), torch::cat({imaginary, last_imaginary}, 2)};
  }

  // The sum over all projections; its imaginary part is zero.
  static torch::Tensor component(Complex const& one, Complex const& two, Complex const& three,
                                 torch::Tensor const& coupling) {
    torch::Tensor const real = torch::einsum("nab,acm->nbcm", {one.real, coupling});
    torch::Tensor const imaginary = torch::einsum("nab,acm->nbcm", {one.imaginary, coupling});
    auto const times = [](torch::Tensor const& left, torch::Tensor const& right) {
      return torch::einsum("nbcm,ncd->nbmd", {left, right});
    };
    auto const close = [&](torch::Tensor const& product, torch::Tensor const& part) {
      return torch::einsum("nbmd,bde,nme->n", {product, coupling, part});
    };
    return close(times(real, two.real) - times(imaginary, two.imaginary), three.real) +
           close(times(real, two.imaginary) + times(imaginary, two.real), three.imaginary);
  }

  PairCutoffs cutoffs_;
  int twojmax_ = 0;
  double rfac0_ = 0.0, rmin0_ = 0.0;
  bool smooth_ = true;
  torch::Tensor weights_, lone_;
  std::vector<Component> components_;
  std::vector<std::array<torch::Tensor, 3>> roots_;
};

}  // namespace

std::unique_ptr<Formula> read_bispectrum(Words& words, PairCutoffs cutoffs, torch::Device device) {
  return std::make_unique<Bispectrum>(words, std::move(cutoffs), device);
}

}  // namespace adatom_kim
