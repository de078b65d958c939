// Rotation of spherical coefficients into the frames of edges, as in nn/wigner.py.
//
// Entries are stored [entry][edge] while they are made and differentiated, so that loops over the
// edges of a tile become vector instructions.
#pragma once
#include "layout.h"

// One nonzero number of a table.
struct Term {
  int a, b, c;
  real value;
};

struct RotationTables {
  Layout layout;
  std::vector<Term> coupling[kMaxDegree + 1];      // (row of l - 1, axis, column)
  const real *polar_scale[kMaxDegree + 1] = {};    // [2 l - 1]
  real edge_scale[kMaxDegree + 1] = {};
  std::vector<Term> generators[kMaxDegree + 1];    // (k, k', axis)

  // coupling of each l >= 2: [(2 l - 1), 3, 2 l + 1]; scales of each l >= 2: [2 l - 1] and one
  // more; generators: [S, S, 3].
  RotationTables(const Layout &layout_, const real *const *coupling_of, const real *const *scales_of,
                 const real *all_generators)
      : layout(layout_) {
    const int size = layout.node_rows;
    for (int l = 2; l <= layout.lmax; ++l) {
      const real *value = coupling_of[l - 2];
      for (int a = 0; a < 2 * l - 1; ++a)
        for (int b = 0; b < 3; ++b)
          for (int c = 0; c < 2 * l + 1; ++c, ++value)
            if (std::abs(*value) > real(1e-6)) coupling[l].push_back({a, b, c, *value});
      polar_scale[l] = scales_of[l - 2];
      edge_scale[l] = scales_of[l - 2][2 * l - 1];
    }
    for (int l = 1; l <= layout.lmax; ++l)
      for (int a = 0; a < 2 * l + 1; ++a)
        for (int b = 0; b < 2 * l + 1; ++b)
          for (int axis = 0; axis < 3; ++axis) {
            const int64_t place = static_cast<int64_t>(l * l + a) * size + l * l + b;
            const real value = all_generators[place * 3 + axis];
            if (std::abs(value) > real(1e-6)) generators[l].push_back({a, b, axis, value});
          }
  }
};

// Directions, distances and rotations of the edges of one tile, at most `room` of them.
struct Frames {
  int room;
  std::vector<real> direction, distance, axes, entries;
  std::vector<real> by_edge;  // the same entries as [edge][entry]

  Frames(const Layout &layout, int room_)
      : room(room_), direction(3 * room_), distance(room_), axes(9 * room_),
        entries(static_cast<size_t>(layout.entries) * room_), by_edge(entries.size()) {}
};

constexpr real kChartLimit = real(-0.64);  // as in nn/wigner.py

static void make_axes(Frames &f, const real *vectors, int count) {
  const int room = f.room;
  real *u = f.direction.data(), *r = f.axes.data();
  for (int e = 0; e < count; ++e) {
    const real *v = vectors + 3 * e;
    const real d = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
    f.distance[e] = d;
    for (int a = 0; a < 3; ++a) u[a * room + e] = v[a] / d;
  }
  for (int e = 0; e < count; ++e) {
    const real x = u[e], y = u[room + e], z = u[2 * room + e];
    const real side = y >= kChartLimit ? real(1) : real(-1);
    const real a = real(1) / (real(1) + side * y);
    const real rows[9] = {1 - a * x * x,  -side * x, -a * x * z, x, y, z,
                          -side * a * x * z, -z,     side * (1 - a * z * z)};
    for (int k = 0; k < 9; ++k) r[k * room + e] = rows[k];
  }
}

// Rows |m| <= min(l, mmax) of degree l from those of degree l - 1.
static void next_degree(const RotationTables &t, Frames &f, int l, int count) {
  const Layout &layout = t.layout;
  const int room = f.room, width = 2 * l + 1, before = 2 * l - 1;
  const int inner = layout.half[l - 1];
  const real *previous = f.entries.data() + static_cast<size_t>(layout.block_start[l - 1]) * room;
  const real *axes = f.axes.data();
  auto row_of = [&](int m) { return &f.entries[static_cast<size_t>(layout.entry(l, m, 0)) * room]; };
  std::fill_n(row_of(-layout.half[l]), static_cast<size_t>(2 * layout.half[l] + 1) * width * room,
              real(0));
  for (int m = -inner; m <= inner; ++m) {
    const real scale = t.polar_scale[l][m + l - 1];
    const real *from = previous + static_cast<size_t>(m + inner) * before * room;
    for (const Term &term : t.coupling[l]) {
      const real factor = scale * term.value;
      const real *p = from + term.a * room, *y = axes + (3 + term.b) * room;
      real *out = row_of(m) + term.c * room;
      for (int e = 0; e < count; ++e) out[e] += factor * p[e] * y[e];
    }
  }
  if (l > layout.mmax) return;
  const real *negative = previous;
  const real *positive = previous + static_cast<size_t>(2 * inner) * before * room;
  for (const Term &term : t.coupling[l]) {
    const real factor = t.edge_scale[l] * term.value;
    const real *p = positive + term.a * room, *q = negative + term.a * room;
    const real *x = axes + term.b * room, *z = axes + (6 + term.b) * room;
    real *low = row_of(-l) + term.c * room, *high = row_of(l) + term.c * room;
    for (int e = 0; e < count; ++e) {
      low[e] += factor * (p[e] * x[e] + q[e] * z[e]);
      high[e] += factor * (p[e] * z[e] - q[e] * x[e]);
    }
  }
}

static void make_rotations(const RotationTables &t, Frames &f, const real *vectors, int count) {
  const Layout &layout = t.layout;
  const int room = f.room;
  make_axes(f, vectors, count);
  std::fill_n(f.entries.data(), count, real(1));
  if (layout.lmax >= 1) {
    const int kept = layout.half[1];
    std::memcpy(&f.entries[static_cast<size_t>(layout.block_start[1]) * room],
                &f.axes[static_cast<size_t>(3 * (1 - kept)) * room],
                sizeof(real) * 3 * (2 * kept + 1) * room);
  }
  for (int l = 2; l <= layout.lmax; ++l) next_degree(t, f, l, count);
  for (int k = 0; k < layout.entries; ++k)
    for (int e = 0; e < count; ++e)
      f.by_edge[static_cast<size_t>(e) * layout.entries + k] = f.entries[static_cast<size_t>(k) * room + e];
}

// Adds dE/dv of each edge, from dE/d(entries) [edge][entry] and dE/d(distance) [edge].
static void rotations_backward(const RotationTables &t, const Frames &f, const real *to_entries,
                               const real *to_distance, int count, real *to_vectors) {
  const Layout &layout = t.layout;
  for (int e = 0; e < count; ++e) {
    const real *d = &f.by_edge[static_cast<size_t>(e) * layout.entries];
    const real *g = to_entries + static_cast<size_t>(e) * layout.entries;
    real torque[3] = {0, 0, 0};
    for (int l = 1; l <= layout.lmax; ++l) {
      const int width = 2 * l + 1, rows = 2 * layout.half[l] + 1;
      const real *dl = d + layout.block_start[l], *gl = g + layout.block_start[l];
      for (const Term &term : t.generators[l]) {
        real inner = 0;
        for (int r = 0; r < rows; ++r) inner += dl[r * width + term.a] * gl[r * width + term.b];
        torque[term.c] -= inner * term.value;
      }
    }
    const real x = f.direction[e], y = f.direction[f.room + e], z = f.direction[2 * f.room + e];
    const real side = y >= kChartLimit ? real(1) : real(-1);
    const real a = side / (real(1) + side * y);
    const real along = torque[0] * x + torque[1] * y + torque[2] * z;
    const real du[3] = {torque[1] * z - torque[2] * y - along * a * z, torque[2] * x - torque[0] * z,
                        torque[0] * y - torque[1] * x + along * a * x};
    const real radial = du[0] * x + du[1] * y + du[2] * z;
    const real u[3] = {x, y, z};
    for (int k = 0; k < 3; ++k)
      to_vectors[3 * e + k] += (du[k] - radial * u[k]) / f.distance[e] + to_distance[e] * u[k];
  }
}
