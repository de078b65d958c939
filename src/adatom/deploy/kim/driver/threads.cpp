#include "threads.hpp"

#include <ATen/Parallel.h>

#include <mutex>

namespace adatom_kim {
namespace {

// Of all evaluations under way: how many, and what the number was before the first one.
std::mutex guard;
int running = 0;
int before_all = 0;

}  // namespace

ThreadScope::ThreadScope(int threads) {
  std::lock_guard<std::mutex> const lock(guard);
  if (running++ == 0) before_all = at::get_num_threads();
  before_ = before_all;
  at::set_num_threads(threads);
}

ThreadScope::~ThreadScope() {
  std::lock_guard<std::mutex> const lock(guard);
  --running;
  // Another evaluation may still run: the number counts for new threads, but each thread that is
  // there keeps its own until it sets it again.
  at::set_num_threads(before_);
}

}  // namespace adatom_kim
