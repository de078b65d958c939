// The SOAP power spectrum: A. P. Bartok, R. Kondor, G. Csanyi, Phys. Rev. B 87, 184115 (2013), with
// the polynomial radial basis, the order and the scale of libdescriptor.
#include <ATen/Functions.h>

#include <cmath>
#include <numbers>

#include "descriptor_formula.hpp"

namespace adatom_kim {
namespace {

constexpr int soap_points = 100;  // of the radial integral, as in the published libraries
constexpr int soap_nodes = 256;   // distances at which radial functions are computed
constexpr double soap_negligible = 1e-14;

torch::Tensor linspace_of(int count) { return torch::arange(count, torch::kFloat64); }

// Points of Gauss and Legendre on [-1, 1] and their weights, by Newton's method.
void gauss_legendre(std::vector<double>& points, std::vector<double>& weights, int count) {
  for (int k = 0; k < count; ++k) {
    double x = -std::cos(std::numbers::pi * (k + 0.75) / (count + 0.5)), slope = 0.0;
    for (int step = 0; step < 10; ++step) {
      double before = 1.0, value = x;
      for (int n = 2; n <= count; ++n) {
        double const next = ((2 * n - 1) * x * value - (n - 1) * before) / n;
        before = value;
        value = next;
      }
      slope = count * (x * value - before) / (x * x - 1.0);
      double const change = value / slope;
      x -= change;
      if (std::abs(change) < 1e-16) break;
    }
    points.push_back(x);
    weights.push_back(2.0 / ((1.0 - x * x) * slope * slope));
  }
}

// exp(-x) i_l(x) for l = 0 .. l_max: ratios by the continued fraction (DLMF 10.51.4), downwards.
std::vector<torch::Tensor> scaled_bessel(int l_max, torch::Tensor const& x) {
  int const start =
      l_max + 20 + static_cast<int>(std::ceil(std::sqrt(80 * x.max().item<double>())));
  std::vector<torch::Tensor> ratios(static_cast<std::size_t>(l_max) + 1);
  torch::Tensor ratio = torch::zeros_like(x);
  for (int degree = start; degree > 0; --degree) {
    ratio = x / (2.0 * degree + 1.0 + x * ratio);
    if (degree <= l_max) ratios[static_cast<std::size_t>(degree)] = ratio;
  }
  torch::Tensor const some = x.gt(1e-12);
  torch::Tensor const safe = torch::where(some, x, torch::ones_like(x));
  std::vector<torch::Tensor> found = {
      torch::where(some, -torch::expm1(-2 * safe) / (2 * safe), torch::ones_like(x))};
  for (int degree = 1; degree <= l_max; ++degree)
    found.push_back(found.back() * ratios[static_cast<std::size_t>(degree)]);
  return found;
}

class Soap : public Formula {
 public:
  Soap(SoapSettings const& settings, PairCutoffs cutoffs, torch::Device device)
      : says_(settings), cutoffs_(std::move(cutoffs)) {
    if (says_.n_max < 1 || says_.n_max > 12 || says_.l_max > 12 || !(says_.eta > 0))
      throw Failure("It has n_max " + std::to_string(says_.n_max) + ", l_max " +
                    std::to_string(says_.l_max) + " and eta " + std::to_string(says_.eta) +
                    "; expected n_max from 1 to 12, l_max from 0 to 12 and a positive eta.");
    if (says_.radial_basis != "polynomial")
      throw Failure("It has '" + says_.radial_basis +
                    "' for radial_basis; expected polynomial, the only one.");
    species_ = static_cast<std::int64_t>(cutoffs_.file_order().size());
    radial_ = radial_table().to(device);
    std::vector<std::int64_t> first, second;
    for (std::int64_t z = 0; z < species_; ++z)
      for (std::int64_t other = z; other < species_; ++other)
        for (std::int64_t n = 0; n < says_.n_max; ++n)
          for (std::int64_t m = n; m < says_.n_max; ++m) {
            first.push_back(z * says_.n_max + n);
            second.push_back(other * says_.n_max + m);
          }
    first_ = torch::tensor(first, torch::kInt64).to(device);
    second_ = torch::tensor(second, torch::kInt64).to(device);
    std::vector<double> scales;
    for (int degree = 0; degree <= says_.l_max; ++degree)
      scales.push_back(4 * std::pow(std::numbers::pi, 3) * std::sqrt(8.0 / (2 * degree + 1)));
    scales_ = torch::tensor(scales, torch::kFloat64).to(device);
  }

  torch::Tensor values(FormulaInput const& in) const override {
    torch::Tensor const r = torch::linalg_vector_norm(in.vectors, 2, at::IntArrayRef{1});
    torch::Tensor const lengths = cutoffs_.of(in.center_species, in.neighbour_species);
    torch::Tensor const weights =
        says_.smooth ? cosine_cutoff(r, lengths) : r.lt(lengths).to(r.dtype());
    torch::Tensor const x = (r * (2 / cutoffs_.longest()) - 1.0).clamp_max(1.0);
    torch::Tensor const radial = torch::matmul(chebyshev(x, radial_.size(0)), radial_)
                                     .view({-1, says_.l_max + 1, says_.n_max}) *
                                 weights.view({-1, 1, 1});
    std::vector<torch::Tensor> const harmonics = spherical_harmonics(in.vectors / r.unsqueeze(1));
    torch::Tensor const rows = in.row * species_ + in.neighbour_species;
    std::vector<torch::Tensor> columns;
    for (int degree = 0; degree <= says_.l_max; ++degree) {
      torch::Tensor const terms = radial.select(1, degree).unsqueeze(2) *
                                  harmonics[static_cast<std::size_t>(degree)].unsqueeze(1);
      torch::Tensor const table =
          torch::zeros({in.rows * species_, says_.n_max, 2 * degree + 1}, terms.options())
              .index_add(0, rows, terms)
              .view({in.rows, species_ * says_.n_max, 2 * degree + 1});
      columns.push_back((table.index_select(1, first_) * table.index_select(1, second_)).sum(2));
    }
    return (torch::stack(columns, 2) * scales_).flatten(1);
  }

  double longest_cutoff() const override { return cutoffs_.longest(); }

  double kept_numbers(double neighbours) const override {
    double const functions = (says_.l_max + 1.0) * (says_.l_max + 1.0) * says_.n_max;
    return neighbours * (2.0 * functions + 3.0 * static_cast<double>(radial_.size(0))) +
           2.0 * static_cast<double>(first_.size(0)) * (says_.l_max + 1.0) * (says_.l_max + 1.0);
  }

 private:
  // Radial functions at distances [D]: [D, (l_max + 1) n_max].
  torch::Tensor radial_functions(torch::Tensor const& distances) const {
    std::vector<double> points, weights;
    gauss_legendre(points, weights, soap_points);
    double const half = 0.5 * cutoffs_.longest();
    torch::Tensor const r = half * (torch::tensor(points, torch::kFloat64) + 1.0);
    torch::Tensor const measure = torch::sqrt(half * torch::tensor(weights, torch::kFloat64)) * r;
    torch::Tensor const powers =
        torch::pow((cutoffs_.longest() - r).unsqueeze(1), linspace_of(says_.n_max) + 3.0);
    // Loewdin's basis is the orthogonal matrix nearest to that of the powers.
    auto const [left, sizes, right] = torch::linalg_svd(measure.unsqueeze(1) * powers, false);
    torch::Tensor const basis = measure.unsqueeze(1) * torch::matmul(left, right);
    torch::Tensor const d = distances.unsqueeze(1);
    torch::Tensor const gauss = torch::exp(-says_.eta * torch::pow(r - d, 2));
    std::vector<torch::Tensor> degrees;
    for (torch::Tensor const& bessel : scaled_bessel(says_.l_max, 2 * says_.eta * r * d))
      degrees.push_back(torch::matmul(bessel * gauss, basis));
    return torch::cat(degrees, 1);
  }

  // Chebyshev coefficients in 2 r / rc - 1, to rounding.
  torch::Tensor radial_table() const {
    torch::Tensor const angles =
        std::numbers::pi * (linspace_of(soap_nodes) + 0.5) / static_cast<double>(soap_nodes);
    torch::Tensor const values =
        radial_functions(0.5 * cutoffs_.longest() * (torch::cos(angles) + 1.0));
    torch::Tensor transform =
        2.0 / soap_nodes * torch::cos(linspace_of(soap_nodes).unsqueeze(1) * angles);
    transform[0] /= 2.0;
    torch::Tensor const table = torch::matmul(transform, values);
    torch::Tensor const size = table.abs().amax(1);
    std::int64_t const terms =
        size.gt(soap_negligible * size.max()).nonzero().max().item<std::int64_t>() + 1;
    if (terms > soap_points)
      throw Failure("With eta " + std::to_string(says_.eta) +
                    " its Gaussians are too narrow for this cutoff.");
    return table.slice(0, 0, terms).contiguous();
  }

  // T_0 .. T_(count - 1) of x, by T_(m + k) = 2 T_m T_k - T_(m - k).
  static torch::Tensor chebyshev(torch::Tensor const& x, std::int64_t count) {
    torch::Tensor known = torch::stack({torch::ones_like(x), x}, 1);
    while (known.size(1) < count) {
      std::int64_t const highest = known.size(1) - 1;
      torch::Tensor const more = 2 * known.slice(1, highest) * known.slice(1, 1) -
                                 known.slice(1, 0, highest).flip({1});
      known = torch::cat({known, more}, 1);
    }
    return known.slice(1, 0, count);
  }

  // Real and orthonormal over the sphere; per degree [E, 2 l + 1], with y as the polar axis.
  std::vector<torch::Tensor> spherical_harmonics(torch::Tensor const& directions) const {
    torch::Tensor const x = directions.select(1, 0), y = directions.select(1, 1),
                        z = directions.select(1, 2);
    int const count = says_.l_max + 1;
    std::vector<std::vector<torch::Tensor>> rows(static_cast<std::size_t>(count));
    for (int degree = 0; degree < count; ++degree)
      rows[static_cast<std::size_t>(degree)].resize(static_cast<std::size_t>(2 * degree + 1));
    torch::Tensor cosine = torch::ones_like(x), sine = torch::zeros_like(x);
    double start = 1.0;  // (2 m - 1)!!
    for (int m = 0; m < count; ++m) {
      torch::Tensor before, polar = torch::full_like(y, start);
      for (int degree = m; degree < count; ++degree) {
        if (degree > m) {
          torch::Tensor next = (2.0 * degree - 1.0) * y * polar;
          if (degree > m + 1) next = next - (degree + m - 1.0) * before;
          before = polar;
          polar = next / static_cast<double>(degree - m);
        }
        double const scale = std::sqrt((2.0 * degree + 1.0) / (4 * std::numbers::pi) *
                                       (m > 0 ? 2.0 : 1.0) * std::tgamma(degree - m + 1.0) /
                                       std::tgamma(degree + m + 1.0));
        auto& row = rows[static_cast<std::size_t>(degree)];
        row[static_cast<std::size_t>(degree + m)] = scale * polar * cosine;
        if (m > 0) row[static_cast<std::size_t>(degree - m)] = scale * polar * sine;
      }
      torch::Tensor const turned = z * cosine - x * sine;
      sine = z * sine + x * cosine;
      cosine = turned;
      start *= 2.0 * m + 1.0;
    }
    std::vector<torch::Tensor> found;
    for (auto const& row : rows) found.push_back(torch::stack(row, 1));
    return found;
  }

  SoapSettings says_;
  PairCutoffs cutoffs_;
  std::int64_t species_ = 0;
  torch::Tensor radial_, first_, second_, scales_;
};

}  // namespace

std::unique_ptr<Formula> read_soap(Words& words, PairCutoffs cutoffs, torch::Device device) {
  SoapSettings found;
  found.n_max = words.whole("n_max");
  found.l_max = words.whole("l_max", 0);
  double const cutoff = words.length("the cutoff");
  if (cutoff != cutoffs.longest())
    throw Failure("It has the cutoff " + std::to_string(cutoff) +
                  "; expected the longest of the pairs, " + std::to_string(cutoffs.longest()) +
                  ".");
  found.radial_basis = words.next("radial_basis");
  found.eta = words.number("eta");
  return std::make_unique<Soap>(found, std::move(cutoffs), device);
}

std::unique_ptr<Formula> read_published_soap(Words& words, std::vector<std::string> const& species,
                                             torch::Device device) {
  SoapSettings found;
  found.smooth = false;
  found.n_max = words.whole("n_max");
  found.l_max = words.whole("l_max", 0);
  double const cutoff = words.length("the cutoff");
  found.eta = words.number("eta");
  found.radial_basis = words.next("radial_basis");
  std::vector<std::string> listed(static_cast<std::size_t>(words.whole("the number of species")));
  for (std::string& name : listed) name = words.next("a species");
  return std::make_unique<Soap>(found, PairCutoffs(listed, cutoff, species, device), device);
}

}  // namespace adatom_kim
