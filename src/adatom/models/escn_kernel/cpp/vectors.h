// Numbers and vectors of numbers. The compiler turns the vectors into what the processor has.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#ifndef ADATOM_REAL
#define ADATOM_REAL float
#endif

using real = ADATOM_REAL;

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(real));

typedef real vec __attribute__((vector_size(kVectorBytes)));

#define ADATOM_INLINE inline __attribute__((always_inline))

// Any address will do: the copies become unaligned loads and stores.
template <class V> static ADATOM_INLINE V load(const real *p) {
  V value;
  std::memcpy(&value, p, sizeof(V));
  return value;
}

template <class V> static ADATOM_INLINE void store(real *p, V value) {
  std::memcpy(p, &value, sizeof(V));
}

template <class V> static ADATOM_INLINE void add_to(real *p, V value) {
  store<V>(p, load<V>(p) + value);
}

static ADATOM_INLINE real total(real value) { return value; }

static ADATOM_INLINE real total(vec value) {
  real sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += value[i];
  return sum;
}

// Calls body(V{}, c) for all numbers 0..count: V is vec as long as whole vectors fit, then real.
template <class Body> static ADATOM_INLINE void channels(int count, Body body) {
  int c = 0;
  for (; c + kLanes <= count; c += kLanes) body(vec{}, c);
  for (; c < count; ++c) body(real{}, c);
}

// Sum of term(V{}, c) over all numbers 0..count.
template <class Term> static ADATOM_INLINE real sum_of(int count, Term term) {
  vec whole = vec{};
  real rest = 0;
  int c = 0;
  for (; c + kLanes <= count; c += kLanes) whole += term(vec{}, c);
  for (; c < count; ++c) rest += term(real{}, c);
  return total(whole) + rest;
}

static ADATOM_INLINE real exponential(real x) { return std::exp(x); }

// With 8 bytes per number the C library's function is used, number by number.
template <int BYTES> static ADATOM_INLINE vec exponential_of(vec x) {
  if constexpr (BYTES == 4) {
    typedef int32_t ivec __attribute__((vector_size(kLanes * sizeof(int32_t))));
    // Clamped where the result would leave the range of normal numbers.
    const vec low = vec{} - real(87), high = vec{} + real(88);
    x = x < low ? low : x;
    x = x > high ? high : x;
    // x = n log 2 + r with |r| <= log(2) / 2; adding and taking away 1.5 * 2^23 rounds.
    const real shift = real(12582912);
    const vec n = (x * real(1.44269504088896341) + shift) - shift;
    const vec r = x - n * real(0.693145751953125) - n * real(1.42860682030941723e-6);
    vec p = vec{} + real(1.9875691500e-4);
    p = p * r + real(1.3981999507e-3);
    p = p * r + real(8.3334519073e-3);
    p = p * r + real(4.1665795894e-2);
    p = p * r + real(1.6666665459e-1);
    p = p * r + real(5.0000001201e-1);
    p = p * r * r + r + real(1);
    const ivec bits = (__builtin_convertvector(n, ivec) + 127) << 23;
    vec scale;
    std::memcpy(&scale, &bits, sizeof(bits));
    return p * scale;
  } else {
    vec out;
    for (int i = 0; i < kLanes; ++i) out[i] = std::exp(x[i]);
    return out;
  }
}

static ADATOM_INLINE vec exponential(vec x) { return exponential_of<sizeof(real)>(x); }

template <class V> static ADATOM_INLINE V sigmoid(V x) { return real(1) / (real(1) + exponential(-x)); }

// Derivative of x * sigmoid(x), with s = sigmoid(x).
template <class V> static ADATOM_INLINE V silu_slope(V x, V s) {
  return s * (real(1) + x * (real(1) - s));
}
