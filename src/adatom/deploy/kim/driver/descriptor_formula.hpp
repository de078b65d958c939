// From pairs of atoms to a row of numbers per atom: what kinds of descriptors have in common.
#pragma once

#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

#include "words.hpp"

namespace adatom_kim {

// Pairs that begin at some atoms, ordered by these.
struct FormulaInput {
  std::int64_t rows = 0;             // atoms that get a row
  torch::Tensor row;                 // i64[E] which row, non-decreasing
  torch::Tensor center_species;      // i64[E] codes
  torch::Tensor neighbour_species;   // i64[E]
  torch::Tensor vectors;             // f64[E,3] to the neighbour, angstrom
};

class Formula {
 public:
  virtual ~Formula() = default;

  // f64[rows,width], made of operations that autograd can differentiate.
  virtual torch::Tensor values(FormulaInput const& input) const = 0;

  // Roughly how many numbers are kept at once for an atom with so many neighbours.
  virtual double kept_numbers(double neighbours) const = 0;

  virtual double longest_cutoff() const = 0;  // angstrom
};

// What all kinds of files begin with: a cutoff per pair of species codes.
class PairCutoffs {
 public:
  // Read the number of species, and rows of two species and a length. ``species`` are those of
  // the model, in the order of their codes; the file must have the same ones.
  PairCutoffs(Words& words, std::vector<std::string> const& species, torch::Device device);

  // The same length for all of ``listed``, which have to be the model's species.
  PairCutoffs(std::vector<std::string> const& listed, double length,
              std::vector<std::string> const& species, torch::Device device);

  // f64[E]
  torch::Tensor of(torch::Tensor const& first_species, torch::Tensor const& second_species) const;

  double longest() const { return longest_; }
  double shortest() const { return shortest_; }

  // The position in the model's species of each species of the file, in the order of the file.
  std::vector<std::size_t> const& file_order() const { return file_order_; }

 private:
  torch::Tensor table_;  // f64[S,S]
  double longest_ = 0.0, shortest_ = 0.0;
  std::vector<std::size_t> file_order_;
};

// (1 + cos(pi r / rc)) / 2 up to the cutoff, and 0 beyond.
torch::Tensor cosine_cutoff(torch::Tensor const& distances, torch::Tensor const& cutoffs);

std::unique_ptr<Formula> read_symmetry_functions(Words& words, PairCutoffs cutoffs,
                                                 torch::Device device);
std::unique_ptr<Formula> read_bispectrum(Words& words, PairCutoffs cutoffs, torch::Device device);

struct SoapSettings {
  int n_max = 0, l_max = 0;
  double eta = 0.0;  // 1/angstrom^2
  std::string radial_basis;
  bool smooth = true;  // whether there is a cutoff function
};

std::unique_ptr<Formula> read_soap(Words& words, PairCutoffs cutoffs, torch::Device device);

// The order that the published reader of SOAP knows, without the cutoff function and the pairs.
std::unique_ptr<Formula> read_published_soap(Words& words, std::vector<std::string> const& species,
                                             torch::Device device);

}  // namespace adatom_kim
