// Messages of one tile of edges: gather, rotate, weight, map, gate, and sums into the targets.
//
// The second convolution comes after the sum (see nn/so2.py), so a tile adds to sums whose row
// (degree l, column) holds, for each order m, what the maps of that order take.
#pragma once
#include "nodes.h"
#include "radial.h"
#include "rotations.h"

// The complex map A + i B of one order m >= 1, in three real products.
struct OrderMap {
  Matrix common, minus, plus;  // A, -(A + B), B - A
};

// Weights that belong to one group of equal systems.
struct Convolution {
  Matrix first;
  OrderMap orders[kMaxDegree + 1];
  Matrix second[kMaxDegree + 1];  // per degree
};

// Where the numbers of an edge stand.
struct EdgeLayout {
  Layout nodes;
  int channels, hidden;
  int weights, inputs, outputs, gates;
  int weight_start[kMaxDegree + 1];   // radial weights of each order
  int input_start[kMaxDegree + 1];    // rotated features: +m, then -m
  int output_start[kMaxDegree + 1];   // mapped features: +m, then -m
  int sum_start[kMaxDegree + 2];      // within a row of the sums: real, then imaginary parts
  size_t sums_per_atom;

  EdgeLayout(const Layout &layout, int channels_, int hidden_)
      : nodes(layout), channels(channels_), hidden(hidden_) {
    weights = inputs = 0;
    outputs = gates = layout.lmax * hidden;
    int sums = 0;
    for (int m = 0; m <= layout.mmax; ++m) {
      const int signs = m ? 2 : 1, degrees = layout.degrees(m);
      weight_start[m] = weights;
      input_start[m] = inputs;
      output_start[m] = outputs;
      sum_start[m] = sums;
      weights += degrees * 2 * channels;
      inputs += signs * degrees * 2 * channels;
      outputs += signs * degrees * hidden;
      sums += signs * degrees * hidden;
    }
    sum_start[layout.mmax + 1] = sums;
    sums_per_atom = 0;
    for (int l = 0; l <= layout.lmax; ++l) sums_per_atom += size_t(2 * l + 1) * sum_width(l);
  }
  int sum_width(int l) const { return sum_start[nodes.half[l] + 1]; }
  int input_width(int m) const { return nodes.degrees(m) * 2 * channels; }
  int output_width(int m) const { return nodes.degrees(m) * hidden; }
};

// Sums of a block of atoms: [degree][atom][2 l + 1][sum width of the degree].
struct Sums {
  const EdgeLayout &layout;
  int atoms;
  std::vector<real> data, invariant;  // invariant: sums of the entries of order 0, [atom][S]

  Sums(const EdgeLayout &layout_, int room)
      : layout(layout_), atoms(0), data(layout_.sums_per_atom * room),
        invariant(size_t(room) * layout_.nodes.node_rows) {}

  void begin(int atoms_) {
    atoms = atoms_;
    std::fill_n(data.data(), layout.sums_per_atom * atoms, real(0));
    std::fill_n(invariant.data(), size_t(atoms) * layout.nodes.node_rows, real(0));
  }
  real *degree(int l) {
    size_t before = 0;
    for (int k = 0; k < l; ++k) before += size_t(2 * k + 1) * layout.sum_width(k);
    return data.data() + before * atoms;
  }
  void rows_of(int atom, real **rows) {
    for (int l = 0; l <= layout.nodes.lmax; ++l)
      for (int k = 0; k < 2 * l + 1; ++k)
        rows[l * l + k] = degree(l) + (size_t(atom) * (2 * l + 1) + k) * layout.sum_width(l);
  }
};

// Buffers of one thread for tiles of up to `room` edges.
struct TileSpace {
  Frames frames;
  RadialSpace radial;
  std::vector<real> weights, inputs, added, outputs, to_outputs, envelope, slope, to_distance,
      to_entries, gated, to_gated;
  std::vector<int32_t> pairs;

  TileSpace(const EdgeLayout &l, const Sizes &s, int room, real cutoff)
      : frames(l.nodes, room), radial(room, s.basis, s.edge_channels, cutoff),
        weights(size_t(room) * std::max(l.weights, (s.lmax + 1) * s.channels)),
        inputs(size_t(room) * l.inputs),
        added(size_t(room) * std::max(l.nodes.lmax * 2 * l.channels, l.nodes.lmax * l.hidden)),
        outputs(size_t(room) * l.outputs), to_outputs(outputs.size()), envelope(room), slope(room),
        to_distance(room), to_entries(size_t(room) * l.nodes.entries), gated(l.outputs),
        to_gated(l.outputs), pairs(room) {}
};

// Multiplies gathered, rotated rows by radial weights, for one half (source or target) of an edge.
static void rotate_and_weight(const EdgeLayout &l, const real *rotation, const real *y, int half,
                              const real *weights, real *inputs) {
  const int C = l.channels, S = l.nodes.node_rows, offset = half * C;
  channels(C, [&](auto tag, int c) {
    using V = decltype(tag);
    V rows[kMaxNodeRows];
    for (int s = 0; s < S; ++s) rows[s] = load<V>(y + size_t(s) * C + c);
    for (int m = 0; m <= l.nodes.mmax; ++m)
      for (int d = m; d <= l.nodes.lmax; ++d) {
        const int place = (d - m) * 2 * C + offset + c;
        const V w = load<V>(weights + l.weight_start[m] + place);
        for (int sign = 1; sign >= (m ? -1 : 1); sign -= 2) {
          const real *entry = rotation + l.nodes.entry(d, sign * m, 0);
          V sum = entry[0] * rows[d * d];
          for (int k = 1; k < 2 * d + 1; ++k) sum += entry[k] * rows[d * d + k];
          const int start = l.input_start[m] + (sign > 0 ? 0 : l.input_width(m));
          store<V>(inputs + start + place, sum * w);
        }
      }
  });
}

// The way back of rotate_and_weight. The weights are replaced by their gradient.
static void rotate_and_weight_backward(const EdgeLayout &l, const real *rotation, const real *y,
                                       int half, real *weights, const real *to_inputs, real *to_y,
                                       real *to_entries) {
  const int C = l.channels, S = l.nodes.node_rows, offset = half * C;
  vec sums[2 * kMaxNodeRows * kMaxDegree];
  for (int k = 0; k < l.nodes.entries; ++k) sums[k] = vec{};
  channels(C, [&](auto tag, int c) {
    using V = decltype(tag);
    V rows[kMaxNodeRows], to_rows[kMaxNodeRows];
    for (int s = 0; s < S; ++s) {
      rows[s] = load<V>(y + size_t(s) * C + c);
      to_rows[s] = V{};
    }
    for (int m = 0; m <= l.nodes.mmax; ++m)
      for (int d = m; d <= l.nodes.lmax; ++d) {
        const int place = (d - m) * 2 * C + offset + c;
        const V w = load<V>(weights + l.weight_start[m] + place);
        V to_w = V{};
        for (int sign = 1; sign >= (m ? -1 : 1); sign -= 2) {
          const int first = l.nodes.entry(d, sign * m, 0);
          const int start = l.input_start[m] + (sign > 0 ? 0 : l.input_width(m));
          const V arriving = load<V>(to_inputs + start + place), g = arriving * w;
          V sum = V{};
          for (int k = 0; k < 2 * d + 1; ++k) {
            sum += rotation[first + k] * rows[d * d + k];
            to_rows[d * d + k] += rotation[first + k] * g;
            if constexpr (sizeof(V) == sizeof(real))
              to_entries[first + k] += g * rows[d * d + k];
            else
              sums[first + k] += g * rows[d * d + k];
          }
          to_w += arriving * sum;
        }
        store<V>(weights + l.weight_start[m] + place, to_w);
      }
    for (int s = 0; s < S; ++s) add_to<V>(to_y + size_t(s) * C + c, to_rows[s]);
  });
  for (int k = 0; k < l.nodes.entries; ++k) to_entries[k] += total(sums[k]);
}

// out = a + b for rows of +m and -m that lie next to each other.
static void add_signs(const real *signs, int64_t stride, int width, int count, real *out) {
  for (int e = 0; e < count; ++e) {
    const real *p = signs + e * stride;
    real *q = out + int64_t(e) * width;
    for (int c = 0; c < width; ++c) q[c] = p[c] + p[width + c];
  }
}

static void map_forward(const EdgeLayout &l, const Convolution &conv, const real *bias, int count,
                        const real *inputs, real *added, real *outputs) {
  const int in = l.inputs, out = l.outputs;
  for (int e = 0; e < count; ++e)
    std::memcpy(outputs + size_t(e) * out, bias, sizeof(real) * conv.first.n);
  conv.first.apply<Into::kAdd>(count, inputs, in, outputs, out);
  for (int m = 1; m <= l.nodes.mmax; ++m) {
    const OrderMap &map = conv.orders[m];
    const real *x = inputs + l.input_start[m];
    real *y = outputs + l.output_start[m];
    const int from = l.input_width(m), to = l.output_width(m);
    add_signs(x, in, from, count, added);
    map.common.apply(count, added, from, y, out);
    for (int e = 0; e < count; ++e)
      std::memcpy(y + size_t(e) * out + to, y + size_t(e) * out, sizeof(real) * to);
    map.minus.apply<Into::kAdd>(count, x + from, in, y, out);
    map.plus.apply<Into::kAdd>(count, x, in, y + to, out);
  }
}

static void map_backward(const EdgeLayout &l, const Convolution &conv, int count,
                         const real *to_outputs, real *added, real *to_inputs) {
  const int in = l.inputs, out = l.outputs;
  conv.first.apply_transposed(count, to_outputs, out, to_inputs, in);
  for (int m = 1; m <= l.nodes.mmax; ++m) {
    const OrderMap &map = conv.orders[m];
    const real *y = to_outputs + l.output_start[m];
    real *x = to_inputs + l.input_start[m];
    const int from = l.input_width(m), to = l.output_width(m);
    add_signs(y, out, to, count, added);
    map.common.apply_transposed(count, added, to, x, in);
    for (int e = 0; e < count; ++e)
      std::memcpy(x + size_t(e) * in + from, x + size_t(e) * in, sizeof(real) * from);
    map.plus.apply_transposed<Into::kAdd>(count, y + to, out, x, in);
    map.minus.apply_transposed<Into::kAdd>(count, y, out, x + from, in);
  }
}

// gated: the outputs after SiLU (degree 0) and gates (all others), in the same places.
static void gate_forward(const EdgeLayout &l, const real *outputs, real *gated) {
  const int H = l.hidden;
  channels(H, [&](auto tag, int c) {
    using V = decltype(tag);
    const V x = load<V>(outputs + l.output_start[0] + c);
    store<V>(gated + l.output_start[0] + c, x * sigmoid(x));
    for (int d = 1; d <= l.nodes.lmax; ++d) {
      const V gate = sigmoid(load<V>(outputs + (d - 1) * H + c));
      store<V>(gated + (d - 1) * H + c, gate);
      for (int m = 0; m <= l.nodes.half[d]; ++m)
        for (int sign = 0; sign < (m ? 2 : 1); ++sign) {
          const int place = l.output_start[m] + sign * l.output_width(m) + (d - m) * H + c;
          store<V>(gated + place, load<V>(outputs + place) * gate);
        }
    }
  });
}

// After gate_forward: to_outputs from the gradient to the gated outputs.
static void gate_backward(const EdgeLayout &l, const real *outputs, const real *gated,
                          const real *to_gated, real *to_outputs) {
  const int H = l.hidden;
  channels(H, [&](auto tag, int c) {
    using V = decltype(tag);
    const int zero = l.output_start[0] + c;
    const V x = load<V>(outputs + zero);
    store<V>(to_outputs + zero, load<V>(to_gated + zero) * silu_slope(x, sigmoid(x)));
    for (int d = 1; d <= l.nodes.lmax; ++d) {
      const V gate = load<V>(gated + (d - 1) * H + c);
      V sum = V{};
      for (int m = 0; m <= l.nodes.half[d]; ++m)
        for (int sign = 0; sign < (m ? 2 : 1); ++sign) {
          const int place = l.output_start[m] + sign * l.output_width(m) + (d - m) * H + c;
          const V arriving = load<V>(to_gated + place);
          sum += arriving * load<V>(gated + place);
          store<V>(to_outputs + place, arriving * gate);
        }
      // gated = output * gate, so the sum already has one factor of the gate.
      store<V>(to_outputs + (d - 1) * H + c, sum * (real(1) - gate));
    }
  });
}

// Adds one edge's gated features to the sums of its target.
static void sum_forward(const EdgeLayout &l, const real *rotation, real envelope, const real *gated,
                        real *const *rows, real *invariant) {
  const int S = l.nodes.node_rows;
  real plus[kMaxNodeRows], minus[kMaxNodeRows];
  for (int m = 0; m <= l.nodes.mmax; ++m) {
    for (int d = m; d <= l.nodes.lmax; ++d)
      for (int k = 0; k < 2 * d + 1; ++k) {
        plus[d * d + k] = envelope * rotation[l.nodes.entry(d, m, k)];
        minus[d * d + k] = envelope * rotation[l.nodes.entry(d, -m, k)];
      }
    const real *z = gated + l.output_start[m];
    const int width = l.output_width(m), start = l.sum_start[m];
    if (m == 0)
      for (int s = 0; s < S; ++s) invariant[s] += plus[s];
    channels(width, [&](auto tag, int j) {
      using V = decltype(tag);
      const V a = load<V>(z + j);
      if (m == 0) {
        for (int s = 0; s < S; ++s) add_to<V>(rows[s] + j, plus[s] * a);
        return;
      }
      const V b = load<V>(z + width + j);
      for (int s = m * m; s < S; ++s) {
        add_to<V>(rows[s] + start + j, plus[s] * a + minus[s] * b);
        add_to<V>(rows[s] + start + width + j, minus[s] * a - plus[s] * b);
      }
    });
  }
}

// Gradients to the gated features and to the entries; returns that to the envelope.
static real sum_backward(const EdgeLayout &l, const real *rotation, real envelope, const real *gated,
                         real *const *to_rows, const real *to_invariant, real *to_gated,
                         real *to_entries) {
  const int S = l.nodes.node_rows;
  real plus[kMaxNodeRows], minus[kMaxNodeRows], to_envelope = 0;
  for (int m = 0; m <= l.nodes.mmax; ++m) {
    for (int d = m; d <= l.nodes.lmax; ++d)
      for (int k = 0; k < 2 * d + 1; ++k) {
        plus[d * d + k] = envelope * rotation[l.nodes.entry(d, m, k)];
        minus[d * d + k] = envelope * rotation[l.nodes.entry(d, -m, k)];
      }
    const real *z = gated + l.output_start[m];
    real *to_z = to_gated + l.output_start[m];
    const int width = l.output_width(m), start = l.sum_start[m];
    vec along_plus[kMaxNodeRows], along_minus[kMaxNodeRows];
    real rest_plus[kMaxNodeRows] = {}, rest_minus[kMaxNodeRows] = {};
    for (int s = 0; s < S; ++s) along_plus[s] = along_minus[s] = vec{};
    channels(width, [&](auto tag, int j) {
      using V = decltype(tag);
      auto collect = [](vec &whole, real &rest, V value) {
        if constexpr (sizeof(V) == sizeof(real)) {
          (void)whole;
          rest += value;
        } else {
          (void)rest;
          whole += value;
        }
      };
      const V a = load<V>(z + j);
      V to_a = V{}, to_b = V{};
      if (m == 0) {
        for (int s = 0; s < S; ++s) {
          const V g = load<V>(to_rows[s] + j);
          to_a += plus[s] * g;
          collect(along_plus[s], rest_plus[s], a * g);
        }
        store<V>(to_z + j, to_a);
        return;
      }
      const V b = load<V>(z + width + j);
      for (int s = m * m; s < S; ++s) {
        const V re = load<V>(to_rows[s] + start + j), im = load<V>(to_rows[s] + start + width + j);
        to_a += plus[s] * re + minus[s] * im;
        to_b += minus[s] * re - plus[s] * im;
        collect(along_plus[s], rest_plus[s], a * re - b * im);
        collect(along_minus[s], rest_minus[s], b * re + a * im);
      }
      store<V>(to_z + j, to_a);
      store<V>(to_z + width + j, to_b);
    });
    for (int d = m; d <= l.nodes.lmax; ++d)
      for (int k = 0; k < 2 * d + 1; ++k) {
        const int s = d * d + k;
        for (int sign = 1; sign >= (m ? -1 : 1); sign -= 2) {
          real g = sign > 0 ? total(along_plus[s]) + rest_plus[s] : total(along_minus[s]) + rest_minus[s];
          if (m == 0) g += to_invariant[s];
          const int place = l.nodes.entry(d, sign * m, k);
          to_entries[place] += envelope * g;
          to_envelope += g * rotation[place];
        }
      }
  }
  return to_envelope;
}
