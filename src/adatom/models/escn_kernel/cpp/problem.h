// What Python hands over: sizes, weights and edges. The order of the weights is that of
// models/escn_kernel/weights.py.
#pragma once
#include "messages.h"

extern "C" {
struct AdatomProblem {
  int32_t channels, hidden, edge_channels, basis, lmax, mmax, layers, types;
  int32_t groups, systems, threads, room, intervals, charge_start, charge_stop, spin_start, spin_stop;
  double cutoff, degree_rescale;
  int64_t atoms, edges, kept_bytes;
  const void *const *weights;
  const int32_t *ranks;        // of each table, [networks][types * types]
  const int64_t *first_edge;   // [atoms + 1]; edges sorted by target
  const int32_t *source;       // [edges]
  const int32_t *pairs;        // [edges]; target type * types + source type
  const int32_t *group;        // [atoms]; which merged weights
  const int32_t *system;       // [atoms]
  const void *vectors;         // [edges, 3]
  const void *invariants;      // [atoms, C]: what degree 0 starts from
  const void *embeddings;      // [systems, C]: charge, spin and dataset
  const void *charge, *spin;   // [systems]: sums that balanced channels get
  // Where others have the rest of one system: atoms in it, rows of others that sources number after
  // the own ones, and what exchanges them. It returns 0 unless it failed.
  int64_t all_atoms, halo;
  int32_t (*exchange)(int32_t kind, void *rows, int64_t count);
};
}

// What is exchanged: rows of others are filled in; they are added to the owners' rows; numbers are
// replaced by their sums over all.
enum Exchange : int32_t { kFill = 0, kReturn = 1, kTotal = 2 };

struct LayerWeights {
  Norm norm_1;
  RadialNetwork radial;
  const real *first_bias, *second_bias;
  std::vector<Convolution> groups;
  FeedForward feed_forward;
};

struct Weights {
  RadialNetwork degree;
  std::vector<LayerWeights> layers;
  Norm norm;
  const real *coupling[kMaxDegree], *scales[kMaxDegree], *generators;
};

// Takes the pointers one after the other.
class Reader {
public:
  Reader(const AdatomProblem &p) : next_(p.weights), next_rank_(p.ranks), p_(p) {}

  Weights read() {
    Weights w;
    for (int l = 2; l <= p_.lmax; ++l) {
      w.coupling[l - 2] = take();
      w.scales[l - 2] = take();
    }
    w.generators = take();
    w.degree = radial((p_.lmax + 1) * p_.channels);
    for (int k = 0; k < p_.layers; ++k) w.layers.push_back(layer());
    w.norm = norm();
    return w;
  }

private:
  const void *const *next_;
  const int32_t *next_rank_;
  const AdatomProblem &p_;

  const real *take() { return static_cast<const real *>(*next_++); }
  Matrix matrix(int k, int n) {
    Matrix m{k, n};
    m.forward = take();
    m.transposed = take();
    return m;
  }
  Norm norm() {
    const real *weight = take();
    return {weight, take()};
  }
  RadialNetwork radial(int outputs) {
    const int width = p_.edge_channels;
    RadialNetwork r;
    r.width = width;
    r.outputs = outputs;
    r.first = matrix(p_.basis, width);
    r.table = take();
    r.norm_1.weight = take();
    r.norm_1.bias = take();
    r.second = matrix(width, width);
    r.second_bias = take();
    r.norm_2.weight = take();
    r.norm_2.bias = take();
    r.last = matrix(width, outputs);
    r.last_bias = take();
    r.intervals = p_.intervals;
    for (int pair = 0; r.intervals && pair < p_.types * p_.types; ++pair) {
      RadialTable table;
      table.coefficients = take();
      table.outputs = matrix(*next_rank_++, outputs);
      r.tables.push_back(table);
    }
    return r;
  }
  Convolution convolution(const EdgeLayout &l) {
    Convolution c;
    c.first = matrix(l.input_width(0), l.gates + l.output_width(0));
    for (int m = 1; m <= p_.mmax; ++m)
      for (Matrix *part : {&c.orders[m].common, &c.orders[m].minus, &c.orders[m].plus})
        *part = matrix(l.input_width(m), l.output_width(m));
    for (int d = 0; d <= p_.lmax; ++d) c.second[d] = matrix(l.sum_width(d), p_.channels);
    return c;
  }
  LayerWeights layer() {
    const EdgeLayout l(Layout(p_.lmax, p_.mmax), p_.channels, p_.hidden);
    LayerWeights w;
    w.norm_1 = norm();
    w.radial = radial(l.weights);
    w.first_bias = take();
    w.second_bias = take();
    for (int g = 0; g < p_.groups; ++g) w.groups.push_back(convolution(l));
    FeedForward &f = w.feed_forward;
    f.norm = norm();
    if (p_.lmax) {
      f.gates = matrix(p_.channels, p_.lmax * p_.hidden);
      f.gates_bias = take();
    }
    for (int d = 0; d <= p_.lmax; ++d) f.first.matrix[d] = matrix(p_.channels, p_.hidden);
    f.first.bias = take();
    for (int d = 0; d <= p_.lmax; ++d) f.second.matrix[d] = matrix(p_.hidden, p_.channels);
    f.second.bias = take();
    return w;
  }
};
