// What the engine keeps between a forward and its backward pass; the passes are in engine.cpp.
#pragma once
#include <memory>
#include <new>

#include "problem.h"
#include "threads.h"

namespace {

constexpr int kBlockAtoms = 32;
// Work on an atom in units of the work on an edge.
constexpr double kAtomCost = 0.6;

// Memory that is not written to when it is made.
class Buffer {
public:
  void reserve(size_t count) {
    if (count <= size_) return;
    data_.reset();
    data_.reset(new (std::align_val_t(64)) real[count]);
    size_ = count;
  }
  real *get() const { return data_.get(); }
  size_t bytes() const { return size_ * sizeof(real); }

private:
  struct Free {
    void operator()(real *p) const { ::operator delete[](p, std::align_val_t(64)); }
  };
  std::unique_ptr<real[], Free> data_;
  size_t size_ = 0;
};

// The buffers of one thread.
struct Worker {
  TileSpace tile;
  Sums sums;
  FeedForwardSpace feed_forward;
  std::vector<real> rows;  // of one block by degree

  Worker(const EdgeLayout &layout, const Sizes &sizes, int room, real cutoff)
      : tile(layout, sizes, room, cutoff), sums(layout, kBlockAtoms),
        feed_forward(sizes, kBlockAtoms),
        rows(size_t(kBlockAtoms) * layout.nodes.node_rows * sizes.channels) {}
};

Sizes sizes_of(const AdatomProblem &p) {
  return {p.channels, p.hidden, p.edge_channels, p.basis, p.lmax, p.mmax, p.layers, p.types};
}

// Everything between a forward and its backward pass.
class Engine {
public:
  explicit Engine(const AdatomProblem &p)
      : sizes_(sizes_of(p)), layout_(Layout(p.lmax, p.mmax), p.channels, p.hidden) {}

  void forward(const AdatomProblem &p, real *scalars, real *spherical);
  void backward(const AdatomProblem &p, const real *to_scalars, const real *to_spherical,
                real *to_vectors);
  size_t bytes() const {
    return first_.bytes() + middle_.bytes() + current_.bytes() + normed_.bytes() + kept_.bytes() +
           to_normed_.bytes() + seen_.bytes();
  }
  bool failed() const { return failed_; }

private:
  struct Range {
    int64_t first_atom, last_atom, kept_edges, kept_start;
  };
  struct Pass {
    const AdatomProblem &p;
    const Weights &w;
    const RotationTables &tables;
    Team &team;
  };

  Sizes sizes_;
  EdgeLayout layout_;
  Buffer first_, middle_, current_, normed_, kept_, to_normed_, seen_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Range> ranges_;
  size_t kept_rows_ = 0;
  int room_ = 0;
  bool keeps_seen_ = false, failed_ = false;

  size_t row() const { return size_t(layout_.nodes.node_rows) * sizes_.channels; }
  // Features after the messages of layer k. On the way back their place takes, once they are not
  // needed any more, the features before the layer.
  real *middle(const AdatomProblem &p, int k) { return middle_.get() + size_t(k) * p.atoms * row(); }
  real *before_again(const AdatomProblem &p, int k) { return k ? middle(p, k) : first_.get(); }

  void divide(const AdatomProblem &p);
  void make_workers(const AdatomProblem &p);
  void normalize(const Pass &, int k, int rank, const real *x);
  void nodes_backward(const Pass &, int k, int rank, real *to_x);
  void start_features(const Pass &, int rank);
  void start_backward(const Pass &, int rank, const real *to_x, real *to_vectors);
  void layer_forward(const Pass &, int k, int rank);
  void layer_backward(const Pass &, int k, int rank, real *to_x, real *to_vectors);
  void exchange(const AdatomProblem &p, Exchange kind, real *rows, int64_t count);
  void see(const Pass &, int k, int rank, bool backward);
  void balance(const AdatomProblem &p, real *x, bool backward);
  void balance_all(const AdatomProblem &p, real *x, int start, int stop, real wanted);
  template <class Work> void blocks(const AdatomProblem &p, int rank, Work work);
  template <class Work> void tiles(const Pass &, int rank, int64_t first, int64_t last, Work work);
  real *kept(int k, int rank, const AdatomProblem &p, int64_t edge, int count);
  void tile_forward(const Pass &, const LayerWeights &, const Convolution &, Worker &, int64_t edge,
                    int count, real *outputs, bool inputs_only);
  void tile_backward(const Pass &, const LayerWeights &, const Convolution &, Worker &, int64_t edge,
                     int count, const real *outputs, int64_t first_atom, real *to_y,
                     real *to_vectors);
  int64_t target_of(const AdatomProblem &p, int64_t edge, int64_t hint) const {
    while (p.first_edge[hint + 1] <= edge) ++hint;
    return hint;
  }
};

} // namespace
