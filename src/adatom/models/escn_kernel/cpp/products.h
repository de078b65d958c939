// Products of rows with packed matrices.
//
// A matrix [k, n] is packed into panels of kPanel columns, the last one filled with zeros:
// [panel][k][kPanel]. The inner kernel keeps kRows rows times one panel in registers.
#pragma once
#include <algorithm>

#include "vectors.h"

#if defined(__AVX512F__)
constexpr int kRows = 12, kVectors = 2;
#else
constexpr int kRows = 6, kVectors = 2;
#endif
constexpr int kPanel = kLanes * kVectors;

enum class Into { kReplace, kAdd };

template <int ROWS, Into INTO>
static ADATOM_INLINE void block(const real *__restrict x, int64_t x_stride,
                                const real *__restrict panel, int k, real *__restrict y,
                                int64_t y_stride, int columns) {
  vec sum[ROWS][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < kVectors; ++v) sum[r][v] = vec{};
  for (int i = 0; i < k; ++i, panel += kPanel) {
    vec b[kVectors];
    for (int v = 0; v < kVectors; ++v) b[v] = load<vec>(panel + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      const real a = x[r * x_stride + i];
      for (int v = 0; v < kVectors; ++v) sum[r][v] += a * b[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) {
    real *out = y + r * y_stride;
    if (columns == kPanel) {
      for (int v = 0; v < kVectors; ++v) {
        real *place = out + v * kLanes;
        store<vec>(place, INTO == Into::kAdd ? load<vec>(place) + sum[r][v] : sum[r][v]);
      }
    } else {
      real row[kPanel];
      for (int v = 0; v < kVectors; ++v) store<vec>(row + v * kLanes, sum[r][v]);
      for (int c = 0; c < columns; ++c) out[c] = (INTO == Into::kAdd ? out[c] : real(0)) + row[c];
    }
  }
}

// The last rows, fewer than kRows.
template <int ROWS, Into INTO>
static void last_block(int rows, const real *x, int64_t x_stride, const real *panel, int k, real *y,
                       int64_t y_stride, int columns) {
  if constexpr (ROWS > 0) {
    if (rows == ROWS)
      block<ROWS, INTO>(x, x_stride, panel, k, y, y_stride, columns);
    else
      last_block<ROWS - 1, INTO>(rows, x, x_stride, panel, k, y, y_stride, columns);
  }
}

// y [rows, n] = x [rows, k] times the packed matrix [k, n], or is added to.
template <Into INTO>
static void product(int rows, const real *x, int64_t x_stride, const real *packed, int k, int n,
                    real *y, int64_t y_stride) {
  for (int c = 0; c < n; c += kPanel) {
    const real *panel = packed + static_cast<int64_t>(c) * k;
    const int columns = std::min(kPanel, n - c);
    int r = 0;
    for (; r + kRows <= rows; r += kRows)
      block<kRows, INTO>(x + r * x_stride, x_stride, panel, k, y + r * y_stride + c, y_stride,
                         columns);
    last_block<kRows - 1, INTO>(rows - r, x + r * x_stride, x_stride, panel, k,
                                y + r * y_stride + c, y_stride, columns);
  }
}

// A matrix [k, n] and its transpose, both packed.
struct Matrix {
  int k = 0, n = 0;
  const real *forward = nullptr, *transposed = nullptr;

  template <Into INTO = Into::kReplace>
  void apply(int rows, const real *x, int64_t x_stride, real *y, int64_t y_stride) const {
    product<INTO>(rows, x, x_stride, forward, k, n, y, y_stride);
  }
  template <Into INTO = Into::kReplace>
  void apply_transposed(int rows, const real *y, int64_t y_stride, real *x, int64_t x_stride) const {
    product<INTO>(rows, y, y_stride, transposed, n, k, x, x_stride);
  }
};
