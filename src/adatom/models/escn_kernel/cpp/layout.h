// Degrees l <= L, orders |m| <= M, and where their numbers stand.
#pragma once
#include <algorithm>
#include <vector>

#include "vectors.h"

constexpr int kMaxDegree = 8;
constexpr int kMaxNodeRows = (kMaxDegree + 1) * (kMaxDegree + 1);

// The block of degree l of an edge's rotation has the rows m = -half..half and 2l + 1 columns.
struct Layout {
  int lmax, mmax;
  int node_rows;                   // S, l-major
  int entries;                     // of all blocks
  int block_start[kMaxDegree + 1];  // first entry of each degree
  int half[kMaxDegree + 1];

  Layout(int lmax_, int mmax_) : lmax(lmax_), mmax(mmax_), node_rows((lmax + 1) * (lmax + 1)) {
    entries = 0;
    for (int l = 0; l <= lmax; ++l) {
      half[l] = std::min(l, mmax);
      block_start[l] = entries;
      entries += (2 * half[l] + 1) * (2 * l + 1);
    }
  }
  int degrees(int m) const { return lmax + 1 - m; }
  int entry(int l, int m, int column) const {
    return block_start[l] + (m + half[l]) * (2 * l + 1) + column;
  }
};

// The sizes of a network.
struct Sizes {
  int channels, hidden, edge_channels, basis, lmax, mmax, layers, types;
};
