// Atom-centred symmetry functions: J. Behler, J. Chem. Phys. 134, 074106 (2011), eqs. 4 to 9.
#include <ATen/Functions.h>

#include <map>
#include <tuple>

#include "descriptor_formula.hpp"

namespace adatom_kim {
namespace {

// Names of the parameters of each function, in the order of the file.
std::map<std::string, std::vector<std::string>> const parameters = {
    {"g1", {}},
    {"g2", {"eta", "Rs"}},
    {"g3", {"kappa"}},
    {"g4", {"zeta", "lambda", "eta"}},
    {"g5", {"zeta", "lambda", "eta"}},
};

torch::Tensor as_tensor(std::vector<double> const& values, torch::Device device) {
  return torch::tensor(values, torch::kFloat64).to(device);
}

torch::Tensor as_tensor(std::vector<std::int64_t> const& values, torch::Device device) {
  return torch::tensor(values, torch::kInt64).to(device);
}

// Each different tuple once, and which one each function has.
class Unique {
 public:
  void add(double first, double second) {
    auto const [at, is_new] =
        places_.emplace(std::pair{first, second}, static_cast<std::int64_t>(first_.size()));
    if (is_new) {
      first_.push_back(first);
      second_.push_back(second);
    }
    of_.push_back(at->second);
  }
  void to(torch::Device device, torch::Tensor& first, torch::Tensor& second,
          torch::Tensor& of) const {
    first = as_tensor(first_, device);
    second = as_tensor(second_, device);
    of = as_tensor(of_, device);
  }

 private:
  std::map<std::pair<double, double>, std::int64_t> places_;
  std::vector<double> first_, second_;
  std::vector<std::int64_t> of_;
};

class SymmetryFunctions : public Formula {
 public:
  SymmetryFunctions(Words& words, PairCutoffs cutoffs, torch::Device device)
      : cutoffs_(std::move(cutoffs)), device_(device) {
    int const types = words.whole("the number of types of symmetry functions");
    for (int type = 0; type < types; ++type) read_type(words);
    read_normalization(words);
    finish();
  }

  torch::Tensor values(FormulaInput const& in) const override {
    torch::Tensor const r = torch::linalg_vector_norm(in.vectors, 2, at::IntArrayRef{1});
    torch::Tensor const f =
        cosine_cutoff(r, cutoffs_.of(in.center_species, in.neighbour_species));
    std::vector<torch::Tensor> columns;
    if (radial_count_ > 0) {
      torch::Tensor const terms = radial_terms(r) * f.unsqueeze(1);
      columns.push_back(torch::zeros({in.rows, radial_count_}, terms.options())
                            .index_add(0, in.row, terms));
    }
    if (angular_count_ > 0) columns.push_back(angular_columns(in, r, f));
    return torch::cat(columns, 1).index_select(1, order_);
  }

  double longest_cutoff() const override { return cutoffs_.longest(); }

  double kept_numbers(double neighbours) const override {
    double const pairs = 0.5 * neighbours * (neighbours - 1);
    return neighbours * (8.0 + 4.0 * static_cast<double>(radial_count_)) +
           (angular_count_ > 0 ? pairs * (24.0 + 4.0 * static_cast<double>(angular_count_)) : 0.0);
  }

 private:
  void read_type(Words& words) {
    std::string const name = lower(words.next("the name of a symmetry function"));
    auto const known = parameters.find(name);
    if (known == parameters.end())
      throw Failure("It has '" + name + "' for a symmetry function; expected g1 to g5.");
    std::size_t const wanted = known->second.size();
    double ignored = 0.0;
    // A g1 may come without any numbers.
    if (name == "g1" && !is_number(words.peek(), ignored)) return add(name, {});
    int const rows = words.whole("the number of rows of " + name);
    auto const columns = static_cast<std::size_t>(words.whole("the columns of " + name, 0));
    if (columns != wanted && !(name == "g1" && columns == 1))
      throw Failure("It has " + std::to_string(columns) + " columns for " + name + "; expected " +
                    std::to_string(wanted) + ".");
    for (int row = 0; row < rows; ++row) {
      std::vector<double> values;
      for (std::size_t c = 0; c < columns; ++c)
        values.push_back(words.number("a parameter of " + name));
      values.resize(wanted);
      add(name, values);
    }
  }

  void add(std::string const& name, std::vector<double> const& p) {
    if (name != "g4" && name != "g5") {
      eta_.push_back(name == "g2" ? p[0] : 0.0);
      center_.push_back(name == "g2" ? p[1] : 0.0);
      kappa_.push_back(name == "g3" ? p[0] : 0.0);
      waves_.push_back(name == "g3" ? 1.0 : 0.0);
      places_.push_back({false, radial_count_++});
      return;
    }
    if (p[0] < 1.0 || std::abs(p[1]) > 1.0)
      throw Failure("It has zeta " + std::to_string(p[0]) + " and lambda " + std::to_string(p[1]) +
                    " for " + name + "; expected zeta from 1 and lambda from -1 to 1.");
    powers_.add(p[0], p[1]);
    decays_.add(p[2], name == "g4" ? 1.0 : 0.0);
    places_.push_back({true, angular_count_++});
  }

  // Means and standard deviations, which published drivers ignore: only those that change nothing.
  void read_normalization(Words& words) {
    if (lower(words.peek()) != "center_and_normalize") return;
    words.next("center_and_normalize");
    bool const wanted = words.flag("center_and_normalize");
    if (words.empty() && !wanted) return;
    auto const size = static_cast<std::size_t>(words.whole("the number of descriptor values"));
    std::size_t const count = words.left();
    bool const expected = count == 2 || count == 2 * size || (count == 0 && !wanted);
    if (size != places_.size() || !expected)
      throw Failure("It promises " + std::to_string(size) + " values with " +
                    std::to_string(count) + " means and standard deviations; expected " +
                    std::to_string(places_.size()) + " values with as many of each, or one.");
    for (std::size_t n = 0; n < count; ++n) {
      double const value = words.number("a mean or a standard deviation");
      if (wanted && value != (2 * n < count ? 0.0 : 1.0))
        throw Failure("It asks to center and normalize values, which no driver does; the first "
                      "step of the network has to do that.");
    }
  }

  void finish() {
    radial_eta_ = as_tensor(eta_, device_);
    radial_center_ = as_tensor(center_, device_);
    radial_kappa_ = as_tensor(kappa_, device_);
    radial_waves_ = as_tensor(waves_, device_);
    powers_.to(device_, zeta_, lambda_, power_of_);
    decays_.to(device_, decay_, closed_, decay_of_);
    std::vector<std::int64_t> order;
    for (auto const& [is_angular, rank] : places_)
      order.push_back(is_angular ? radial_count_ + rank : rank);
    order_ = as_tensor(order, device_);
  }

  torch::Tensor radial_terms(torch::Tensor const& distances) const {
    torch::Tensor const r = distances.unsqueeze(1);
    torch::Tensor const gauss = torch::exp(-radial_eta_ * torch::pow(r - radial_center_, 2));
    return gauss * (1.0 + radial_waves_ * (torch::cos(radial_kappa_ * r) - 1.0));
  }

  torch::Tensor angular_columns(FormulaInput const& in, torch::Tensor const& r,
                                torch::Tensor const& f) const {
    // All pairs of an edge and a later one of the same atom.
    torch::Tensor const ends = torch::bincount(in.row, {}, in.rows).cumsum(0);
    torch::Tensor const edges = torch::arange(in.row.size(0), in.row.options());
    torch::Tensor const later = ends.index_select(0, in.row) - 1 - edges;
    torch::Tensor const first = edges.repeat_interleave(later);
    torch::Tensor const before = later.cumsum(0) - later;
    torch::Tensor const second = first + 1 + torch::arange(first.size(0), first.options()) -
                                 before.index_select(0, first);
    torch::Tensor const terms = angular_terms(in, r, f, first, second);
    return torch::zeros({in.rows, angular_count_}, terms.options())
        .index_add(0, in.row.index_select(0, first), terms);
  }

  torch::Tensor angular_terms(FormulaInput const& in, torch::Tensor const& r,
                              torch::Tensor const& f, torch::Tensor const& first,
                              torch::Tensor const& second) const {
    torch::Tensor const to_j = in.vectors.index_select(0, first);
    torch::Tensor const to_k = in.vectors.index_select(0, second);
    torch::Tensor const r_j = r.index_select(0, first), r_k = r.index_select(0, second);
    torch::Tensor const cosine = (to_j * to_k).sum(1) / (r_j * r_k);
    // In a straight line rounding could leave a negative base.
    torch::Tensor const base = (1.0 + lambda_ * cosine.unsqueeze(1)).clamp_min(0.0);
    torch::Tensor const powers = 2.0 * torch::pow(0.5 * base, zeta_);
    torch::Tensor const between = to_k - to_j;
    torch::Tensor const squared = (between * between).sum(1);
    torch::Tensor const limit = cutoffs_.of(in.neighbour_species.index_select(0, first),
                                            in.neighbour_species.index_select(0, second));
    torch::Tensor const shut = cosine_cutoff(torch::sqrt(squared), limit).unsqueeze(1);
    torch::Tensor const total =
        (r_j * r_j + r_k * r_k).unsqueeze(1) + closed_ * squared.unsqueeze(1);
    torch::Tensor const both = (f.index_select(0, first) * f.index_select(0, second)).unsqueeze(1);
    torch::Tensor const decays =
        torch::exp(-decay_ * total) * both * (1.0 + closed_ * (shut - 1.0));
    return powers.index_select(1, power_of_) * decays.index_select(1, decay_of_);
  }

  PairCutoffs cutoffs_;
  torch::Device device_;
  std::vector<double> eta_, center_, kappa_, waves_;
  Unique powers_, decays_;
  std::vector<std::pair<bool, std::int64_t>> places_;  // whether angular, and which one of these
  std::int64_t radial_count_ = 0, angular_count_ = 0;
  torch::Tensor radial_eta_, radial_center_, radial_kappa_, radial_waves_;
  torch::Tensor zeta_, lambda_, power_of_, decay_, closed_, decay_of_, order_;
};

}  // namespace

std::unique_ptr<Formula> read_symmetry_functions(Words& words, PairCutoffs cutoffs,
                                                 torch::Device device) {
  return std::make_unique<SymmetryFunctions>(words, std::move(cutoffs), device);
}

}  // namespace adatom_kim
