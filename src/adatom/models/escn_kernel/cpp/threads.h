// A few threads that work through the same phases, and wait for each other between them.
//
// The threads live for one call only: nothing waits or spins between calls, and processes may fork.
#pragma once
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

class Team {
public:
  explicit Team(int size) : size_(size) {}

  int size() const { return size_; }

  // Waits for all threads; the last one to arrive may do something for all first.
  void wait() {
    const int turn = turn_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      arrived_.store(0, std::memory_order_relaxed);
      turn_.store(turn + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; turn_.load(std::memory_order_acquire) == turn; ++spins)
      if (spins > 200) std::this_thread::yield();
  }

  // Calls work(rank) in each thread. Memory for the work is to be had before: a thread that
  // stopped in the middle would leave the others waiting.
  template <class Work> void run(Work work) {
    std::vector<std::thread> others;
    for (int rank = 1; rank < size_; ++rank) others.emplace_back(work, rank);
    work(0);
    for (std::thread &other : others) other.join();
  }

private:
  const int size_;
  std::atomic<int> arrived_{0}, turn_{0};
};
