// What happens on each atom alone: the norm, and the network after the messages.
#pragma once
#include "layout.h"
#include "products.h"

constexpr real kEpsilon = real(1e-5);

// All degrees are divided by one root mean square in which each degree counts the same.
struct Norm {
  const real *weight, *bias;  // [L + 1, C], [C]
};

// Inverse root mean square of one atom's features; `mean` of degree 0 is taken away first.
static real norm_scale(const Layout &layout, int width, const real *x, real &mean) {
  real square = 0;
  mean = sum_of(width, [&](auto v, int c) { return load<decltype(v)>(x + c); }) / real(width);
  for (int l = 0, row = 0; l <= layout.lmax; ++l) {
    real own = 0;
    for (int end = (l + 1) * (l + 1); row < end; ++row) {
      const real *p = x + size_t(row) * width;
      const real shift = row ? real(0) : mean;
      own += sum_of(width, [&](auto v, int c) {
        const auto value = load<decltype(v)>(p + c) - shift;
        return value * value;
      });
    }
    square += own / real(2 * l + 1);
  }
  square /= real(width) * real(layout.lmax + 1);
  return real(1) / std::sqrt(square + kEpsilon);
}

// Calls put(row) for where each normalized row goes.
template <class Place>
static void norm_forward(const Layout &layout, int width, const Norm &norm, const real *x,
                         Place put) {
  real mean;
  const real scale = norm_scale(layout, width, x, mean);
  for (int l = 0, row = 0; l <= layout.lmax; ++l)
    for (int end = (l + 1) * (l + 1); row < end; ++row) {
      const real *p = x + size_t(row) * width, *w = norm.weight + size_t(l) * width;
      real *out = put(row);
      if (row == 0)
        for (int c = 0; c < width; ++c) out[c] = (p[c] - mean) * scale * w[c] + norm.bias[c];
      else
        for (int c = 0; c < width; ++c) out[c] = p[c] * scale * w[c];
    }
}

// Adds to to_x the gradient that arrives at the normalized rows, given by get(row).
template <class Place>
static void norm_backward(const Layout &layout, int width, const Norm &norm, const real *x, Place get,
                          real *to_x) {
  real mean;
  const real scale = norm_scale(layout, width, x, mean);
  real along = 0;
  for (int l = 0, row = 0; l <= layout.lmax; ++l)
    for (int end = (l + 1) * (l + 1); row < end; ++row) {
      const real *p = x + size_t(row) * width, *w = norm.weight + size_t(l) * width;
      const real *g = get(row);
      const real shift = row ? real(0) : mean;
      along += sum_of(width, [&](auto v, int c) {
        using V = decltype(v);
        return load<V>(g + c) * load<V>(w + c) * (load<V>(p + c) - shift);
      });
    }
  along *= scale * scale * scale / (real(width) * real(layout.lmax + 1));
  for (int l = 0, row = 0; l <= layout.lmax; ++l)
    for (int end = (l + 1) * (l + 1); row < end; ++row) {
      const real *p = x + size_t(row) * width, *w = norm.weight + size_t(l) * width;
      const real *g = get(row);
      real *out = to_x + size_t(row) * width;
      const real share = along / real(2 * l + 1);
      if (row) {
        for (int c = 0; c < width; ++c) out[c] += scale * g[c] * w[c] - share * p[c];
        continue;
      }
      const real sum = sum_of(width, [&](auto v, int c) {
                         using V = decltype(v);
                         return scale * load<V>(g + c) * load<V>(w + c) - share * (load<V>(p + c) - mean);
                       }) / real(width);
      for (int c = 0; c < width; ++c)
        out[c] += scale * g[c] * w[c] - share * (p[c] - mean) - sum;
    }
}

// Rows of a block of atoms by degree: [degree][atom][2 l + 1][width].
struct DegreeRows {
  int atoms, width;
  real *data;

  real *degree(int l) const { return data + size_t(atoms) * l * l * width; }
  real *row(int atom, int l, int column) const {
    return degree(l) + (size_t(atom) * (2 * l + 1) + column) * width;
  }
};

static ADATOM_INLINE int degree_of(int row) {
  int l = 0;
  while ((l + 1) * (l + 1) <= row) ++l;
  return l;
}

// One matrix per degree; the bias belongs to degree 0.
struct DegreeLinear {
  Matrix matrix[kMaxDegree + 1];
  const real *bias;
};

struct FeedForward {
  Norm norm;
  Matrix gates;  // C -> L * H
  const real *gates_bias;
  DegreeLinear first, second;
};

struct FeedForwardSpace {
  std::vector<real> normed, hidden, gates, to_hidden, to_gates;

  FeedForwardSpace(const Sizes &s, int atoms) {
    const size_t rows = size_t(atoms) * (s.lmax + 1) * (s.lmax + 1);
    normed.resize(rows * s.channels);
    hidden.resize(rows * s.hidden);
    to_hidden.resize(rows * s.hidden);
    gates.resize(size_t(atoms) * s.lmax * s.hidden);
    to_gates.resize(gates.size());
  }
};

// Fills normed rows, hidden rows before the activation, and gates before both activations.
static void feed_forward_hidden(const Layout &layout, const Sizes &s, const FeedForward &f,
                                const real *x, int atoms, FeedForwardSpace &space) {
  const int C = s.channels, H = s.hidden, G = s.lmax * H;
  const size_t stride = size_t(layout.node_rows) * C;
  DegreeRows normed{atoms, C, space.normed.data()}, hidden{atoms, H, space.hidden.data()};
  for (int a = 0; a < atoms; ++a)
    norm_forward(layout, C, f.norm, x + a * stride, [&](int row) {
      const int l = degree_of(row);
      return normed.row(a, l, row - l * l);
    });
  for (int a = 0; a < atoms; ++a) {
    std::memcpy(&space.gates[size_t(a) * G], f.gates_bias, sizeof(real) * G);
    std::memcpy(hidden.row(a, 0, 0), f.first.bias, sizeof(real) * H);
  }
  if (G) f.gates.apply<Into::kAdd>(atoms, normed.degree(0), C, space.gates.data(), G);
  f.first.matrix[0].apply<Into::kAdd>(atoms, normed.degree(0), C, hidden.degree(0), H);
  for (int l = 1; l <= s.lmax; ++l)
    f.first.matrix[l].apply(atoms * (2 * l + 1), normed.degree(l), C, hidden.degree(l), H);
}

// Adds the network's output to x [atoms, S, C].
static void feed_forward(const Layout &layout, const Sizes &s, const FeedForward &f, real *x, int atoms,
                         FeedForwardSpace &space) {
  const int C = s.channels, H = s.hidden, G = s.lmax * H;
  feed_forward_hidden(layout, s, f, x, atoms, space);
  DegreeRows hidden{atoms, H, space.hidden.data()}, out{atoms, C, space.normed.data()};
  for (int a = 0; a < atoms; ++a) {
    channels(H, [&](auto v, int c) {
      using V = decltype(v);
      real *p = hidden.row(a, 0, 0) + c;
      const V h = load<V>(p);
      store<V>(p, h * sigmoid(h));
      for (int l = 1; l <= s.lmax; ++l) {
        const V g = load<V>(&space.gates[size_t(a) * G + (l - 1) * H + c]);
        const V gate = sigmoid(g * sigmoid(g));
        for (int k = 0; k < 2 * l + 1; ++k) {
          real *q = hidden.row(a, l, k) + c;
          store<V>(q, load<V>(q) * gate);
        }
      }
    });
    std::memcpy(out.row(a, 0, 0), f.second.bias, sizeof(real) * C);
  }
  f.second.matrix[0].apply<Into::kAdd>(atoms, hidden.degree(0), H, out.degree(0), C);
  for (int l = 1; l <= s.lmax; ++l)
    f.second.matrix[l].apply(atoms * (2 * l + 1), hidden.degree(l), H, out.degree(l), C);
  for (int a = 0; a < atoms; ++a)
    for (int l = 0; l <= s.lmax; ++l)
      for (int k = 0; k < 2 * l + 1; ++k) {
        const real *from = out.row(a, l, k);
        real *to = x + (size_t(a) * layout.node_rows + l * l + k) * C;
        for (int c = 0; c < C; ++c) to[c] += from[c];
      }
}

// The gradient to the network's result (with x itself), to_x [atoms, S, C], becomes that to x.
static void feed_forward_backward(const Layout &layout, const Sizes &s, const FeedForward &f,
                                  const real *x, int atoms, real *to_x, FeedForwardSpace &space) {
  const int C = s.channels, H = s.hidden, G = s.lmax * H;
  const size_t stride = size_t(layout.node_rows) * C;
  feed_forward_hidden(layout, s, f, x, atoms, space);
  // The normed rows are not needed any more: their place takes first the arriving gradient.
  DegreeRows hidden{atoms, H, space.hidden.data()}, rows{atoms, C, space.normed.data()},
      to_hidden{atoms, H, space.to_hidden.data()};
  for (int a = 0; a < atoms; ++a)
    for (int l = 0; l <= s.lmax; ++l)
      std::memcpy(rows.row(a, l, 0), to_x + a * stride + size_t(l) * l * C,
                  sizeof(real) * C * (2 * l + 1));
  for (int l = 0; l <= s.lmax; ++l)
    f.second.matrix[l].apply_transposed(atoms * (2 * l + 1), rows.degree(l), C, to_hidden.degree(l), H);
  for (int a = 0; a < atoms; ++a)
    channels(H, [&](auto v, int c) {
      using V = decltype(v);
      const V h = load<V>(hidden.row(a, 0, 0) + c);
      real *p = to_hidden.row(a, 0, 0) + c;
      store<V>(p, load<V>(p) * silu_slope(h, sigmoid(h)));
      for (int l = 1; l <= s.lmax; ++l) {
        const size_t place = size_t(a) * G + (l - 1) * H + c;
        const V g = load<V>(&space.gates[place]);
        const V once = sigmoid(g), gate = sigmoid(g * once);
        V sum = V{};
        for (int k = 0; k < 2 * l + 1; ++k) {
          real *q = to_hidden.row(a, l, k) + c;
          const V arriving = load<V>(q);
          sum += arriving * load<V>(hidden.row(a, l, k) + c);
          store<V>(q, arriving * gate);
        }
        store<V>(&space.to_gates[place], sum * gate * (real(1) - gate) * silu_slope(g, once));
      }
    });
  for (int l = 0; l <= s.lmax; ++l)
    f.first.matrix[l].apply_transposed(atoms * (2 * l + 1), to_hidden.degree(l), H, rows.degree(l), C);
  if (G) f.gates.apply_transposed<Into::kAdd>(atoms, space.to_gates.data(), G, rows.degree(0), C);
  for (int a = 0; a < atoms; ++a)
    norm_backward(layout, C, f.norm, x + a * stride, [&](int row) {
      const int l = degree_of(row);
      return static_cast<const real *>(rows.row(a, l, row - l * l));
    }, to_x + a * stride);
}
