#include "descriptor.hpp"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <fstream>

#include "descriptor_formula.hpp"
#include "elements.hpp"
#include "failure.hpp"

namespace adatom_kim {
namespace {

// Numbers kept at once for derivatives: 64 MB. More atoms are computed part by part, twice.
constexpr double most_numbers = 1 << 23;

// The contributors of one part, and their pairs.
struct Part {
  std::int64_t first_row, last_row, first_pair, last_pair;
};

// What stays the same for all positions of the atoms.
struct Pairs : torch::CustomClassHolder {
  Formula const* formula = nullptr;
  std::int64_t rows = 0;
  torch::Tensor row, center_species, neighbour_species, centers, neighbours;
  std::vector<Part> parts;

  torch::Tensor vectors(torch::Tensor const& coordinates, Part const& part) const {
    auto const of = [&](torch::Tensor const& atoms) {
      return coordinates.index_select(0, atoms.slice(0, part.first_pair, part.last_pair));
    };
    return of(neighbours) - of(centers);
  }

  torch::Tensor values(torch::Tensor const& vectors, Part const& part) const {
    auto const of = [&](torch::Tensor const& all) {
      return all.slice(0, part.first_pair, part.last_pair);
    };
    return formula->values({part.last_row - part.first_row, of(row) - part.first_row,
                            of(center_species), of(neighbour_species), vectors});
  }
};

// Values of all parts; the way back computes each part again, so that only one is in memory.
class PartByPart : public torch::autograd::Function<PartByPart> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context,
                               torch::Tensor const& coordinates, c10::intrusive_ptr<Pairs> pairs) {
    context->save_for_backward({coordinates});
    std::vector<torch::Tensor> values;
    for (Part const& part : pairs->parts)
      values.push_back(pairs->values(pairs->vectors(coordinates, part), part));
    context->saved_data["pairs"] =
        c10::IValue::make_capsule(c10::intrusive_ptr<torch::CustomClassHolder>(std::move(pairs)));
    return torch::cat(values);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list const& gradients) {
    auto const pairs =
        c10::static_intrusive_pointer_cast<Pairs>(context->saved_data["pairs"].toCapsule());
    torch::Tensor const coordinates = context->get_saved_variables()[0].detach();
    torch::Tensor total = torch::zeros_like(coordinates);
    for (Part const& part : pairs->parts) {
      if (part.first_pair == part.last_pair) continue;
      c10::AutoGradMode const mode(true);
      torch::Tensor const vectors = pairs->vectors(coordinates, part).requires_grad_();
      torch::Tensor const values = pairs->values(vectors, part);
      torch::Tensor const slope = torch::autograd::grad(
          {values}, {vectors}, {gradients[0].slice(0, part.first_row, part.last_row)})[0];
      c10::AutoGradMode const done(false);
      total.index_add_(0, pairs->neighbours.slice(0, part.first_pair, part.last_pair), slope);
      total.index_add_(0, pairs->centers.slice(0, part.first_pair, part.last_pair), slope, -1);
    }
    return {total, torch::Tensor()};
  }
};

class FileDescriptor : public Descriptor {
 public:
  FileDescriptor(std::unique_ptr<Formula> formula, ModelDescription const& description,
                 torch::Device device)
      : formula_(std::move(formula)) {
    if (!description.elements_map) return;
    // The simulator's species come as atomic numbers then.
    std::vector<std::int64_t> codes(200, 0);
    for (std::size_t code = 0; code < description.species.size(); ++code)
      codes.at(static_cast<std::size_t>(atomic_number(description.species[code]))) =
          static_cast<std::int64_t>(code);
    code_of_ = torch::tensor(codes, torch::kInt64).to(device);
  }

  torch::Tensor values(DescriptorInput const& input) const override {
    auto pairs = c10::make_intrusive<Pairs>();
    pairs->formula = formula_.get();
    pairs->rows = input.contributors.size(0);
    pairs->centers = input.centers;
    pairs->neighbours = input.neighbours;
    // Both are ascending.
    pairs->row = torch::searchsorted(input.contributors, input.centers);
    torch::Tensor const species =
        code_of_.defined() ? code_of_.index_select(0, input.species) : input.species;
    pairs->center_species = species.index_select(0, input.centers);
    pairs->neighbour_species = species.index_select(0, input.neighbours);
    pairs->parts = parts_of(*pairs);
    if (pairs->parts.size() > 1) return PartByPart::apply(input.coordinates, std::move(pairs));
    Part const all = pairs->parts[0];
    return pairs->values(pairs->vectors(input.coordinates, all), all);
  }

 private:
  std::vector<Part> parts_of(Pairs const& pairs) const {
    torch::Tensor const counts =
        torch::bincount(pairs.row, {}, pairs.rows).to(torch::kCPU).contiguous();
    std::int64_t const* const count = counts.const_data_ptr<std::int64_t>();
    std::vector<Part> parts = {{0, 0, 0, 0}};
    double kept = 0.0;
    for (std::int64_t row = 0; row < pairs.rows; ++row) {
      double const more = formula_->kept_numbers(static_cast<double>(count[row]));
      Part& part = parts.back();
      if (kept + more > most_numbers && part.last_row > part.first_row) {
        parts.push_back({part.last_row, part.last_row, part.last_pair, part.last_pair});
        kept = 0.0;
      }
      kept += more;
      parts.back().last_row += 1;
      parts.back().last_pair += count[row];
    }
    return parts;
  }

  std::unique_ptr<Formula> formula_;
  torch::Tensor code_of_;  // i64, by atomic number
};

std::unique_ptr<Formula> read_formula(std::string const& kind, Words& words,
                                      ModelDescription const& description, torch::Device device) {
  double ignored = 0.0;
  if (kind == "soap" && is_number(words.peek(), ignored))
    return read_published_soap(words, description.species, device);
  std::string const function = words.next("the cutoff function");
  if (function != "cos")
    throw Failure("It has '" + function + "' for the cutoff function; expected cos, the only one.");
  PairCutoffs cutoffs(words, description.species, device);
  if (kind == "soap") return read_soap(words, std::move(cutoffs), device);
  if (kind == "bispectrum") return read_bispectrum(words, std::move(cutoffs), device);
  return read_symmetry_functions(words, std::move(cutoffs), device);
}

}  // namespace

std::unique_ptr<Descriptor> load_descriptor(std::string const& kind, std::string const& path,
                                            ModelDescription const& description,
                                            torch::Device device) {
  if (kind != "symmetryfunctions" && kind != "bispectrum" && kind != "soap")
    throw Failure("This driver does not know the descriptor '" + kind +
                  "'; expected SymmetryFunctions, Bispectrum or SOAP.");
  if (path.empty())
    throw Failure("The model has the descriptor '" + kind + "' and no file that ends in .dat.");
  std::ifstream stream(path);
  if (!stream) throw Failure("The descriptor file '" + path + "' cannot be read.");
  try {
    Words words(stream);
    auto formula = read_formula(kind, words, description, device);
    if (formula->longest_cutoff() > description.cutoff * (1 + 1e-9))
      throw Failure("Its longest cutoff is " + std::to_string(formula->longest_cutoff()) +
                    " angstrom, and that of the parameter file is " +
                    std::to_string(description.cutoff) + ".");
    if (!words.empty()) throw Failure("It has '" + words.peek() + "' where it should end.");
    return std::make_unique<FileDescriptor>(std::move(formula), description, device);
  } catch (Failure const& failure) {
    throw Failure("The descriptor file '" + path.substr(path.find_last_of('/') + 1) +
                  "' is wrong: " + failure.what());
  }
}

}  // namespace adatom_kim
