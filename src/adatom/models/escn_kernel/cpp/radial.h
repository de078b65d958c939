// Radial basis, envelope and radial networks, with derivatives to the distance.
#pragma once
#include <vector>

#include "products.h"

struct LayerNorm {
  const real *weight, *bias;
};

// The network for one pair of element types as a function of the distance only: `rank` functions,
// polynomials of degree 5 on equal intervals up to the cutoff, times a matrix.
struct RadialTable {
  const real *coefficients;  // [intervals][kTerms][rank]
  Matrix outputs;            // rank -> outputs
};
constexpr int kTerms = 6;

// Linear, norm, SiLU, linear, norm, SiLU, linear. The elements' part of the first layer is a table
// over pairs of element types, [types * types, Ce].
struct RadialNetwork {
  int width, outputs;
  Matrix first, second, last;
  const real *table, *second_bias, *last_bias;
  LayerNorm norm_1, norm_2;
  int intervals = 0;  // 0: there are no tables
  std::vector<RadialTable> tables;
};

struct Envelope {
  real value, slope;
};

// 1 - 21 x^5 + 35 x^6 - 15 x^7 with x = d / cutoff, and its derivative to d.
static ADATOM_INLINE Envelope envelope_at(real distance, real cutoff) {
  const real x = distance / cutoff;
  if (x >= real(1)) return {0, 0};
  const real x4 = x * x * x * x;
  return {real(1) + x4 * x * (real(-21) + x * (real(35) - real(15) * x)),
          x4 * (real(-105) + x * (real(210) - real(105) * x)) / cutoff};
}

// What radial networks need for one tile of edges; made anew for the backward pass.
struct RadialSpace {
  int basis_size;
  real cutoff;
  std::vector<real> basis, offsets, hat_1, hat_2, act_1, act_2, gradient, scratch, rstd_1, rstd_2;
  std::vector<int> row;    // where an edge stands: by pair where there are tables
  std::vector<int> starts;  // of each pair, and the end

  RadialSpace(int room, int basis_size_, int width, real cutoff_)
      : basis_size(basis_size_), cutoff(cutoff_), basis(size_t(room) * basis_size_),
        offsets(basis.size()),        hat_1(size_t(room) * width), hat_2(hat_1.size()), act_1(hat_1.size()), act_2(hat_1.size()),
        gradient(std::max(hat_1.size(), basis.size())), scratch(gradient.size()), rstd_1(room),
        rstd_2(room), row(room) {}

  real spacing() const { return cutoff / real(basis_size - 1); }

  // Gaussians at linspace(0, cutoff, K) whose width is two spacings, and their logarithmic slopes.
  void fill_basis(const real *distance, int count) {
    const real step = spacing(), factor = real(1) / (2 * step);
    for (int e = 0; e < count; ++e) {
      real *row = &basis[size_t(e) * basis_size], *offset = &offsets[size_t(e) * basis_size];
      for (int k = 0; k < basis_size; ++k) {
        const real x = (distance[e] - step * real(k)) * factor;
        row[k] = real(-0.5) * x * x;
        offset[k] = -x * factor;
      }
      channels(basis_size, [&](auto v, int k) {
        using V = decltype(v);
        store<V>(row + k, exponential(load<V>(row + k)));
      });
    }
  }
};

// In place: rows become (x - mean) / deviation; out = SiLU of the scaled ones.
static void norm_and_silu(const LayerNorm &norm, int width, int count, real *rows, real *rstd,
                          real *out) {
  for (int e = 0; e < count; ++e) {
    real *x = rows + size_t(e) * width, *y = out + size_t(e) * width;
    const real mean = sum_of(width, [&](auto v, int c) { return load<decltype(v)>(x + c); }) / real(width);
    const real square = sum_of(width, [&](auto v, int c) {
      const auto centered = load<decltype(v)>(x + c) - mean;
      return centered * centered;
    });
    const real r = real(1) / std::sqrt(square / real(width) + real(1e-5));
    rstd[e] = r;
    channels(width, [&](auto v, int c) {
      using V = decltype(v);
      const V hat = (load<V>(x + c) - mean) * r;
      store<V>(x + c, hat);
      const V a = hat * load<V>(norm.weight + c) + load<V>(norm.bias + c);
      store<V>(y + c, a * sigmoid(a));
    });
  }
}

// In place: the gradient to SiLU(norm(x)) becomes that to x.
static void norm_and_silu_backward(const LayerNorm &norm, int width, int count, const real *hats,
                                   const real *rstd, real *gradient) {
  for (int e = 0; e < count; ++e) {
    const real *hat = hats + size_t(e) * width;
    real *g = gradient + size_t(e) * width;
    real sum = 0, along = 0;
    channels(width, [&](auto v, int c) {
      using V = decltype(v);
      const V h = load<V>(hat + c), w = load<V>(norm.weight + c);
      const V a = h * w + load<V>(norm.bias + c);
      const V d = load<V>(g + c) * silu_slope(a, sigmoid(a)) * w;
      store<V>(g + c, d);
      sum += total(d);
      along += total(d * h);
    });
    sum /= real(width);
    along /= real(width);
    for (int c = 0; c < width; ++c) g[c] = rstd[e] * (g[c] - sum - hat[c] * along);
  }
}

// Orders the edges of a tile by pair.
static void order_by_pair(const RadialNetwork &net, RadialSpace &s, const int32_t *pairs, int count) {
  const int number = int(net.tables.size());
  s.starts.assign(number + 1, 0);
  for (int e = 0; e < count; ++e) ++s.starts[pairs[e] + 1];
  for (int p = 0; p < number; ++p) s.starts[p + 1] += s.starts[p];
  for (int e = 0; e < count; ++e) s.row[e] = s.starts[pairs[e]]++;
  for (int p = number; p > 0; --p) s.starts[p] = s.starts[p - 1];
  s.starts[0] = 0;
}

// Values of the tables' functions in act_2 and their slopes in act_1, and the outputs.
static void table_forward(const RadialNetwork &net, RadialSpace &s, const int32_t *pairs,
                          const real *distance, int count, real *out) {
  const int width = net.width;
  const real density = real(net.intervals) / s.cutoff;
  order_by_pair(net, s, pairs, count);
  for (int e = 0; e < count; ++e) {
    const RadialTable &table = net.tables[pairs[e]];
    const int rank = table.outputs.k;
    const real place = distance[e] * density;
    const int interval = std::min(int(place), net.intervals - 1);
    const real t = 2 * (place - real(interval)) - 1, per_angstrom = 2 * density;
    const real *c = table.coefficients + size_t(interval) * kTerms * rank;
    real *value = &s.act_2[size_t(s.row[e]) * width], *slope = &s.act_1[size_t(s.row[e]) * width];
    channels(rank, [&](auto v, int k) {
      using V = decltype(v);
      V sum = load<V>(c + (kTerms - 1) * rank + k), derivative = V{};
      for (int term = kTerms - 2; term >= 0; --term) {
        derivative = derivative * t + sum;
        sum = sum * t + load<V>(c + term * rank + k);
      }
      store<V>(value + k, sum);
      store<V>(slope + k, derivative * per_angstrom);
    });
  }
  for (size_t p = 0; p < net.tables.size(); ++p) {
    const int first = s.starts[p], rows = s.starts[p + 1] - first;
    net.tables[p].outputs.apply(rows, &s.act_2[size_t(first) * width], width,
                                out + size_t(first) * net.outputs, net.outputs);
  }
}

static void table_backward(const RadialNetwork &net, RadialSpace &s, const int32_t *pairs, int count,
                           const real *to_out, real *to_distance) {
  const int width = net.width;
  for (size_t p = 0; p < net.tables.size(); ++p) {
    const int first = s.starts[p], rows = s.starts[p + 1] - first;
    net.tables[p].outputs.apply_transposed(rows, to_out + size_t(first) * net.outputs, net.outputs,
                                           &s.gradient[size_t(first) * width], width);
  }
  for (int e = 0; e < count; ++e) {
    const real *slope = &s.act_1[size_t(s.row[e]) * width], *g = &s.gradient[size_t(s.row[e]) * width];
    to_distance[e] += sum_of(net.tables[pairs[e]].outputs.k, [&](auto v, int k) {
      using V = decltype(v);
      return load<V>(slope + k) * load<V>(g + k);
    });
  }
}

// out [count, outputs], the edges in the order of `row`; pairs: target type * types + source type.
static void radial_forward(const RadialNetwork &net, RadialSpace &s, const int32_t *pairs,
                           const real *distance, int count, real *out) {
  const int width = net.width;
  if (net.intervals) return table_forward(net, s, pairs, distance, count, out);
  for (int e = 0; e < count; ++e) s.row[e] = e;
  for (int e = 0; e < count; ++e)
    std::memcpy(&s.hat_1[size_t(e) * width], net.table + size_t(pairs[e]) * width,
                sizeof(real) * width);
  net.first.apply<Into::kAdd>(count, s.basis.data(), s.basis_size, s.hat_1.data(), width);
  norm_and_silu(net.norm_1, width, count, s.hat_1.data(), s.rstd_1.data(), s.act_1.data());
  for (int e = 0; e < count; ++e)
    std::memcpy(&s.hat_2[size_t(e) * width], net.second_bias, sizeof(real) * width);
  net.second.apply<Into::kAdd>(count, s.act_1.data(), width, s.hat_2.data(), width);
  norm_and_silu(net.norm_2, width, count, s.hat_2.data(), s.rstd_2.data(), s.act_2.data());
  for (int e = 0; e < count; ++e)
    std::memcpy(out + size_t(e) * net.outputs, net.last_bias, sizeof(real) * net.outputs);
  net.last.apply<Into::kAdd>(count, s.act_2.data(), width, out, net.outputs);
}

// Adds to to_distance [count] the gradient from that of the outputs, after radial_forward.
static void radial_backward(const RadialNetwork &net, RadialSpace &s, const int32_t *pairs, int count,
                            const real *to_out, real *to_distance) {
  const int width = net.width;
  if (net.intervals) return table_backward(net, s, pairs, count, to_out, to_distance);
  real *g = s.gradient.data();
  net.last.apply_transposed(count, to_out, net.outputs, g, width);
  norm_and_silu_backward(net.norm_2, width, count, s.hat_2.data(), s.rstd_2.data(), g);
  net.second.apply_transposed(count, g, width, s.scratch.data(), width);
  std::swap(s.gradient, s.scratch);
  g = s.gradient.data();
  norm_and_silu_backward(net.norm_1, width, count, s.hat_1.data(), s.rstd_1.data(), g);
  net.first.apply_transposed(count, g, width, s.scratch.data(), s.basis_size);
  for (int e = 0; e < count; ++e) {
    const real *to_basis = &s.scratch[size_t(e) * s.basis_size];
    const real *value = &s.basis[size_t(e) * s.basis_size];
    const real sum = sum_of(s.basis_size, [&](auto v, int k) {
      using V = decltype(v);
      return load<V>(to_basis + k) * load<V>(value + k) * load<V>(&s.offsets[size_t(e) * s.basis_size + k]);
    });
    to_distance[e] += sum;
  }
}
