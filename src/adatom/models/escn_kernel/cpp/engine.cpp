// The eSCN-MD backbone with frozen weights: node features from edge vectors, and the way back.
//
// Edges are sorted by target. Each thread has a range of atoms and all edges into them, and goes
// through them in blocks of atoms and tiles of edges. What is kept between the passes are the first
// features of the atoms, those after the messages of each layer and, within a budget, the outputs of
// the maps; everything else on edges exists for one tile at a time.
#include "engine.h"

namespace {

// Gives each thread a range of atoms with about the same work.
void Engine::divide(const AdatomProblem &p) {
  const double all = double(p.edges) + kAtomCost * double(p.atoms);
  ranges_.clear();
  int64_t atom = 0;
  for (int rank = 0; rank < p.threads; ++rank) {
    const int64_t first = atom;
    const double goal = all * (rank + 1) / p.threads;
    while (atom < p.atoms &&
           (rank + 1 == p.threads ||
            double(p.first_edge[atom] + p.first_edge[atom + 1]) / 2 + kAtomCost * (double(atom) + 0.5) < goal))
      ++atom;
    ranges_.push_back({first, atom, 0, 0});
  }
  const double wanted = double(p.layers) * double(p.edges) * layout_.outputs * sizeof(real);
  const double share = wanted > 0 ? std::min(1.0, double(p.kept_bytes) / wanted) : 1.0;
  int64_t start = 0;
  for (Range &range : ranges_) {
    const int64_t edges = p.first_edge[range.last_atom] - p.first_edge[range.first_atom];
    range.kept_edges = int64_t(share * double(edges));
    range.kept_start = start;
    start += range.kept_edges;
  }
  kept_rows_ = size_t(start);
}

void Engine::make_workers(const AdatomProblem &p) {
  if (room_ != p.room) workers_.clear();
  room_ = p.room;
  while (int(workers_.size()) < p.threads)
    workers_.push_back(std::make_unique<Worker>(layout_, sizes_, p.room, real(p.cutoff)));
}

// Where the outputs of a tile's maps are kept, or null if they are not.
real *Engine::kept(int k, int rank, const AdatomProblem &p, int64_t edge, int count) {
  const Range &range = ranges_[rank];
  const int64_t place = edge - p.first_edge[range.first_atom];
  if (place + count > range.kept_edges) return nullptr;
  return kept_.get() + (size_t(k) * kept_rows_ + range.kept_start + place) * layout_.outputs;
}

// Calls work(first atom, number) for blocks of atoms that share their weights.
template <class Work> void Engine::blocks(const AdatomProblem &p, int rank, Work work) {
  const Range &range = ranges_[rank];
  for (int64_t first = range.first_atom; first < range.last_atom;) {
    int64_t last = first + 1;
    while (last < range.last_atom && last - first < kBlockAtoms && p.group[last] == p.group[first])
      ++last;
    work(first, int(last - first));
    first = last;
  }
}

// Calls work(first edge, number) for tiles of about equal size, with frames and envelopes made.
template <class Work>
void Engine::tiles(const Pass &c, int rank, int64_t first, int64_t last, Work work) {
  const AdatomProblem &p = c.p;
  TileSpace &t = workers_[rank]->tile;
  const int64_t number = (last - first + p.room - 1) / p.room;
  for (int64_t k = 0; k < number; ++k) {
    const int64_t edge = first + (last - first) * k / number;
    const int count = int(first + (last - first) * (k + 1) / number - edge);
    make_rotations(c.tables, t.frames, static_cast<const real *>(p.vectors) + 3 * edge, count);
    for (int e = 0; e < count; ++e) {
      const Envelope u = envelope_at(t.frames.distance[e], real(p.cutoff));
      t.envelope[e] = u.value;
      t.slope[e] = u.slope;
    }
    t.radial.fill_basis(t.frames.distance.data(), count);
    work(edge, count);
  }
}

// Degree 0 from elements and system, and messages from the neighbors' distances.
void Engine::start_features(const Pass &c, int rank) {
  const AdatomProblem &p = c.p;
  const Range &range = ranges_[rank];
  const int C = sizes_.channels, S = layout_.nodes.node_rows;
  TileSpace &t = workers_[rank]->tile;
  real *x = first_.get();
  for (int64_t a = range.first_atom; a < range.last_atom; ++a) {
    std::fill_n(x + a * row(), row(), real(0));
    std::memcpy(x + a * row(), static_cast<const real *>(p.invariants) + a * C, sizeof(real) * C);
  }
  int64_t atom = range.first_atom;
  tiles(c, rank, p.first_edge[range.first_atom], p.first_edge[range.last_atom],
        [&](int64_t edge, int count) {
          radial_forward(c.w.degree, t.radial, p.pairs + edge, t.frames.distance.data(), count,
                         t.weights.data());
          for (int e = 0; e < count; ++e) {
            atom = target_of(p, edge + e, atom);
            const real *d = &t.frames.by_edge[size_t(e) * layout_.nodes.entries];
            const real scale = t.envelope[e] / real(p.degree_rescale);
            for (int s = 0; s < S; ++s) {
              const int l = degree_of(s);
              const real factor = scale * d[layout_.nodes.entry(l, 0, s - l * l)];
              const real *message = &t.weights[size_t(t.radial.row[e]) * c.w.degree.outputs + size_t(l) * C];
              real *to = x + atom * row() + size_t(s) * C;
              for (int k = 0; k < C; ++k) to[k] += factor * message[k];
            }
          }
        });
}

void Engine::start_backward(const Pass &c, int rank, const real *to_x, real *to_vectors) {
  const AdatomProblem &p = c.p;
  const Range &range = ranges_[rank];
  const int C = sizes_.channels, S = layout_.nodes.node_rows, out = c.w.degree.outputs;
  TileSpace &t = workers_[rank]->tile;
  int64_t atom = range.first_atom;
  tiles(c, rank, p.first_edge[range.first_atom], p.first_edge[range.last_atom],
        [&](int64_t edge, int count) {
          radial_forward(c.w.degree, t.radial, p.pairs + edge, t.frames.distance.data(), count,
                         t.weights.data());
          std::fill(t.to_entries.begin(), t.to_entries.end(), real(0));
          for (int e = 0; e < count; ++e) {
            atom = target_of(p, edge + e, atom);
            const real *d = &t.frames.by_edge[size_t(e) * layout_.nodes.entries];
            real *to_d = &t.to_entries[size_t(e) * layout_.nodes.entries];
            real *message = &t.weights[size_t(t.radial.row[e]) * out];
            const real inverse = real(1) / real(p.degree_rescale);
            real to_envelope = 0;
            for (int l = 0; l <= sizes_.lmax; ++l) {
              std::vector<real> &sum = t.gated;  // the gradient to this degree's messages
              sum.assign(std::max<size_t>(sum.size(), C), real(0));
              for (int s = l * l; s < (l + 1) * (l + 1); ++s) {
                const int place = layout_.nodes.entry(l, 0, s - l * l);
                const real *g = to_x + atom * row() + size_t(s) * C;
                const real *own = message + size_t(l) * C;
                const real along = sum_of(C, [&](auto v, int k) {
                  using V = decltype(v);
                  return load<V>(g + k) * load<V>(own + k);
                });
                for (int k = 0; k < C; ++k) sum[k] += d[place] * g[k];
                to_d[place] += t.envelope[e] * inverse * along;
                to_envelope += d[place] * inverse * along;
              }
              for (int k = 0; k < C; ++k)
                message[size_t(l) * C + k] = t.envelope[e] * inverse * sum[k];
            }
            t.to_distance[e] = to_envelope * t.slope[e];
          }
          (void)S;
          radial_backward(c.w.degree, t.radial, p.pairs + edge, count, t.weights.data(),
                          t.to_distance.data());
          rotations_backward(c.tables, t.frames, t.to_entries.data(), t.to_distance.data(), count,
                             to_vectors + 3 * edge);
        });
}

// What the edges of layer k see of the atoms with features x.
void Engine::normalize(const Pass &c, int k, int rank, const real *x) {
  const AdatomProblem &p = c.p;
  const int C = sizes_.channels;
  for (int64_t a = ranges_[rank].first_atom; a < ranges_[rank].last_atom; ++a) {
    real *y = normed_.get() + a * row();
    norm_forward(layout_.nodes, C, c.w.layers[k].norm_1, x + a * row(),
                 [&](int s) { return y + size_t(s) * C; });
    const real *own = static_cast<const real *>(p.embeddings) + size_t(p.system[a]) * C;
    for (int i = 0; i < C; ++i) y[i] += own[i];
  }
}

// Exchanges with the others. After a failure nothing is exchanged any more: the results are of no
// use, but threads must not wait for one that stopped.
void Engine::exchange(const AdatomProblem &p, Exchange kind, real *rows, int64_t count) {
  if (!failed_) failed_ = p.exchange(kind, rows, count) != 0;
}

// Completes what the edges of layer k see by the rows of others. All threads come here after
// normalize(); those rows are kept for the way back if anything is.
void Engine::see(const Pass &c, int k, int rank, bool backward) {
  const AdatomProblem &p = c.p;
  c.team.wait();
  if (!p.exchange) return;
  if (rank == 0) {
    real *others = normed_.get() + p.atoms * row(), *kept = seen_.get() + size_t(k) * p.halo * row();
    const size_t bytes = sizeof(real) * p.halo * row();
    if (backward && keeps_seen_) {
      if (bytes) std::memcpy(others, kept, bytes);
    } else {
      exchange(p, kFill, normed_.get(), (p.atoms + p.halo) * int64_t(row()));
      if (keeps_seen_ && bytes) std::memcpy(kept, others, bytes);
    }
  }
  c.team.wait();
}

// Radial weights and, unless the outputs are known, weighted inputs and mapped outputs of a tile.
void Engine::tile_forward(const Pass &c, const LayerWeights &layer, const Convolution &conv, Worker &w,
                          int64_t edge, int count, real *outputs, bool inputs_only) {
  const AdatomProblem &p = c.p;
  TileSpace &t = w.tile;
  radial_forward(layer.radial, t.radial, p.pairs + edge, t.frames.distance.data(), count,
                         t.weights.data());
  if (inputs_only) return;
  int64_t atom = std::upper_bound(p.first_edge, p.first_edge + p.atoms + 1, edge) - p.first_edge - 1;
  for (int e = 0; e < count; ++e) {
    atom = target_of(p, edge + e, atom);
    const real *d = &t.frames.by_edge[size_t(e) * layout_.nodes.entries];
    const real *weights = &t.weights[size_t(t.radial.row[e]) * layout_.weights];
    real *inputs = &t.inputs[size_t(e) * layout_.inputs];
    rotate_and_weight(layout_, d, normed_.get() + p.source[edge + e] * row(), 0, weights, inputs);
    rotate_and_weight(layout_, d, normed_.get() + atom * row(), 1, weights, inputs);
  }
  map_forward(layout_, conv, layer.first_bias, count, t.inputs.data(), t.added.data(), outputs);
}

void Engine::layer_forward(const Pass &c, int k, int rank) {
  const AdatomProblem &p = c.p;
  const LayerWeights &layer = c.w.layers[k];
  Worker &w = *workers_[rank];
  const int C = sizes_.channels, S = layout_.nodes.node_rows;
  blocks(p, rank, [&](int64_t first, int atoms) {
    const Convolution &conv = layer.groups[p.group[first]];
    w.sums.begin(atoms);
    int64_t atom = first;
    tiles(c, rank, p.first_edge[first], p.first_edge[first + atoms], [&](int64_t edge, int count) {
      real *own = kept(k, rank, p, edge, count);
      real *outputs = own ? own : w.tile.outputs.data();
      tile_forward(c, layer, conv, w, edge, count, outputs, false);
      for (int e = 0; e < count; ++e) {
        atom = target_of(p, edge + e, atom);
        real *rows[kMaxNodeRows];
        w.sums.rows_of(int(atom - first), rows);
        gate_forward(layout_, outputs + size_t(e) * layout_.outputs, w.tile.gated.data());
        sum_forward(layout_, &w.tile.frames.by_edge[size_t(e) * layout_.nodes.entries],
                    w.tile.envelope[e], w.tile.gated.data(), rows,
                    &w.sums.invariant[size_t(atom - first) * S]);
      }
    });
    DegreeRows messages{atoms, C, w.rows.data()};
    for (int l = 0; l <= sizes_.lmax; ++l)
      conv.second[l].apply(atoms * (2 * l + 1), w.sums.degree(l), layout_.sum_width(l),
                           messages.degree(l), C);
    real *x = middle(p, k) + first * row(), *next = current_.get() + first * row();
    const real *old = (k ? current_.get() : first_.get()) + first * row();
    for (int a = 0; a < atoms; ++a)
      for (int s = 0; s < S; ++s) {
        const int l = degree_of(s);
        const real share = w.sums.invariant[size_t(a) * S + s];
        const real *from = messages.row(a, l, s - l * l), *bias = layer.second_bias + size_t(l) * C;
        const size_t place = a * row() + size_t(s) * C;
        for (int i = 0; i < C; ++i) x[place + i] = old[place + i] + from[i] + share * bias[i];
      }
    std::memcpy(next, x, sizeof(real) * atoms * row());
    feed_forward(layout_.nodes, sizes_, layer.feed_forward, next, atoms, w.feed_forward);
  });
}

void Engine::tile_backward(const Pass &c, const LayerWeights &layer, const Convolution &conv, Worker &w,
                           int64_t edge, int count, const real *outputs, int64_t first_atom,
                           real *to_y, real *to_vectors) {
  const AdatomProblem &p = c.p;
  const int S = layout_.nodes.node_rows, E = layout_.nodes.entries;
  TileSpace &t = w.tile;
  std::fill(t.to_entries.begin(), t.to_entries.end(), real(0));
  const int64_t start = std::upper_bound(p.first_edge, p.first_edge + p.atoms + 1, edge) - p.first_edge - 1;
  int64_t atom = start;
  for (int e = 0; e < count; ++e) {
    atom = target_of(p, edge + e, atom);
    real *rows[kMaxNodeRows];
    w.sums.rows_of(int(atom - first_atom), rows);
    const real *own = outputs + size_t(e) * layout_.outputs;
    gate_forward(layout_, own, t.gated.data());
    const real to_envelope =
        sum_backward(layout_, &t.frames.by_edge[size_t(e) * E], t.envelope[e], t.gated.data(), rows,
                     &w.sums.invariant[size_t(atom - first_atom) * S], t.to_gated.data(),
                     &t.to_entries[size_t(e) * E]);
    t.to_distance[e] = to_envelope * t.slope[e];
    gate_backward(layout_, own, t.gated.data(), t.to_gated.data(),
                  &t.to_outputs[size_t(e) * layout_.outputs]);
  }
  map_backward(layout_, conv, count, t.to_outputs.data(), t.added.data(), t.inputs.data());
  atom = start;
  for (int e = 0; e < count; ++e) {
    atom = target_of(p, edge + e, atom);
    const real *d = &t.frames.by_edge[size_t(e) * E], *to_inputs = &t.inputs[size_t(e) * layout_.inputs];
    real *weights = &t.weights[size_t(t.radial.row[e]) * layout_.weights], *to_d = &t.to_entries[size_t(e) * E];
    const int64_t source = p.source[edge + e];
    rotate_and_weight_backward(layout_, d, normed_.get() + source * row(), 0, weights, to_inputs,
                               to_y + source * row(), to_d);
    rotate_and_weight_backward(layout_, d, normed_.get() + atom * row(), 1, weights, to_inputs,
                               to_y + atom * row(), to_d);
  }
  radial_backward(layer.radial, t.radial, p.pairs + edge, count, t.weights.data(),
                  t.to_distance.data());
  rotations_backward(c.tables, t.frames, t.to_entries.data(), t.to_distance.data(), count,
                     to_vectors + 3 * edge);
}

// to_x, the gradient to the features after layer k, becomes that to the features after its messages,
// and the features before the layer are computed again.
void Engine::nodes_backward(const Pass &c, int k, int rank, real *to_x) {
  const AdatomProblem &p = c.p;
  Worker &w = *workers_[rank];
  blocks(p, rank, [&](int64_t first, int atoms) {
    const size_t place = first * row();
    feed_forward_backward(layout_.nodes, sizes_, c.w.layers[k].feed_forward, middle(p, k) + place, atoms,
                          to_x + place, w.feed_forward);
    if (k == 0) return;
    real *x = before_again(p, k) + place;
    std::memcpy(x, middle(p, k - 1) + place, sizeof(real) * atoms * row());
    feed_forward(layout_.nodes, sizes_, c.w.layers[k - 1].feed_forward, x, atoms, w.feed_forward);
  });
  c.team.wait();
  if (rank == 0 && k > 0) balance(p, before_again(p, k), false);
  c.team.wait();
}

// to_x, the gradient to the features after layer k, becomes that to the features before it.
void Engine::layer_backward(const Pass &c, int k, int rank, real *to_x, real *to_vectors) {
  const AdatomProblem &p = c.p;
  const LayerWeights &layer = c.w.layers[k];
  Worker &w = *workers_[rank];
  const int C = sizes_.channels, S = layout_.nodes.node_rows;
  const size_t rows = p.atoms + p.halo;
  real *own_to_y = to_normed_.get() + rank * rows * row();
  nodes_backward(c, k, rank, to_x);
  normalize(c, k, rank, before_again(p, k));
  std::fill_n(own_to_y, rows * row(), real(0));
  see(c, k, rank, true);
  blocks(p, rank, [&](int64_t first, int atoms) {
    const Convolution &conv = layer.groups[p.group[first]];
    const real *gradient = to_x + first * row();
    DegreeRows arriving{atoms, C, w.rows.data()};
    w.sums.atoms = atoms;
    for (int a = 0; a < atoms; ++a)
      for (int s = 0; s < S; ++s) {
        const int l = degree_of(s);
        const real *from = gradient + a * row() + size_t(s) * C, *bias = layer.second_bias + size_t(l) * C;
        std::memcpy(arriving.row(a, l, s - l * l), from, sizeof(real) * C);
        w.sums.invariant[size_t(a) * S + s] = sum_of(C, [&](auto v, int i) {
          using V = decltype(v);
          return load<V>(from + i) * load<V>(bias + i);
        });
      }
    for (int l = 0; l <= sizes_.lmax; ++l)
      conv.second[l].apply_transposed(atoms * (2 * l + 1), arriving.degree(l), C, w.sums.degree(l),
                                      layout_.sum_width(l));
    tiles(c, rank, p.first_edge[first], p.first_edge[first + atoms], [&](int64_t edge, int count) {
      const real *own = kept(k, rank, p, edge, count);
      tile_forward(c, layer, conv, w, edge, count, w.tile.outputs.data(), own != nullptr);
      tile_backward(c, layer, conv, w, edge, count, own ? own : w.tile.outputs.data(), first,
                    own_to_y, to_vectors);
    });
  });
  c.team.wait();
  const auto add_threads = [&](int64_t a) {
    real *sum = to_normed_.get() + a * row();
    for (int other = 1; other < p.threads; ++other) {
      const real *more = sum + other * rows * row();
      for (size_t i = 0; i < row(); ++i) sum[i] += more[i];
    }
  };
  for (int64_t a = ranges_[rank].first_atom; a < ranges_[rank].last_atom; ++a) add_threads(a);
  if (p.exchange) {
    for (int64_t h = p.halo * rank / p.threads; h < p.halo * (rank + 1) / p.threads; ++h)
      add_threads(p.atoms + h);
    c.team.wait();
    if (rank == 0) exchange(p, kReturn, to_normed_.get(), rows * int64_t(row()));
    c.team.wait();
  }
  for (int64_t a = ranges_[rank].first_atom; a < ranges_[rank].last_atom; ++a) {
    const real *sum = to_normed_.get() + a * row();
    norm_backward(layout_.nodes, C, layer.norm_1, before_again(p, k) + a * row(),
                  [&](int s) { return sum + size_t(s) * C; }, to_x + a * row());
  }
  c.team.wait();
}

// The same for one system that others have parts of.
void Engine::balance_all(const AdatomProblem &p, real *x, int start, int stop, real wanted) {
  std::vector<real> sums(stop - start, real(0));
  for (int64_t a = 0; a < p.atoms; ++a)
    for (int i = start; i < stop; ++i) sums[i - start] += x[a * row() + i];
  exchange(p, kTotal, sums.data(), stop - start);
  for (int64_t a = 0; a < p.atoms; ++a)
    for (int i = start; i < stop; ++i) x[a * row() + i] -= (sums[i - start] - wanted) / real(p.all_atoms);
}

// Shifts some channels of degree 0 so that they sum to a given total in each system.
void Engine::balance(const AdatomProblem &p, real *x, bool backward) {
  const struct {
    int start, stop;
    const real *totals;
    real offset;
  } kinds[] = {{p.charge_start, p.charge_stop, static_cast<const real *>(p.charge), 0},
               {p.spin_start, p.spin_stop, static_cast<const real *>(p.spin), 1}};
  for (int turn = 0; turn < 2; ++turn) {
    const auto &kind = kinds[backward ? 1 - turn : turn];
    if (p.exchange) {
      const real wanted = backward ? real(0) : kind.totals[0] - kind.offset;
      if (kind.start < kind.stop) balance_all(p, x, kind.start, kind.stop, wanted);
      continue;
    }
    for (int64_t first = 0; first < p.atoms && kind.start < kind.stop;) {
      int64_t last = first;
      while (last < p.atoms && p.system[last] == p.system[first]) ++last;
      for (int channel = kind.start; channel < kind.stop; ++channel) {
        real sum = backward ? real(0) : kind.offset - kind.totals[p.system[first]];
        for (int64_t a = first; a < last; ++a) sum += x[a * row() + channel];
        sum /= real(last - first);
        for (int64_t a = first; a < last; ++a) x[a * row() + channel] -= sum;
      }
      first = last;
    }
  }
}

void Engine::forward(const AdatomProblem &p, real *scalars, real *spherical) {
  const Weights weights = Reader(p).read();
  const RotationTables tables(layout_.nodes, weights.coupling, weights.scales, weights.generators);
  Team team(p.threads);
  const Pass c{p, weights, tables, team};
  divide(p);
  make_workers(p);
  first_.reserve(p.atoms * row());
  middle_.reserve(size_t(p.layers) * p.atoms * row());
  current_.reserve(p.atoms * row());
  normed_.reserve((p.atoms + p.halo) * row());
  keeps_seen_ = p.exchange && p.kept_bytes > 0;
  failed_ = false;
  if (keeps_seen_) seen_.reserve(size_t(p.layers) * p.halo * row());
  kept_.reserve(size_t(p.layers) * kept_rows_ * layout_.outputs);
  team.run([&](int rank) {
    start_features(c, rank);
    for (int k = 0; k < p.layers; ++k) {
      normalize(c, k, rank, k ? current_.get() : first_.get());
      see(c, k, rank, false);
      layer_forward(c, k, rank);
      team.wait();
      if (rank == 0) balance(p, current_.get(), false);
      team.wait();
    }
    const int C = sizes_.channels;
    for (int64_t a = ranges_[rank].first_atom; a < ranges_[rank].last_atom; ++a) {
      real *out = spherical + a * row();
      norm_forward(layout_.nodes, C, weights.norm, current_.get() + a * row(),
                   [&](int s) { return out + size_t(s) * C; });
      std::memcpy(scalars + a * C, out, sizeof(real) * C);
    }
  });
}

void Engine::backward(const AdatomProblem &p, const real *to_scalars, const real *to_spherical,
                      real *to_vectors) {
  const Weights weights = Reader(p).read();
  const RotationTables tables(layout_.nodes, weights.coupling, weights.scales, weights.generators);
  Team team(p.threads);
  const Pass c{p, weights, tables, team};
  to_normed_.reserve(size_t(p.threads) * (p.atoms + p.halo) * row());
  team.run([&](int rank) {
    const int C = sizes_.channels;
    // The last features are needed here only; their place takes the gradient.
    real *to_x = current_.get();
    std::vector<real> arriving(row()), result(row());
    for (int64_t a = ranges_[rank].first_atom; a < ranges_[rank].last_atom; ++a) {
      std::fill(result.begin(), result.end(), real(0));
      std::fill(arriving.begin(), arriving.end(), real(0));
      if (to_spherical) std::memcpy(arriving.data(), to_spherical + a * row(), sizeof(real) * row());
      for (int i = 0; to_scalars && i < C; ++i) arriving[i] += to_scalars[a * C + i];
      norm_backward(layout_.nodes, C, weights.norm, to_x + a * row(),
                    [&](int s) { return static_cast<const real *>(&arriving[size_t(s) * C]); },
                    result.data());
      std::memcpy(to_x + a * row(), result.data(), sizeof(real) * row());
    }
    for (int k = p.layers - 1; k >= 0; --k) {
      team.wait();
      if (rank == 0) balance(p, to_x, true);
      team.wait();
      layer_backward(c, k, rank, to_x, to_vectors);
    }
    start_backward(c, rank, to_x, to_vectors);
  });
}

template <class Work> int guarded(Work work) {
  try {
    work();
    return 0;
  } catch (const std::bad_alloc &) {
    return 1;
  } catch (...) {
    return 2;
  }
}

} // namespace

extern "C" {

int32_t adatom_panel() { return kPanel; }

int32_t adatom_max_degree() { return kMaxDegree; }

void *adatom_engine_new(const AdatomProblem *p) {
  Engine *engine = nullptr;
  guarded([&] { engine = new Engine(*p); });
  return engine;
}

void adatom_engine_free(void *engine) { delete static_cast<Engine *>(engine); }

int64_t adatom_engine_bytes(const void *engine) {
  return int64_t(static_cast<const Engine *>(engine)->bytes());
}

int32_t adatom_forward(void *engine, const AdatomProblem *p, void *scalars, void *spherical) {
  Engine &e = *static_cast<Engine *>(engine);
  const int32_t status = guarded(
      [&] { e.forward(*p, static_cast<real *>(scalars), static_cast<real *>(spherical)); });
  return status ? status : e.failed() ? 3 : 0;
}

int32_t adatom_backward(void *engine, const AdatomProblem *p, const void *to_scalars,
                        const void *to_spherical, void *to_vectors) {
  Engine &e = *static_cast<Engine *>(engine);
  const int32_t status = guarded([&] {
    e.backward(*p, static_cast<const real *>(to_scalars), static_cast<const real *>(to_spherical),
               static_cast<real *>(to_vectors));
  });
  return status ? status : e.failed() ? 3 : 0;
}
}
