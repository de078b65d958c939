#include "sha256.hpp"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <vector>

#include "failure.hpp"

namespace adatom_kim {
namespace {

using Word = std::uint32_t;
using State = std::array<Word, 8>;
constexpr std::size_t block_bytes = 64;

// The integer part of the cube (square) roots' fractions of the first primes, times 2^32, which
// is how the standard defines its constants; written out so that they can be compared with it.
constexpr std::array<Word, 64> rounds = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
constexpr State initial = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                           0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

void absorb(State& state, unsigned char const* block) {
  std::array<Word, 64> w;
  for (std::size_t t = 0; t < 16; ++t, block += 4)
    w[t] = Word(block[0]) << 24 | Word(block[1]) << 16 | Word(block[2]) << 8 | Word(block[3]);
  for (std::size_t t = 16; t < 64; ++t) {
    Word const s0 = std::rotr(w[t - 15], 7) ^ std::rotr(w[t - 15], 18) ^ (w[t - 15] >> 3);
    Word const s1 = std::rotr(w[t - 2], 17) ^ std::rotr(w[t - 2], 19) ^ (w[t - 2] >> 10);
    w[t] = w[t - 16] + s0 + w[t - 7] + s1;
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (std::size_t t = 0; t < 64; ++t) {
    Word const big1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
    Word const choice = (e & f) ^ (~e & g);
    Word const first = h + big1 + choice + rounds[t] + w[t];
    Word const big0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
    Word const majority = (a & b) ^ (a & c) ^ (b & c);
    h = g, g = f, f = e, e = d + first;
    d = c, c = b, b = a, a = first + big0 + majority;
  }
  State const added = {a, b, c, d, e, f, g, h};
  for (std::size_t i = 0; i < 8; ++i) state[i] += added[i];
}

// The last block or two: a one bit, zeros, and the length in bits.
void finish(State& state, unsigned char const* rest, std::size_t count, std::uint64_t total) {
  std::array<unsigned char, 2 * block_bytes> padded{};
  std::memcpy(padded.data(), rest, count);
  padded[count] = 0x80;
  std::size_t const blocks = count + 9 > block_bytes ? 2 : 1;
  for (std::size_t i = 0; i < 8; ++i)
    padded[blocks * block_bytes - 1 - i] = static_cast<unsigned char>((total * 8) >> (8 * i));
  for (std::size_t i = 0; i < blocks; ++i) absorb(state, padded.data() + i * block_bytes);
}

}  // namespace

std::string sha256_of_file(std::string const& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Failure("The file '" + path + "' cannot be read.");
  State state = initial;
  std::vector<unsigned char> buffer(block_bytes << 14);
  std::uint64_t total = 0;
  std::size_t count = 0;
  do {
    file.read(reinterpret_cast<char*>(buffer.data()), static_cast<std::streamsize>(buffer.size()));
    count = static_cast<std::size_t>(file.gcount());
    total += count;
    std::size_t const whole = count / block_bytes * block_bytes;
    for (std::size_t at = 0; at < whole; at += block_bytes) absorb(state, buffer.data() + at);
    if (count < buffer.size()) finish(state, buffer.data() + whole, count - whole, total);
  } while (count == buffer.size());
  std::string digits;
  for (Word word : state)
    for (int shift = 28; shift >= 0; shift -= 4) digits += "0123456789abcdef"[(word >> shift) & 15];
  return digits;
}

}  // namespace adatom_kim
